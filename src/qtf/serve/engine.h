// The one owner of a model that is served: a thread that reads prompts and writes tokens for all callers at
// once. Every answer has the bits of the same request alone, whoever shares its batch.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "qtf/adapt/energy.h"
#include "qtf/base/thread_pool.h"
#include "qtf/model/budget_keeper.h"
#include "qtf/model/continuation.h"
#include "qtf/model/model_folder.h"
#include "qtf/model/rank_scheduler.h"

namespace qtf::serve {

/// A token and its natural logarithm of probability, at temperature 1, before any truncation.
struct TokenProbability {
  int32_t token = 0;
  float logprob = 0;
};

/// What the model decided while it read a token.
struct Trace : model::TokenTrace {
  int64_t begin = 0;  ///< token of the text, prompt included, at which the sequence begins
  double ms = 0;      ///< of the pass that wrote the token
};

/// One token written.
struct Written {
  int32_t token = 0;
  std::string text;  ///< what can be shown now; may be empty, or of several tokens
  float logprob = 0;
  std::vector<TokenProbability> top;  ///< the most likely ones, if asked for
  Trace trace;                        ///< of the token read before it
};

enum class Ending { stop, length, cancelled, shutdown, error };

/// How a job ended.
struct Finished {
  Ending ending = Ending::length;
  std::string text;   ///< what was held back until now
  std::string error;  ///< with Ending::error
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;                      ///< of the prompt, found in the prefix cache
  int64_t tokens = 0;                             ///< written
  double first_token_ms = 0;                      ///< from submit() on
  double ms = 0;                                  ///< from submit() to the end
  std::optional<adapt::Energy> energy;            ///< its share; none where it could not be measured
  std::optional<int64_t> mean_rank;               ///< of a text with budgets: at its end, in 1e-9
  std::vector<adapt::LatencyDecision> decisions;  ///< that drove it there
};

/// Called on the engine's thread: must return at once and not throw.
struct Listener {
  std::function<void(std::span<const TokenProbability> prompt)> on_prompt;  ///< only if logprobs are echoed
  std::function<void(Written&&)> on_token;
  std::function<void(Finished&&)> on_end;  ///< once, last
};

/// One text to be written.
struct Job {
  std::vector<int32_t> prompt;  ///< as model::check_prompt takes it
  model::ContinuationOptions options;
  int level = 0;
  std::shared_ptr<const model::RankScheduler> scheduler;  ///< null: `level` for all maps
  model::TextBudgets budgets;
  std::shared_ptr<model::RankScheduler> driven;  ///< with budgets: `scheduler`, which no other job shares
  bool logprobs = false;                         ///< Written::logprob is computed
  int64_t top = 0;                               ///< how many of the most likely tokens are told
  bool echo = false;  ///< on_prompt gets every prompt token's logprob (0 for the first)
  std::string scope;  ///< whose prefix cache: callers with other keys see nothing of each other
  Listener listener;
};

/// Lets its holder cancel a job; dropping it does nothing.
using Ticket = std::shared_ptr<std::atomic<bool>>;

struct EngineOptions {
  int64_t most_active = 64;     ///< sequences in one batch
  int64_t most_waiting = 256;   ///< jobs that wait for a place in it
  int64_t prompt_tokens = 256;  ///< of prompts, read between two decoded tokens of the others
  int64_t prefix_cache_bytes = int64_t{64} << 20;
  std::string meter = "auto";
};

/// Counts since the start, and what is there now.
struct EngineState {
  int64_t active = 0, waiting = 0;
  int64_t jobs = 0, refused = 0, cancelled = 0;
  int64_t prompt_tokens = 0, cached_tokens = 0, tokens = 0, routed_tokens = 0, passes = 0;
  double busy_seconds = 0, joules = 0;
  std::string energy_tier;  ///< empty: no meter could be opened
};

class Engine {
 public:
  /// Prepares the model for inference. Throws what that throws.
  Engine(model::LoadedModel loaded, int threads, const EngineOptions& options = {});
  /// Ends every job (Ending::shutdown) and waits for the thread.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const model::Transformer<float>& model() const;
  const text::Tokenizer& tokenizer() const;
  int64_t bytes() const;  ///< of the weights' files

  /// All of them or, where more than most_waiting would wait, or after drain(), none: no tickets. Throws
  /// InputError for a prompt or options that do not fit.
  std::vector<Ticket> submit(std::vector<Job> jobs);

  /// Takes no more jobs and waits until all have ended, at most `seconds`; false if some had not.
  bool drain(double seconds);

  EngineState state() const;

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace qtf::serve
