// Text generation with a KV cache, streamed as whole UTF-8 characters.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/adapt/energy.h"
#include "qtf/adapt/latency.h"
#include "qtf/base/thread_pool.h"
#include "qtf/model/rank_mix.h"
#include "qtf/model/sampler.h"
#include "qtf/model/transformer.h"
#include "qtf/text/tokenizer.h"

namespace qtf::model {

struct GenerateOptions {
  int64_t tokens = 128;  ///< most tokens to generate
  SamplingOptions sampling;
  std::vector<std::string> stop;  ///< generation ends before the first of these texts
  int level = 0;
  const RankScheduler* scheduler = nullptr;  ///< what picks the levels after attention, if not `level`
  /// Time a decoded token may take, in nanoseconds: the scheduler's mean rank falls where the measured time
  /// is over it, so that the text then depends on the machine. 0: no budget.
  int64_t token_budget_ns = 0;
  /// Energy of the whole run, prompt and all tokens that it may write, in nanojoules: the mean rank falls
  /// where the last tokens took more than what is left for each of the others. Needs `meter`. 0: no budget.
  int64_t energy_budget_nj = 0;
  adapt::EnergyMeter* meter = nullptr;  ///< measures the run; null: its energy is not asked for
  /// Gets the cache at the end, and before its tokens are forgotten: with every token's levels and route.
  std::function<void(const nn::KvCache<float>&)> before_forgetting;
};

struct Generation {
  std::string text;  ///< without the prompt, without the stop text
  std::vector<int32_t> tokens;
  int64_t prompt_tokens = 0;
  double prompt_seconds = 0;
  double decode_seconds = 0;  ///< of tokens.size() tokens
  bool stopped = false;       ///< by a stop text or the end-of-text token
  int64_t passed = 0;         ///< tokens that the model read, again where older ones were forgotten
  int64_t routed = 0;         ///< of those, through the quantum layer
  RankMix ranks;              ///< levels of those tokens, with a scheduler
  std::vector<adapt::LatencyDecision> latency;  ///< each change of the mean rank, and each token too slow
  std::optional<adapt::Energy> energy;          ///< of prompt and tokens, with a meter that resolves them
};

/// Continues `prompt`. `stream` gets the text in pieces that are whole UTF-8 characters, as soon as no stop
/// text can begin in them. When the context is full, generation goes on with its last half (older tokens are
/// forgotten). The same model, prompt, options and seed give the same tokens, on any number of threads:
/// `pool`'s, or the calling one alone if null. Throws InputError for a prompt longer than the context (saying
/// both lengths), bad options or a tokenizer that is not the model's.
Generation generate(const Transformer<float>& model, const text::Tokenizer& tokenizer,
                    std::string_view prompt, const GenerateOptions& options,
                    const std::function<void(std::string_view)>& stream = {}, ThreadPool* pool = nullptr);

/// Holds back what is not yet sure to be shown: an unfinished UTF-8 character, or the beginning of a stop
/// text.
class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stop) : stop_(std::move(stop)) {}

  /// Takes more bytes; returns what can be shown now.
  std::string push(std::string_view bytes);
  /// What was held back, at the end; bytes that are no UTF-8 become U+FFFD.
  std::string finish();
  /// A stop text was met; push() returns nothing more.
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stop_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace qtf::model
