#include "qtf/model/generate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "qtf/base/error.h"
#include "qtf/model/continuation.h"
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

/// Reads what a continuation has not read yet.
class Reader {
 public:
  Reader(const Transformer<float>& model, const Levels& levels, ThreadPool& pool)
      : config_(model.config()),
        inference_(model, pool),
        levels_(levels),
        hidden_(static_cast<size_t>(config_.context * config_.width)),
        logits_(static_cast<size_t>(config_.vocabulary)) {}

  /// Logits after the last token.
  std::span<const float> read(Continuation& text) {
    const Chunk<float> chunk{text.unread(), &text.cache()};
    const auto rows = static_cast<int64_t>(chunk.tokens.size());
    const Matrix<float> hidden(hidden_.data(), rows, config_.width);
    inference_.forward({&chunk, 1}, levels_, hidden);
    inference_.logits(hidden.row_block(rows - 1, 1), levels_.level, {logits_.data(), 1, config_.vocabulary});
    return logits_;
  }

 private:
  const ModelConfig& config_;
  Inference<float> inference_;
  Levels levels_;
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
  std::vector<int32_t> tokens;
  if (model.config().bos_token >= 0) tokens.push_back(model.config().bos_token);
  tokenizer.encode(prompt, tokens);
  if (tokens.empty()) {
    throw_input_error("generate",
                      "the prompt is empty, and this model has no start token; give --prompt some text");
  }
  check_prompt(model, tokenizer, tokens, "generate");
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
  std::vector<int32_t> tokens = encode_prompt(model, tokenizer, prompt);
  Generation result;
  result.prompt_tokens = static_cast<int64_t>(tokens.size());
  const auto show = [&](const std::string& piece) {
    result.text += piece;
    if (stream && !piece.empty()) stream(piece);
  };

  std::optional<ThreadPool> own;
  // A copy, whose mean rank may change on the way.
  std::optional<RankScheduler> scheduler;
  if (options.scheduler) scheduler = *options.scheduler;
  if (scheduler) result.ranks = RankMix(*scheduler, model.config().layers);
  const auto count = [&](const nn::KvCache<float>& cache) {
    result.passed += cache.length();
    result.routed += cache.routed_before(cache.length());
    if (scheduler) result.ranks.add(*scheduler, cache);
    if (options.before_forgetting) options.before_forgetting(cache);
  };
  BudgetKeeper budgets(scheduler ? &*scheduler : nullptr, options);
  Continuation text(model, tokenizer, std::move(tokens),
                    {options.tokens, options.sampling, options.stop, count});
  Reader reader(model, {options.level, scheduler ? &*scheduler : nullptr}, pool ? *pool : own.emplace(1));
  if (options.meter) options.meter->start();
  auto start = std::chrono::steady_clock::now();
  std::span<const float> logits = reader.read(text);
  result.prompt_seconds = seconds_since(start);
  start = std::chrono::steady_clock::now();
  while (!text.finished()) {
    show(text.draw(logits).text);
    if (text.finished()) break;
    const bool goes_on = text.cache().length() > 0;  // else it begins again with the last half
    const auto begin = std::chrono::steady_clock::now();
    logits = reader.read(text);
    if (goes_on) budgets.add(seconds_since(begin));
  }
  show(text.finish());
  result.decode_seconds = seconds_since(start);
  if (options.meter) result.energy = energy_so_far(*options.meter);
  count(text.cache());
  result.tokens.assign(text.drawn().begin(), text.drawn().end());
  result.stopped = text.stopped();
  result.latency = std::move(budgets.decisions);
  return result;
}

}  // namespace qtf::model
