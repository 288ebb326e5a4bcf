// The training loop: steps, validation, best weights, checkpoints, metrics, early stop.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "qtf/base/profile.h"
#include "qtf/text/tokenizer.h"
#include "qtf/train/checkpoint.h"
#include "qtf/train/evaluate.h"
#include "qtf/train/step.h"

namespace qtf::train {

/// One of steps, epochs and minutes must be given.
struct TrainOptions {
  int64_t steps = 0;
  double epochs = 0;
  double minutes = 0;  ///< wall clock; not bit-identical on resume
  int64_t batch = 32;  ///< sequences an update, over all ranks
  int64_t micro_batch =
      0;  ///< sequences at once in a worker; 0: what fits 512 tokens. More: gradients add up
  double learning_rate = 2e-3;
  double warmup = 0.05;       ///< share of the run
  double final_share = 0.05;  ///< of the learning rate at the end
  AdamWOptions adamw;
  double dropout = 0;
  double ema = 0;         ///< decay of averaged weights, which are then validated and saved; 0: off
  bool nested = false;    ///< sandwich training of the model's levels
  int64_t mean_rank = 0;  ///< with levels: also learn under the policy of this mean rank, in 1e-9; 0: off
  bool in_turns = false;  ///< its smaller levels share the sequences, else each learns from all
  double guided = 0;      ///< share of the run with guides beside tensor trains (model/guides.h); 0: off
  int64_t validate_every = 0;         ///< steps; 0: about 20 times in the run
  int64_t validation_tokens = 32768;  ///< at each validation; the last one reads all
  int64_t patience = 0;               ///< validations without a new best before the run ends early; 0: never
  double checkpoint_seconds = 30;
  int64_t checkpoint_steps = 0;  ///< 0: by seconds only
  uint64_t seed = 1;
};

/// What a run goes on from in its metrics.jsonl: another run's lines, steps and seconds.
struct RunBefore {
  int64_t steps = 0;
  double seconds = 0;
  std::vector<nlohmann::ordered_json> metrics;
};

/// Everything a run needs.
struct TrainJob {
  model::Transformer<float>* model = nullptr;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  model::Teacher<float> teacher;  ///< distillation; its model has the same vocabulary; it must be prepared
  TokenRange train, valid;
  text::TextCounts valid_counts;
  std::filesystem::path out;  ///< the model folder; config.json and tokenizer are there already
  std::string name;           ///< for reports
  nlohmann::json identity;    ///< of texts and settings: what a resumed run must share
  TrainOptions options;
  /// With options.guided: what the guides begin as, in make_guide_layout's order; empty: random.
  AlignedVector<float> guides;
  Ranks* ranks = nullptr;  ///< with whom it is trained; null: alone. All but rank 0 only read `out`
  RunBefore before;        ///< its steps and seconds are counted in metrics.jsonl only
  bool resume = false;
  bool progress = true;  ///< a bar on stderr
  bool profile = false;  ///< measure where the time of the steps and validations goes
};

struct TrainSummary {
  RunState progress;
  Evaluation valid;  ///< of the best weights on the whole validation text
  double seconds = 0;
  double tokens_per_second = 0;    ///< of the steps, validation left out
  std::optional<int> interrupted;  ///< by this signal
  bool ranks_lost = false;         ///< it ended because other ranks did; the checkpoint holds `progress`
  std::optional<ProfileReport> profile;
  double fma_peak = 0;  ///< FLOP/s of all workers
};

/// Throws InputError for options out of range or that contradict each other.
void validate(const TrainOptions& options);

/// Throws InputError unless the teacher, if there is one, can teach a model of this configuration.
void validate(const model::Teacher<float>& teacher, const model::ModelConfig& pupil);

/// All that can be said of a job before it writes anything: options, and whether they and the teacher fit the
/// model. Throws InputError.
void validate(const TrainJob& job);

/// Runs or resumes a job. The best weights by validation stand in out/model.safetensors, metrics in
/// out/metrics.jsonl; the model holds them too on return. stop: polled every step, a signal's number ends the
/// run with a checkpoint. Throws InputError if the loss is no longer finite (the last checkpoint stays
/// usable), if the teacher does not fit the model, or if ranks disagree on what to train.
TrainSummary train(TrainJob& job, ThreadPool& pool, const std::atomic<int>* stop = nullptr);

}  // namespace qtf::train
