#include "qtf/train/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>

#include "qtf/base/error.h"
#include "qtf/kernels/softmax.h"
#include "qtf/text/utf8.h"

namespace qtf::train {

double Evaluation::perplexity() const {
  return std::exp(nats_per_token);
}

double Evaluation::word_perplexity(const text::TextCounts& counts, int64_t text_tokens) const {
  return std::exp(nats_per_token * static_cast<double>(text_tokens) / static_cast<double>(counts.words));
}

double Evaluation::bits_per_byte(const text::TextCounts& counts, int64_t text_tokens) const {
  return nats_per_token * static_cast<double>(text_tokens) / static_cast<double>(counts.bytes) /
         std::numbers::ln2;
}

namespace {

/// Tokens that one forward pass reads: inputs begin to end - 1, of whose predictions the last `scored` count.
struct Window {
  int64_t begin = 0;  // of the inputs, in the token source
  int64_t length = 0;
  int64_t scored = 0;
};

/// Where windows read their tokens: position -1 of a text is its start token, if the model has one.
struct TokenSource {
  const TokenRange* range = nullptr;
  std::span<const int32_t> list;
  int32_t start = -1;

  int64_t size() const { return range ? range->size() : static_cast<int64_t>(list.size()); }
  int32_t operator[](int64_t i) const {
    if (i < 0) return start;
    return range ? (*range->file)[range->begin + i] : list[static_cast<size_t>(i)];
  }
};

struct WindowResult {
  double nats = 0, kl = 0, difference = 0;
  int64_t same_top = 0;
  int64_t read = 0, routed = 0;  // tokens
  double circuit_nats = 0;
  model::RankMix ranks;
  WindowTrace trace;  // where it is asked for
};

/// Scores windows one at a time; one a worker.
class WindowScorer {
 public:
  WindowScorer(const model::Transformer<float>& model, const model::Transformer<float>* other,
               const EvaluateOptions& options)
      : model_(model), other_(other), options_(options) {}

  WindowResult score(const TokenSource& source, const Window& window) {
    inputs_.resize(static_cast<size_t>(window.length));
    targets_.resize(inputs_.size());
    for (int64_t i = 0; i < window.length; ++i) {
      inputs_[static_cast<size_t>(i)] = source[window.begin + i];
      targets_[static_cast<size_t>(i)] =
          i < window.length - window.scored ? -1 : source[window.begin + i + 1];
    }
    const model::TokenBatch batch{inputs_, targets_, 1, window.length};
    WindowResult result;
    const ArenaScope scope(arena_);
    const Decided decided = room_for(window.length);
    const model::Levels levels{options_.level, options_.scheduler, decided.levels};
    result.nats = model_.loss(batch, levels, nullptr, arena_, window.length - window.scored, decided.routes,
                              decided.entropy);
    keep(decided, window.length, result);
    if (other_) compare(batch, window, result);
    return result;
  }

 private:
  /// What a window's pass decides; null where there is nothing to decide or it is not asked for.
  struct Decided {
    model::RouteTrace<float> routes;
    Matrix<float> entropy;  // [layers, rows]
    uint8_t* levels = nullptr;
  };

  Decided room_for(int64_t rows) {
    Decided decided;
    const int64_t layers = model_.config().layers;
    if (model_.quantum()) {
      decided.routes.routed = arena_.allocate<uint8_t>(rows);
      if (measures()) decided.routes.selection = arena_.allocate<float>(rows);
      if (options_.circuit_entropy) decided.routes.circuit_entropy = arena_.allocate<float>(rows);
    }
    if (measures()) decided.entropy = {arena_.allocate<float>(layers * rows), layers, rows};
    if (options_.scheduler) decided.levels = arena_.allocate<uint8_t>(layers * rows);
    return decided;
  }

  void keep(const Decided& decided, int64_t rows, WindowResult& result) const {
    const int64_t layers = model_.config().layers;
    result.read = rows;
    for (int64_t t = 0; model_.quantum() && t < rows; ++t) {
      result.routed += decided.routes.routed[t];
      if (decided.routes.circuit_entropy)
        result.circuit_nats += static_cast<double>(decided.routes.circuit_entropy[t]);
    }
    if (options_.scheduler) {
      result.ranks = model::RankMix(*options_.scheduler, layers);
      result.ranks.add(*options_.scheduler, decided.levels, rows);
    }
    if (options_.trace != Trace::none) result.trace = trace(decided, rows);
  }

  bool measures() const { return options_.trace == Trace::measures; }

  WindowTrace trace(const Decided& decided, int64_t rows) const {
    const auto copy = []<class T>(const T* from, int64_t count, std::vector<T>& to) {
      if (from) to.assign(from, from + count);
    };
    const int64_t layers = model_.config().layers;
    WindowTrace trace{
        .rows = rows, .levels = {}, .routed = {}, .entropies = {}, .scores = {}, .circuit_entropies = {}};
    copy(decided.levels, layers * rows, trace.levels);
    for (int64_t layer = 0; decided.levels && layer < layers; ++layer)
      if (!options_.scheduler->governs(layer))
        std::fill_n(trace.levels.begin() + layer * rows, rows, uint8_t{0});
    copy(decided.routes.routed, rows, trace.routed);
    copy(decided.entropy.data, layers * rows, trace.entropies);
    copy(decided.routes.selection, rows, trace.scores);
    copy(decided.routes.circuit_entropy, rows, trace.circuit_entropies);
    return trace;
  }

  void compare(const model::TokenBatch& batch, const Window& window, WindowResult& result) {
    const ArenaScope scope(arena_);
    const int64_t vocabulary = model_.config().vocabulary;
    const auto hidden_of = [&](const model::Transformer<float>& model, const model::Levels& levels) {
      const int64_t width = model.config().width;
      const Matrix<float> hidden(arena_.allocate<float>(window.length * width), window.length, width);
      model.hidden_states(batch, levels, hidden, arena_);
      return hidden;
    };
    const Matrix<float> mine = hidden_of(model_, {options_.level, options_.scheduler}),
                        theirs = hidden_of(*other_, 0);
    constexpr int64_t kRows = 64;  // logits at once
    for (int64_t i = window.length - window.scored; i < window.length; i += kRows) {
      const ArenaScope chunk(arena_);
      const int64_t rows = std::min(kRows, window.length - i);
      const Matrix<float> a(arena_.allocate<float>(rows * vocabulary), rows, vocabulary);
      const Matrix<float> b(arena_.allocate<float>(rows * vocabulary), rows, vocabulary);
      model_.logits(mine.row_block(i, rows), options_.level, a, arena_);
      other_->logits(theirs.row_block(i, rows), 0, b, arena_);
      for (int64_t r = 0; r < rows; ++r) {
        const float lse_a = kernels::log_sum_exp<float>(vocabulary, a.row(r));
        const float lse_b = kernels::log_sum_exp<float>(vocabulary, b.row(r));
        result.kl +=
            static_cast<double>(kernels::kl_divergence<float>(vocabulary, b.row(r), lse_b, a.row(r), lse_a));
        const auto target = targets_[static_cast<size_t>(i + r)];
        result.difference += static_cast<double>(lse_a) - static_cast<double>(a(r, target)) -
                             (static_cast<double>(lse_b) - static_cast<double>(b(r, target)));
        result.same_top +=
            kernels::argmax<float>(vocabulary, a.row(r)) == kernels::argmax<float>(vocabulary, b.row(r)) ? 1
                                                                                                         : 0;
      }
    }
  }

  const model::Transformer<float>& model_;
  const model::Transformer<float>* other_;
  const EvaluateOptions& options_;
  Arena arena_;
  std::vector<int32_t> inputs_, targets_;
};

/// What the windows decided as one: shares, levels, and every token's trace.
void summarise_decisions(std::vector<WindowResult>& results, Evaluation& e) {
  int64_t read = 0, routed = 0;
  double nats = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    read += results[i].read, routed += results[i].routed, nats += results[i].circuit_nats;
    e.ranks.add(results[i].ranks);
    if (results[i].trace.rows > 0) e.trace.push_back(std::move(results[i].trace));
  }
  if (read > 0) e.routed_share = static_cast<double>(routed) / static_cast<double>(read);
  if (routed > 0) e.circuit_entropy = nats / static_cast<double>(routed);
}

/// Standard error of `mean` a token, where each window scored some tokens with a sum of value(window);
/// windows are clusters.
template <class Value>
double clustered_error(const std::vector<Window>& windows, double mean, double tokens, const Value& value) {
  double squares = 0;
  for (size_t i = 0; i < windows.size(); ++i) {
    const double off = value(i) - mean * static_cast<double>(windows[i].scored);
    squares += off * off;
  }
  const auto count = static_cast<double>(windows.size());
  return count > 1 ? std::sqrt(squares * count / (count - 1)) / tokens : 0;
}

/// Means over tokens.
Evaluation summarise(const std::vector<Window>& windows, const std::vector<WindowResult>& results) {
  Evaluation e;
  double nats = 0, kl = 0, difference = 0;
  int64_t same = 0;
  for (size_t i = 0; i < windows.size(); ++i) {
    e.tokens += windows[i].scored;
    nats += results[i].nats, kl += results[i].kl, same += results[i].same_top;
    difference += results[i].difference;
  }
  const auto tokens = static_cast<double>(e.tokens);
  e.nats_per_token = nats / tokens;
  e.kl_divergence = kl / tokens;
  e.same_top = static_cast<double>(same) / tokens;
  e.difference = difference / tokens;
  e.standard_error =
      clustered_error(windows, e.nats_per_token, tokens, [&](size_t i) { return results[i].nats; });
  e.difference_error =
      clustered_error(windows, e.difference, tokens, [&](size_t i) { return results[i].difference; });
  return e;
}

Evaluation score_all(const model::Transformer<float>& model, const model::Transformer<float>* other,
                     const TokenSource& source, const std::vector<Window>& windows,
                     const EvaluateOptions& options, ThreadPool& pool) {
  if (other && other->config().vocabulary != model.config().vocabulary) {
    throw_input_error("eval", "the models have vocabularies of {} and {}: they do not share a tokenizer",
                      model.config().vocabulary, other->config().vocabulary);
  }
  const auto start = std::chrono::steady_clock::now();
  std::vector<WindowResult> results(windows.size());
  pool.parallel_for(static_cast<int64_t>(windows.size()), [&](int, Range range) {
    WindowScorer scorer(model, other, options);
    for (int64_t i = range.begin; i < range.end; ++i) {
      results[static_cast<size_t>(i)] = scorer.score(source, windows[static_cast<size_t>(i)]);
    }
  });
  Evaluation e = summarise(windows, results);
  summarise_decisions(results, e);
  e.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return e;
}

int64_t checked_context(const model::Transformer<float>& model, const EvaluateOptions& options) {
  const int64_t most = model.config().context;
  if (options.context < 0 || options.context > most) {
    throw_input_error("eval", "--context must be 1 to the model's {}, got {}", most, options.context);
  }
  return options.context ? options.context : most;
}

/// Scores the source's tokens as one text.
Evaluation evaluate_text(const model::Transformer<float>& model, TokenSource source,
                         const EvaluateOptions& options, ThreadPool& pool,
                         const model::Transformer<float>* other) {
  const int64_t context = checked_context(model, options);
  const int64_t stride = options.stride ? options.stride : std::max<int64_t>(1, context / 2);
  if (stride < 1 || stride > context) {
    throw_input_error("eval", "--stride must be 1 to the context of {}, got {}", context, options.stride);
  }
  source.start = model.config().bos_token;
  const int64_t first = source.start >= 0 ? -1 : 0;  // first input
  const int64_t last = source.size() - 1;            // last target
  if (last <= first)
    throw_input_error("eval", "the text has {} tokens; at least 2 are needed", source.size());

  std::vector<Window> windows;
  int64_t scored = first;  // last target scored so far
  const int64_t enough = options.max_tokens ? first + options.max_tokens : last;
  while (scored < std::min(last, enough)) {
    const int64_t end = std::min(last, windows.empty() ? first + context : scored + stride);
    const int64_t begin = std::max(first, end - context);
    windows.push_back({begin, end - begin, end - scored});
    scored = end;
  }
  Evaluation e = score_all(model, other, source, windows, options, pool);
  e.context = context, e.stride = stride;
  return e;
}

}  // namespace

Evaluation evaluate(const model::Transformer<float>& model, const TokenRange& range,
                    const EvaluateOptions& options, ThreadPool& pool,
                    const model::Transformer<float>* other) {
  return evaluate_text(model, {&range, {}}, options, pool, other);
}

Evaluation evaluate(const model::Transformer<float>& model, std::span<const int32_t> tokens,
                    const EvaluateOptions& options, ThreadPool& pool,
                    const model::Transformer<float>* other) {
  return evaluate_text(model, {nullptr, tokens}, options, pool, other);
}

Evaluation evaluate(const model::Transformer<float>& model, const Documents& documents,
                    const EvaluateOptions& options, ThreadPool& pool,
                    const model::Transformer<float>* other) {
  const int64_t context = checked_context(model, options);
  // The start token is written into the list before each document, so that windows stay contiguous.
  std::vector<int32_t> list;
  std::vector<Window> windows;
  const int32_t start = model.config().bos_token;
  int64_t begin = 0;
  for (int64_t end : documents.ends) {
    const auto at = static_cast<int64_t>(list.size());
    if (start >= 0) list.push_back(start);
    list.insert(list.end(), documents.tokens.begin() + begin, documents.tokens.begin() + end);
    begin = end;
    const int64_t predictions = std::min(context, static_cast<int64_t>(list.size()) - at) - 1;
    if (predictions >= 1) windows.push_back({at, predictions, predictions});
  }
  if (windows.empty()) throw_input_error("eval", "no document has two tokens");
  TokenSource source;
  source.list = list;
  Evaluation e = score_all(model, other, source, windows, options, pool);
  e.context = context, e.stride = context;
  return e;
}

namespace {

/// A line as valid UTF-8 of the same length: a range may begin or end inside a character, whose bytes then
/// count as letters.
std::string mended(std::string line) {
  for (size_t bad; (bad = text::find_invalid_utf8(line)) != std::string::npos;) line[bad] = '?';
  return line;
}

}  // namespace

text::TextCounts count_text(const TokenRange& range, const text::Tokenizer& tokenizer) {
  text::TextCounts counts;
  std::string line;
  const auto count_line = [&] {
    const text::TextCounts more = text::count_text(mended(std::move(line)));
    counts.bytes += more.bytes, counts.words += more.words;
    line.clear();
  };
  for (int64_t i = range.begin; i < range.end; ++i) {
    for (char c : tokenizer.token_bytes((*range.file)[i])) {
      line += c;
      if (c == '\n') count_line();
    }
  }
  count_line();
  return counts;
}

}  // namespace qtf::train
