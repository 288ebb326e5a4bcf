// One optimisation step: every worker runs forward and backward on its part of the batch with products of its
// own, then gradients are summed in worker order and the parameters updated.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "qtf/model/transformer.h"
#include "qtf/train/gradient_sums.h"
#include "qtf/train/optimizer.h"

namespace qtf::train {

/// A step's sequences and switches.
struct StepInput {
  model::TokenBatch batch;     ///< with several ranks: this rank's part of the step's batch,
  int64_t first_sequence = 0;  ///< which begins at this sequence,
  int64_t all_sequences = 0;   ///< of so many; 0: the batch is whole
  double learning_rate = 1e-3;
  double dropout = 0;
  uint64_t dropout_key = 0;
  std::vector<int> distilled_levels;
  const model::RankScheduler* scheduler = nullptr;  ///< a policy that the model learns under, beside these
  bool in_turns = false;                            ///< the levels share the sequences (model::StepOptions)
  model::Teacher<float> teacher;

  /// Of the whole batch, all ranks' parts.
  int64_t sequences() const { return all_sequences ? all_sequences : batch.sequences; }
};

/// The sandwich of nested training beside the largest level: the smallest level and, where there are more
/// than two, one random level between, which learn from the largest. The same for a seed and step; empty for
/// a model without levels.
std::vector<int> sandwich_levels(const model::ModelConfig& config, uint64_t seed, int64_t step);

/// What a step measured of the whole batch: the same on every rank.
struct StepResult {
  double nats_per_token = 0;  ///< of the text; of the teacher's divergence where its weight is 1
  double gradient_norm = 0;
  double routed_share = 0;  ///< of the step's tokens, with a quantum layer
};

/// Tokens that a worker passes at once: as fast as more (measured at widths 128 and 256), in less memory.
constexpr int64_t kMicroRows = 512;

/// Owns the workers' buffers. The same inputs give the same bits at the same number of threads and ranks.
class Stepper {
 public:
  /// micro_rows: most tokens that a worker passes at once; bounds the activations' memory. ranks: with whom
  /// each step is done, null for none; they begin with the same parameters.
  Stepper(model::Transformer<float>& model, const AdamWOptions& options, ThreadPool& pool,
          int64_t micro_rows = kMicroRows, Ranks* ranks = nullptr);

  /// Gradients of the mean loss over the batch's tokens, then one AdamW update.
  StepResult step(const StepInput& input);

  /// Only the gradients (summed into gradients()), no update. Returns nats per token.
  double compute_gradients(const StepInput& input);

  std::span<const float> gradients() const;
  /// Entropies of the last step's tokens, where it had a scheduler.
  const model::RankSamples& rank_samples() const { return step_rank_samples_; }
  AdamW& optimizer() { return optimizer_; }
  /// Of the model's guides while it has some, with moments, clipping and bias correction of their own.
  AdamW& guide_optimizer();
  int64_t steps_done() const { return steps_; }
  void set_steps_done(int64_t steps) { steps_ = steps; }

 private:
  double worker_pass(int worker, const StepInput& input);
  void reduce_gradients();
  std::vector<Range> gradient_runs() const;
  void collect_samples();
  /// Moves the router to this step's scores; returns the share of tokens that were routed.
  double calibrate_router();

  model::Transformer<float>& model_;
  ThreadPool& pool_;
  AdamWOptions options_;
  AdamW optimizer_;
  std::optional<AdamW> guide_optimizer_;
  int64_t micro_rows_;
  int64_t steps_ = 0;
  std::vector<AlignedVector<float>> gradients_;
  std::vector<Arena> arenas_;
  std::vector<double> nats_;
  std::vector<model::RouterSamples> router_samples_;  // a worker each
  std::vector<model::RankSamples> rank_samples_;
  model::RouterSamples step_router_samples_;  // of the whole batch
  model::RankSamples step_rank_samples_;
  Ranks* ranks_;
  std::optional<GradientSums> sums_;
};

/// Floating-point operations of one step's products and attention: 6 a multiply-accumulate of the products
/// and of the causal half of attention, per token. level: of a model with levels, 0: the largest.
double training_flops(const model::ModelConfig& config, int64_t tokens, int64_t length, int level = 0);

/// FLOP/s of all the pool's workers at once (kernels/fma_peak.h), measured for about `seconds`: what shares
/// of peak are told of.
double measure_pool_peak(ThreadPool& pool, double seconds);

}  // namespace qtf::train
