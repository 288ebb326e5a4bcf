#include "qtf/model/generate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "qtf/base/error.h"
#include "qtf/model/budget_keeper.h"
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
  std::vector<int32_t> tokens = encode_prompt(model, tokenizer, prompt, "generate");
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
  BudgetKeeper budgets({options.token_budget_ns, options.energy_budget_nj}, options.tokens,
                       scheduler ? scheduler->mean() : 0);
  const auto energy = [&] { return energy_so_far(*options.meter); };
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
    if (!goes_on) continue;
    if (const auto mean = budgets.add(std::llround(1e9 * seconds_since(begin)), energy))
      scheduler->set_mean(*mean);
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
