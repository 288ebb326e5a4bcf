#include "qtf/train/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qtf/base/error.h"
#include "qtf/train/train_test.h"

namespace qtf::train {
namespace {

/// A random model whose predictions are far from uniform, ready to predict.
std::unique_ptr<model::Transformer<float>> random_model(const model::ModelConfig& config,
                                                        uint64_t stream = 1) {
  auto model = std::make_unique<model::Transformer<float>>(config);
  model->initialise(stream);
  const auto noise = normal_numbers(model->parameters().size(), 0.3, stream);
  for (size_t i = 0; i < noise.size(); ++i) model->parameters()[i] += noise[i];
  ThreadPool pool(1);
  model->prepare(tt::Use::inference, pool);
  return model;
}

model::ModelConfig config_with_bos(int32_t bos, const ModelCase& c = model_cases()[0]) {
  model::ModelConfig config = small_config(c);
  config.bos_token = bos;
  return config;
}

/// Nats of predicting text[target] from text[begin, target).
double nats_of(const model::Transformer<float>& model, const std::vector<int32_t>& text, int64_t begin,
               int64_t target, int level) {
  const std::vector<int32_t> inputs(text.begin() + begin, text.begin() + target);
  std::vector<int32_t> targets(inputs.size(), -1);
  targets.back() = text[static_cast<size_t>(target)];
  Arena arena;
  return model.loss({inputs, targets, 1, static_cast<int64_t>(inputs.size())}, level, nullptr, arena);
}

/// Nats by window, as the protocol says: the w-th window's targets end at context + w·stride, and its inputs
/// are the `context` tokens before that end.
struct BruteForce {
  double nats = 0, error = 0;
  int64_t tokens = 0;

  BruteForce() = default;
  BruteForce(const model::Transformer<float>& model, const std::vector<int32_t>& text, int64_t context,
             int64_t stride, int level = 0) {
    std::vector<double> windows;
    std::vector<int64_t> counts;
    const auto size = static_cast<int64_t>(text.size());
    for (int64_t target = 1; target < size; ++target) {
      const int64_t window = target <= context ? 0 : (target - context + stride - 1) / stride;
      const int64_t end = std::min(size - 1, context + window * stride);
      windows.resize(static_cast<size_t>(window + 1)), counts.resize(windows.size());
      windows.back() += nats_of(model, text, std::max<int64_t>(0, end - context), target, level);
      ++counts.back();
    }
    summarise(windows, counts);
  }

  void summarise(const std::vector<double>& windows, const std::vector<int64_t>& counts) {
    for (double window : windows) nats += window;
    for (int64_t count : counts) tokens += count;
    nats /= static_cast<double>(tokens);
    double squares = 0;
    for (size_t i = 0; i < windows.size(); ++i)
      squares += std::pow(windows[i] - nats * static_cast<double>(counts[i]), 2);
    const auto n = static_cast<double>(windows.size());
    // The ratio estimator's error with windows as clusters.
    if (n > 1) error = std::sqrt(squares * n / (n - 1)) / static_cast<double>(tokens);
  }
};

void expect_equal(const Evaluation& e, const BruteForce& expected, const std::string& what) {
  EXPECT_EQ(e.tokens, expected.tokens) << what;
  EXPECT_NEAR(e.nats_per_token, expected.nats, 1e-5 * expected.nats) << what;
  EXPECT_NEAR(e.standard_error, expected.error, 1e-4 * expected.error + 1e-9) << what;
}

std::vector<int32_t> tokens_of(const TokenRange& range, int32_t bos) {
  std::vector<int32_t> tokens;
  if (bos >= 0) tokens.push_back(bos);
  for (int64_t i = range.begin; i < range.end; ++i) tokens.push_back((*range.file)[i]);
  return tokens;
}

class Evaluate : public testing::Test {
 protected:
  const SmallCorpus corpus_{small_text(120)};
  ThreadPool pool_{2};
};

TEST_F(Evaluate, WindowsFollowTheProtocol) {
  for (int32_t bos : {-1, 256}) {
    const auto model = random_model(config_with_bos(bos));
    for (int64_t size : {2, 3, 15, 16, 17, 18, 33, 70}) {
      const TokenRange range = corpus_.range(9, 9 + size);
      for (int64_t context : {1, 2, 5, 16}) {
        for (int64_t stride : {int64_t{1}, int64_t{2}, context}) {
          if (stride > context) continue;
          EvaluateOptions options;
          options.context = context, options.stride = stride;
          const Evaluation e = evaluate(*model, range, options, pool_);
          expect_equal(e, {*model, tokens_of(range, bos), context, stride},
                       fmt::format("bos {} size {} context {} stride {}", bos, size, context, stride));
          const std::vector<int32_t> tokens = tokens_of(range, -1);
          EXPECT_EQ(evaluate(*model, std::span<const int32_t>(tokens), options, pool_).nats_per_token,
                    e.nats_per_token);
          EXPECT_EQ(e.context, context);
          EXPECT_EQ(e.stride, stride);
          EXPECT_GT(e.seconds, 0);
        }
      }
    }
  }
}

TEST_F(Evaluate, DefaultsAreTheModelsContextAndHalfOfIt) {
  const auto model = random_model(small_config());
  const Evaluation e = evaluate(*model, corpus_.all(), {}, pool_);
  EXPECT_EQ(e.context, 16);
  EXPECT_EQ(e.stride, 8);
  expect_equal(e, {*model, tokens_of(corpus_.all(), -1), 16, 8}, "defaults");
}

TEST_F(Evaluate, LevelsArePredictedAsTheyAre) {
  const auto model = random_model(config_with_bos(-1, model_cases().back()));
  std::vector<double> nats;
  for (int level : {0, 1, 2, 3}) {
    EvaluateOptions options;
    options.level = level;
    const Evaluation e = evaluate(*model, corpus_.range(0, 40), options, pool_);
    expect_equal(e, {*model, tokens_of(corpus_.range(0, 40), -1), 16, 8, level}, "level");
    nats.push_back(e.nats_per_token);
  }
  EXPECT_EQ(nats[0], nats[3]) << "the largest level is the whole model";
  EXPECT_NE(nats[0], nats[1]);
}

TEST_F(Evaluate, MaxTokensScoresTheBeginning) {
  const auto model = random_model(small_config());
  for (int64_t most : {1, 16, 17, 40, 1000}) {
    EvaluateOptions options;
    options.stride = 16, options.max_tokens = most;
    const Evaluation e = evaluate(*model, corpus_.all(), options, pool_);
    const int64_t all = corpus_.file().size() - 1, whole_windows = (most + 15) / 16 * 16;
    EXPECT_EQ(e.tokens, std::min(all, whole_windows));
    const TokenRange scored = corpus_.range(0, e.tokens + 1);
    expect_equal(e, {*model, tokens_of(scored, -1), 16, 16}, fmt::format("most {}", most));
  }
}

TEST_F(Evaluate, ThreadsChangeNoBit) {
  const auto model = random_model(small_config());
  ThreadPool one(1), three(3);
  const Evaluation a = evaluate(*model, corpus_.all(), {}, one),
                   b = evaluate(*model, corpus_.all(), {}, three);
  EXPECT_EQ(a.nats_per_token, b.nats_per_token);
  EXPECT_EQ(a.standard_error, b.standard_error);
}

TEST_F(Evaluate, DocumentsStandAloneAndAreCutAtTheContext) {
  const std::vector<int64_t> lengths = {5, 1, 0, 16, 17, 18, 40, 2};
  for (int32_t bos : {-1, 256}) {
    const auto model = random_model(config_with_bos(bos));
    Documents documents;
    std::vector<double> nats;
    std::vector<int64_t> counts;
    int64_t begin = 0;
    for (int64_t size : lengths) {
      std::vector<int32_t> document = tokens_of(corpus_.range(begin, begin + size), bos);
      for (int64_t i = begin; i < begin + size; ++i) documents.tokens.push_back(corpus_.file()[i]);
      documents.ends.push_back(begin += size);
      document.resize(std::min<size_t>(document.size(), 16));
      if (document.size() < 2) continue;
      nats.push_back(0), counts.push_back(static_cast<int64_t>(document.size()) - 1);
      for (int64_t t = 1; t <= counts.back(); ++t) nats.back() += nats_of(*model, document, 0, t, 0);
    }
    BruteForce expected;
    expected.summarise(nats, counts);
    expect_equal(evaluate(*model, documents, {}, pool_), expected, fmt::format("bos {}", bos));
  }
}

TEST_F(Evaluate, AgainstItselfIsEqualAgainstAnotherIsTheDivergence) {
  const auto model = random_model(small_config()), other = random_model(small_config(), 2);
  EvaluateOptions options;
  options.stride = 16;
  const Evaluation same = evaluate(*model, corpus_.all(), options, pool_, model.get());
  EXPECT_NEAR(same.kl_divergence, 0, 1e-6);
  EXPECT_EQ(same.same_top, 1);
  EXPECT_NEAR(same.difference, 0, 1e-6);
  EXPECT_NEAR(same.difference_error, 0, 1e-6);

  const TokenRange range = corpus_.range(0, 17);
  const std::vector<int32_t> text = tokens_of(range, -1);
  Arena arena;
  const auto logits_of = [&](const model::Transformer<float>& m) {
    std::vector<float> hidden(16 * 16), logits(16 * 257);
    const model::TokenBatch batch{std::span(text).first(16), {}, 1, 16};
    m.hidden_states(batch, 0, {hidden.data(), 16, 16}, arena);
    m.logits(ConstMatrix<float>(hidden.data(), 16, 16), 0, {logits.data(), 16, 257}, arena);
    return logits;
  };
  const std::vector<float> a = logits_of(*model), b = logits_of(*other);
  double kl = 0, top = 0;
  for (size_t row = 0; row < 16; ++row) {
    const auto at = [&](const std::vector<float>& x) { return std::span(x).subspan(row * 257, 257); };
    double sum_a = 0, sum_b = 0;
    for (size_t i = 0; i < 257; ++i) sum_a += std::exp(at(a)[i]), sum_b += std::exp(at(b)[i]);
    for (size_t i = 0; i < 257; ++i) {
      const double p = std::exp(at(b)[i]) / sum_b, q = std::exp(at(a)[i]) / sum_a;
      kl += p * std::log(p / q) / 16;
    }
    const auto largest = [&](const auto& x) { return std::max_element(x.begin(), x.end()) - x.begin(); };
    top += largest(at(a)) == largest(at(b)) ? 1.0 / 16 : 0;
  }
  const Evaluation e = evaluate(*model, range, options, pool_, other.get());
  EXPECT_NEAR(e.kl_divergence, kl, 1e-4 * kl);
  EXPECT_NEAR(e.same_top, top, 1e-12);
  EXPECT_GT(kl, 0);
}

TEST_F(Evaluate, TheDifferenceOfTwoModelsIsPairedByDocument) {
  const auto model = random_model(small_config()), other = random_model(small_config(), 2);
  Documents all;
  std::vector<double> sums, counts;
  double difference = 0, tokens = 0;
  for (const int64_t length : {5, 9, 16, 3, 12}) {
    const std::vector<int32_t> text = tokens_of(corpus_.range(20 * length, 20 * length + length), -1);
    all.tokens.insert(all.tokens.end(), text.begin(), text.end());
    all.ends.push_back(static_cast<int64_t>(all.tokens.size()));
    const Documents one{text, {static_cast<int64_t>(text.size())}};
    const Evaluation a = evaluate(*model, one, {}, pool_), b = evaluate(*other, one, {}, pool_);
    counts.push_back(static_cast<double>(a.tokens));
    sums.push_back((a.nats_per_token - b.nats_per_token) * counts.back());
    difference += sums.back(), tokens += counts.back();
  }
  const double mean = difference / tokens;
  double squares = 0;
  for (size_t i = 0; i < sums.size(); ++i) squares += std::pow(sums[i] - mean * counts[i], 2);
  const Evaluation e = evaluate(*model, all, {}, pool_, other.get());
  EXPECT_NEAR(e.difference, mean, 1e-5);
  EXPECT_NEAR(e.difference_error, std::sqrt(squares * 5 / 4) / tokens, 1e-5);
  EXPECT_GT(e.difference_error, 1e-3);
}

TEST_F(Evaluate, RefusesWithReason) {
  const auto model = random_model(small_config());
  const auto error = [&](TokenRange range, int64_t context, int64_t stride,
                         const model::Transformer<float>* other = nullptr) {
    EvaluateOptions options;
    options.context = context, options.stride = stride;
    return error_of<InputError>([&] { evaluate(*model, range, options, pool_, other); });
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  contains(error(corpus_.range(0, 1), 0, 0), "1 tokens; at least 2");
  contains(error(corpus_.range(3, 3), 0, 0), "0 tokens; at least 2");
  contains(error(corpus_.all(), 17, 0), "the model's 16, got 17");
  contains(error(corpus_.all(), -1, 0), "got -1");
  contains(error(corpus_.all(), 8, 9), "--stride must be 1 to the context of 8, got 9");
  contains(error(corpus_.all(), 8, -1), "got -1");
  model::ModelConfig foreign = small_config();
  foreign.vocabulary = 300;
  const auto other = random_model(foreign);
  contains(error(corpus_.all(), 0, 0, other.get()), "vocabularies of 257 and 300");
  model::ModelConfig shorter = small_config();
  shorter.context = 8;
  contains(error(corpus_.all(), 0, 0, random_model(shorter).get()), "longer than the model's context of 8");

  const Documents single{.tokens = {1, 2}, .ends = {1, 2}};
  contains(error_of<InputError>([&] { evaluate(*model, single, {}, pool_); }), "no document has two tokens");
  EvaluateOptions too_long;
  too_long.context = 17;
  const Documents pair{.tokens = {1, 2}, .ends = {2}};
  contains(error_of<InputError>([&] { evaluate(*model, pair, too_long, pool_); }), "got 17");
}

TEST_F(Evaluate, TellsOfEveryTokensRoute) {
  model::ModelConfig config = small_config();
  config.quantum = model::parse_quantum("qubits=3,layers=1,fraction=0.25");
  model::Transformer<float> model(config);
  model.initialise(2);
  ThreadPool pool(2);
  model.prepare(tt::Use::inference, pool);
  const SmallCorpus corpus(small_text(400));
  EvaluateOptions options;
  options.circuit_entropy = true, options.trace = Trace::measures;
  const Evaluation e = evaluate(model, corpus.all(), options, pool);
  int64_t routed = 0, tokens = 0;
  double nats = 0;
  for (const WindowTrace& window : e.trace) {
    const auto rows = static_cast<size_t>(window.rows);
    ASSERT_EQ(window.entropies.size(), rows * static_cast<size_t>(config.layers));
    ASSERT_TRUE(window.levels.empty()) << "no scheduler";
    ASSERT_TRUE(window.routed.size() == rows && window.scores.size() == rows &&
                window.circuit_entropies.size() == rows);
    tokens += window.rows;
    int64_t in_window = 0;
    for (size_t t = 0; t < rows; ++t) {
      const float entropy = window.entropies[static_cast<size_t>(model.quantum()->block()) * rows + t];
      EXPECT_TRUE(t == 0 ? entropy == 1 : entropy >= 0 && entropy <= 1);
      in_window += window.routed[t], nats += static_cast<double>(window.circuit_entropies[t]);
      EXPECT_LE(4 * in_window, static_cast<int64_t>(t) + 1) << "the cap at every prefix";
      EXPECT_LE(window.circuit_entropies[t], std::log(2.0) + 1e-6) << "one qubit of three";
      EXPECT_EQ(window.circuit_entropies[t] > 0, window.routed[t] != 0);
    }
    routed += in_window;
  }
  ASSERT_GT(routed, 0);
  EXPECT_DOUBLE_EQ(e.routed_share, static_cast<double>(routed) / static_cast<double>(tokens));
  EXPECT_NEAR(e.circuit_entropy, nats / static_cast<double>(routed), 1e-9);
  options.trace = Trace::decisions;
  const Evaluation decisions = evaluate(model, corpus.all(), options, pool);
  ASSERT_EQ(decisions.trace.size(), e.trace.size());
  for (size_t i = 0; i < e.trace.size(); ++i) {
    EXPECT_EQ(decisions.trace[i].routed, e.trace[i].routed);
    EXPECT_TRUE(decisions.trace[i].entropies.empty() && decisions.trace[i].scores.empty());
  }
  options.trace = Trace::none;
  const Evaluation brief = evaluate(model, corpus.all(), options, pool);
  EXPECT_TRUE(brief.trace.empty());
  EXPECT_EQ(brief.routed_share, e.routed_share);
}

TEST(Evaluation, PerplexitiesAndBitsAreArithmetic) {
  Evaluation e;
  e.nats_per_token = std::log(8.0);
  const text::TextCounts counts{.bytes = 300, .words = 50};
  EXPECT_NEAR(e.perplexity(), 8, 1e-12);
  EXPECT_NEAR(e.word_perplexity(counts, 100), 64, 1e-10) << "two tokens a word";
  EXPECT_NEAR(e.bits_per_byte(counts, 100), 1, 1e-12) << "three bits a token, three bytes a token";
}

TEST(CountText, EqualsTheCorpusCounts) {
  const std::string texts[] = {small_text(500),
                               "one",
                               "one\n",
                               "\n\n",
                               " a  b\t\r\nc\n\n d ",
                               "a\xC2\xA0"
                               "b\xE3\x80\x80"
                               "c\xE2\x80\xA8"
                               "d",
                               "\xF0\x9F\x98\x80 x\n"};
  for (const std::string& text : texts) {
    const SmallCorpus corpus(text);
    EXPECT_EQ(count_text(corpus.all(), *corpus.tokenizer()), corpus.file().counts()) << text;
    EXPECT_EQ(count_text(corpus.all(), *corpus.tokenizer()), text::count_text(text)) << text;
  }
}

TEST(CountText, OfAPartCountsItsOwnBytes) {
  const SmallCorpus corpus(
      "ab na\xC3\xAF"
      "ve cd\n");
  EXPECT_EQ(count_text(corpus.range(0, 2), *corpus.tokenizer()), (text::TextCounts{.bytes = 2, .words = 2}));
  // Cut inside a character: its bytes are letters of the word.
  EXPECT_EQ(count_text(corpus.range(3, 6), *corpus.tokenizer()), (text::TextCounts{.bytes = 3, .words = 2}));
  EXPECT_EQ(count_text(corpus.range(6, 12), *corpus.tokenizer()), (text::TextCounts{.bytes = 6, .words = 3}));
  EXPECT_EQ(count_text(corpus.range(3, 3), *corpus.tokenizer()), text::TextCounts{});
}

}  // namespace
}  // namespace qtf::train
