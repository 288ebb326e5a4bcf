#include "qtf/model/generate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "qtf/base/error.h"
#include "qtf/model/inference.h"
#include "qtf/text/utf8.h"

namespace qtf::model {

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Replaces what is no UTF-8 by U+FFFD: one for bytes that only began a character.
std::string valid_utf8(std::string_view text) {
  std::string out;
  for (;;) {
    const size_t bad = std::min(text::find_invalid_utf8(text), text.size());
    out += text.substr(0, bad);
    text.remove_prefix(bad);
    if (text.empty()) return out;
    size_t broken = 1;
    while (broken < text.size() && text::complete_utf8_prefix(text.substr(0, broken + 1)) == 0) ++broken;
    out += "\xEF\xBF\xBD";
    text.remove_prefix(broken);
  }
}

/// Length of the longest end of `text` that begins `stop` without being all of it.
size_t overlap(std::string_view text, std::string_view stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n) {
    if (text.ends_with(stop.substr(0, n))) return n;
  }
  return 0;
}

}  // namespace

std::string TextStream::push(std::string_view bytes) {
  if (stopped_) return {};
  held_ += bytes;
  size_t safe = held_.size();
  for (const std::string& stop : stop_) {
    const size_t found = held_.find(stop);
    if (found != std::string::npos) {
      safe = std::min(safe, found);
      stopped_ = true;
    }
  }
  if (!stopped_) {
    for (const std::string& stop : stop_) safe = std::min(safe, held_.size() - overlap(held_, stop));
    safe = std::min(safe, text::complete_utf8_prefix(std::string_view(held_).substr(0, safe)));
  }
  const std::string shown = valid_utf8(std::string_view(held_).substr(0, safe));
  held_.erase(0, stopped_ ? std::string::npos : safe);
  return shown;
}

std::string TextStream::finish() {
  return valid_utf8(std::exchange(held_, {}));
}

namespace {

/// The model's state while it writes: tokens so far and their cache.
class Writer {
 public:
  Writer(const Transformer<float>& model, const Levels& levels, ThreadPool& pool)
      : model_(model),
        inference_(model, pool),
        levels_(levels),
        cache_(model.make_cache(model.config().context)),
        hidden_(static_cast<size_t>(model.config().context * model.config().width)),
        logits_(static_cast<size_t>(model.config().vocabulary)) {
    if (levels.scheduler) ranks = RankMix(*levels.scheduler, model.config().layers);
  }

  /// Logits after `tokens` more.
  std::span<const float> extend(std::span<const int32_t> tokens) {
    const auto& config = model_.config();
    const Chunk<float> chunk{tokens, &cache_};
    const auto rows = static_cast<int64_t>(tokens.size());
    const Matrix<float> hidden(hidden_.data(), rows, config.width);
    inference_.forward({&chunk, 1}, levels_, hidden);
    inference_.logits(hidden.row_block(rows - 1, 1), levels_.level, {logits_.data(), 1, config.vocabulary});
    return logits_;
  }

  bool full() const { return cache_.length() == model_.config().context; }
  void forget() {
    count();
    cache_.truncate(0);
  }

  /// Adds the cache's tokens to those that were read, routed and scheduled.
  void count() {
    passed += cache_.length();
    routed += cache_.routed_before(cache_.length());
    if (levels_.scheduler) ranks.add(*levels_.scheduler, cache_);
    if (before_forgetting) before_forgetting(cache_);
  }
  int64_t passed = 0, routed = 0;
  RankMix ranks;
  std::function<void(const nn::KvCache<float>&)> before_forgetting;

 private:
  const Transformer<float>& model_;
  Inference<float> inference_;
  Levels levels_;
  nn::KvCache<float> cache_;
  std::vector<float> hidden_, logits_;
};

/// Since the meter was started; none where that is shorter than it resolves.
std::optional<adapt::Energy> energy_so_far(adapt::EnergyMeter& meter) {
  try {
    return meter.stop();
  } catch (const InputError&) {
    return {};
  }
}

/// Measures decoded tokens and drives a scheduler's mean rank by what they take.
class BudgetKeeper {
 public:
  /// The meter, if there is one, runs.
  BudgetKeeper(RankScheduler* scheduler, const GenerateOptions& options)
      : scheduler_(scheduler), options_(options), asked_(scheduler ? scheduler->mean() : 0) {}

  void add(double seconds) {
    if (options_.token_budget_ns == 0 && options_.energy_budget_nj == 0) return;
    times_.push_back(std::llround(1e9 * seconds));
    ++tokens_;
    if (static_cast<int64_t>(times_.size()) < adapt::kLatencyTokens) return;
    const int64_t mean = scheduler_->mean();
    int64_t least = asked_;
    for (const adapt::LatencyDecision& decision : {by_time(), by_energy()}) {
      if (decision.question.budget == 0) continue;
      least = std::min(least, decision.mean);
      if (decision.mean != mean || decision.too_slow) decisions.push_back(decision);
    }
    times_.clear();
    if (least != mean) scheduler_->set_mean(least);
  }

  std::vector<adapt::LatencyDecision> decisions;

 private:
  adapt::LatencyDecision decide(adapt::RunBudget of, int64_t measured, int64_t budget) const {
    return adapt::decide_mean({of, tokens_, measured, budget, scheduler_->mean(), asked_});
  }

  adapt::LatencyDecision by_time() {
    if (options_.token_budget_ns == 0) return {};
    std::nth_element(times_.begin(), times_.begin() + adapt::kLatencyTokens / 2, times_.end());
    return decide(adapt::RunBudget::time, times_[adapt::kLatencyTokens / 2], options_.token_budget_ns);
  }

  /// Counters that did not move in these tokens are read after the next ones.
  adapt::LatencyDecision by_energy() {
    if (options_.energy_budget_nj == 0) return {};
    const std::optional<adapt::Energy> energy = energy_so_far(*options_.meter);
    if (!energy) return {};
    const auto used = static_cast<int64_t>(1e9 * energy->joules);
    const int64_t took = used - used_, tokens = tokens_ - measured_tokens_;
    const int64_t still = options_.tokens - 1 - tokens_;
    if (still <= 0 || took <= 0) return {};
    const bool first = used_ == 0;  // the prompt is in it
    used_ = used, measured_tokens_ = tokens_;
    if (first) return {};
    return decide(adapt::RunBudget::energy, took / tokens,
                  std::max<int64_t>(1, (options_.energy_budget_nj - used) / still));
  }

  RankScheduler* scheduler_;
  const GenerateOptions& options_;
  int64_t asked_, tokens_ = 0;
  std::vector<int64_t> times_;
  int64_t used_ = 0, measured_tokens_ = 0;
};

std::vector<int32_t> encode_prompt(const Transformer<float>& model, const text::Tokenizer& tokenizer,
                                   std::string_view prompt) {
  if (tokenizer.vocabulary_size() > model.config().vocabulary) {
    throw_input_error("generate",
                      "the tokenizer has {} tokens, the model {}: it is not this model's tokenizer",
                      tokenizer.vocabulary_size(), model.config().vocabulary);
  }
  std::vector<int32_t> tokens;
  if (model.config().bos_token >= 0) tokens.push_back(model.config().bos_token);
  tokenizer.encode(prompt, tokens);
  if (tokens.empty()) {
    throw_input_error("generate",
                      "the prompt is empty, and this model has no start token; give --prompt some text");
  }
  if (static_cast<int64_t>(tokens.size()) > model.config().context) {
    throw_input_error("generate", "the prompt has {} tokens, the model's context is {}; shorten it",
                      tokens.size(), model.config().context);
  }
  return tokens;
}

void check_options(const Transformer<float>& model, const GenerateOptions& options) {
  validate(options.sampling);
  if (options.tokens < 0) throw_input_error("generate", "tokens must be 0 or more, got {}", options.tokens);
  if (options.token_budget_ns < 0 || (options.token_budget_ns > 0 && !options.scheduler))
    throw_input_error("generate", "a time a token needs a rank policy, whose mean rank it may lower");
  if (options.energy_budget_nj < 0 || (options.energy_budget_nj > 0 && !(options.scheduler && options.meter)))
    throw_input_error("generate", "an energy needs a meter, and a rank policy, whose mean rank it may lower");
  const int levels = level_count(model.config());
  if (options.level < 0 || options.level > levels) {
    throw_input_error("generate", "level must be 0 (the largest) to {} for this model, got {}", levels,
                      options.level);
  }
  for (const std::string& stop : options.stop) {
    if (stop.empty()) throw_input_error("generate", "a stop text must not be empty");
  }
}

}  // namespace

Generation generate(const Transformer<float>& model, const text::Tokenizer& tokenizer,
                    std::string_view prompt, const GenerateOptions& options,
                    const std::function<void(std::string_view)>& stream, ThreadPool* pool) {
  check_options(model, options);
  std::vector<int32_t> history = encode_prompt(model, tokenizer, prompt);
  Generation result;
  result.prompt_tokens = static_cast<int64_t>(history.size());
  TextStream text(options.stop);
  const auto show = [&](const std::string& piece) {
    result.text += piece;
    if (stream && !piece.empty()) stream(piece);
  };

  std::optional<ThreadPool> own;
  // A copy, whose mean rank may change on the way.
  std::optional<RankScheduler> scheduler;
  if (options.scheduler) scheduler = *options.scheduler;
  BudgetKeeper budgets(scheduler ? &*scheduler : nullptr, options);
  Writer writer(model, {options.level, scheduler ? &*scheduler : nullptr}, pool ? *pool : own.emplace(1));
  writer.before_forgetting = options.before_forgetting;
  if (options.meter) options.meter->start();
  auto start = std::chrono::steady_clock::now();
  std::span<const float> logits = writer.extend(history);
  result.prompt_seconds = seconds_since(start);
  start = std::chrono::steady_clock::now();
  // A vocabulary may be padded beyond the tokenizer's ids; those have no text and are never drawn.
  const auto known = static_cast<size_t>(tokenizer.vocabulary_size());
  while (static_cast<int64_t>(result.tokens.size()) < options.tokens && !result.stopped) {
    const int32_t token = sample(logits.first(known), history, options.sampling);
    if (token == model.config().eos_token) {
      result.stopped = true;
      break;
    }
    history.push_back(token);
    result.tokens.push_back(token);
    // At a text's beginning an imported tokenizer leaves out the space that it put before the first word.
    const bool at_start = prompt.empty() && result.tokens.size() == 1;
    show(text.push(at_start ? tokenizer.decode(result.tokens) : tokenizer.token_bytes(token)));
    result.stopped = text.stopped();
    if (static_cast<int64_t>(result.tokens.size()) == options.tokens || result.stopped) break;
    if (writer.full()) {
      writer.forget();
      const auto half = static_cast<size_t>(std::max<int64_t>(1, model.config().context / 2));
      logits = writer.extend(std::span(history).last(half));
    } else {
      const auto begin = std::chrono::steady_clock::now();
      logits = writer.extend({&history.back(), 1});
      budgets.add(seconds_since(begin));
    }
  }
  show(text.finish());
  result.decode_seconds = seconds_since(start);
  if (options.meter) result.energy = energy_so_far(*options.meter);
  writer.count();
  result.passed = writer.passed, result.routed = writer.routed;
  result.ranks = writer.ranks;
  result.latency = std::move(budgets.decisions);
  return result;
}

}  // namespace qtf::model
