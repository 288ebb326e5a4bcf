#include "qtf/model/inference.h"

#include <gtest/gtest.h>

#include <numeric>
#include <optional>
#include <tuple>

#include "qtf/base/error.h"
#include "qtf/model/small_model.h"

namespace qtf::model {
namespace {

/// A hundredth of a microsecond is worth a worker here, so that small models are shared too.
constexpr InferenceOptions kShareAll{.macs_per_worker = 1};

/// One thread, two, and more than the small models' columns and heads.
constexpr int kThreads[] = {1, 2, 5};

/// What a model gives for every token, and its attention entropies by layer.
struct Result {
  std::vector<float> hidden, logits, entropy;
  Matrix<float> hidden_rows(const ModelConfig& config, int64_t first, int64_t rows) {
    return {hidden.data() + first * config.width, rows, config.width};
  }
  Matrix<float> logits_rows(const ModelConfig& config, int64_t first, int64_t rows) {
    return {logits.data() + first * config.vocabulary, rows, config.vocabulary};
  }
  Matrix<float> entropies(const ModelConfig& config, int64_t first, int64_t rows) {
    const auto all = static_cast<int64_t>(entropy.size()) / config.layers;
    return {entropy.data() + first, config.layers, rows, all};
  }
  Result(const ModelConfig& config, size_t tokens)
      : hidden(tokens * static_cast<size_t>(config.width)),
        logits(tokens * static_cast<size_t>(config.vocabulary)),
        entropy(tokens * static_cast<size_t>(config.layers), -1.F) {}
  bool operator==(const Result&) const = default;
};

/// What the model alone gives, on one thread.
Result alone(const Transformer<float>& model, std::span<const int32_t> tokens, int level) {
  const ModelConfig& config = model.config();
  const auto rows = static_cast<int64_t>(tokens.size());
  Result result(config, tokens.size());
  Arena arena;
  auto cache = model.make_cache(config.context);
  const Chunk<float> chunk{tokens, &cache};
  model.forward({&chunk, 1}, level, result.hidden_rows(config, 0, rows), arena,
                result.entropies(config, 0, rows));
  model.logits(result.hidden_rows(config, 0, rows), level, result.logits_rows(config, 0, rows), arena);
  return result;
}

/// The same in pieces of the given sizes.
Result in_pieces(Inference<float>& inference, const Transformer<float>& model,
                 std::span<const int32_t> tokens, const std::vector<int64_t>& pieces, int level) {
  const ModelConfig& config = model.config();
  Result result(config, tokens.size());
  auto cache = model.make_cache(config.context);
  int64_t done = 0;
  for (const int64_t piece : pieces) {
    const Chunk<float> chunk{tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(piece)), &cache};
    const Matrix<float> hidden = result.hidden_rows(config, done, piece);
    inference.forward({&chunk, 1}, level, hidden, result.entropies(config, done, piece));
    inference.logits(hidden, level, result.logits_rows(config, done, piece));
    done += piece;
  }
  return result;
}

/// A model of the table whose caches hold numbers, or codes of a type.
using ModelAndCache = std::tuple<SmallModel, std::optional<CodeType>>;

class EverySmallModel : public testing::TestWithParam<ModelAndCache> {
 protected:
  EverySmallModel() : small_(std::get<0>(GetParam())), model_(small_config(small_)) {
    ThreadPool pool(1);
    randomise(model_);
    model_.prepare(tt::Use::inference, pool);
    model_.set_cache_type(std::get<1>(GetParam()));
  }
  const SmallModel& small_;
  Transformer<float> model_;
};
std::string name_of(const testing::TestParamInfo<ModelAndCache>& row) {
  const auto& [small, type] = row.param;
  return small.name + (type ? "_cache_" + std::string(name(*type)) : "");
}
INSTANTIATE_TEST_SUITE_P(Table, EverySmallModel,
                         testing::Combine(testing::ValuesIn(small_models()), testing::Values(std::nullopt)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(OfCodes, EverySmallModel,
                         testing::Combine(testing::Values(small_model("llama"), small_model("gpt2"),
                                                          small_model("llama_levels"),
                                                          small_model("gpt2_quantum_levels")),
                                          testing::Values(CodeType::f16, CodeType::int8, CodeType::int4)),
                         name_of);

TEST_P(EverySmallModel, WholeChunkedAndTokenByTokenHaveOneThreadsBits) {
  const auto tokens = random_tokens(24, 257, 3);
  for (const int threads : kThreads) {
    ThreadPool pool(threads);
    Inference<float> inference(model_, pool, kShareAll);
    for (int level = 0; level <= (small_.levels > 1 ? small_.levels : 0); ++level) {
      const Result want = alone(model_, tokens, level);
      for (const std::vector<int64_t>& pieces :
           {std::vector<int64_t>{24}, {12, 12}, {17, 1, 6}, std::vector<int64_t>(24, 1)}) {
        EXPECT_EQ(in_pieces(inference, model_, tokens, pieces, level), want)
            << threads << " threads, level " << level << ", " << pieces.size() << " pieces";
      }
    }
  }
}

TEST_P(EverySmallModel, ABatchHasTheBitsOfEachAlone) {
  const ModelConfig& config = model_.config();
  for (const int threads : kThreads) {
    ThreadPool pool(threads);
    Inference<float> inference(model_, pool, kShareAll);
    for (const size_t sequences : {3, 64}) {  // by columns and by rows
      std::vector<std::vector<int32_t>> texts;
      std::vector<nn::KvCache<float>> caches;
      std::vector<Chunk<float>> chunks;
      size_t rows = 0;
      for (size_t i = 0; i < sequences; ++i) {
        texts.push_back(random_tokens(1 + i % 7, 257, 100 + i));
        caches.push_back(model_.make_cache(24));
        rows += texts.back().size();
      }
      for (size_t i = 0; i < sequences; ++i) chunks.push_back({texts[i], &caches[i]});
      Result result(config, rows);
      const auto all = static_cast<int64_t>(rows);
      inference.forward(chunks, 0, result.hidden_rows(config, 0, all), result.entropies(config, 0, all));
      inference.logits(result.hidden_rows(config, 0, all), 0, result.logits_rows(config, 0, all));
      auto at = result.logits.begin();
      int64_t first = 0;
      for (size_t i = 0; i < sequences; ++i) {
        const Result own = alone(model_, texts[i], 0);
        const std::vector<float>& want = own.logits;
        EXPECT_TRUE(std::equal(want.begin(), want.end(), at)) << threads << " threads, sequence " << i;
        at += static_cast<std::ptrdiff_t>(want.size());
        const auto length = static_cast<int64_t>(texts[i].size());
        const Matrix<float> entropies = result.entropies(config, first, length);
        for (int64_t layer = 0; layer < config.layers; ++layer) {
          EXPECT_TRUE(std::equal(entropies.row(layer), entropies.row(layer) + length,
                                 own.entropy.begin() + layer * length))
              << threads << " threads, sequence " << i << ", layer " << layer;
        }
        first += length;
        EXPECT_EQ(caches[i].length(), static_cast<int64_t>(texts[i].size()));
      }
    }
  }
}

/// How many tokens passed the quantum layer, of every prefix.
std::vector<int64_t> routed_counts(const nn::KvCache<float>& cache) {
  std::vector<int64_t> counts;
  for (int64_t t = 0; t <= cache.length(); ++t) counts.push_back(cache.routed_before(t));
  return counts;
}

// The cap at every prefix of every sequence, and the same decisions whole, in pieces, by any number of
// threads and after a cache was cut back.
TEST_P(EverySmallModel, RoutesTheSameTokensHoweverTheyCome) {
  const ModelConfig& config = model_.config();
  const int64_t ppm = config.quantum ? config.quantum->fraction_ppm : 0;
  int64_t routed_in_all = 0;
  for (uint64_t text = 0; text < 10; ++text) {
    const auto tokens = random_tokens(24, 257, 50 + text);
    Result result(config, 24);
    Arena arena;
    std::vector<uint8_t> routed(24);
    model_.hidden_states({tokens, tokens, 1, 24}, 0, result.hidden_rows(config, 0, 24), arena, {},
                         {.routed = routed.data()});
    std::vector<int64_t> want = {0};
    for (int64_t t = 0; t < 24; ++t) {
      want.push_back(want.back() + routed[static_cast<size_t>(t)]);
      EXPECT_LE(1'000'000 * want.back(), ppm * (t + 1)) << "prefix " << t + 1;
    }
    routed_in_all += want.back();
    for (const int threads : kThreads) {
      ThreadPool pool(threads);
      Inference<float> inference(model_, pool, kShareAll);
      for (const std::vector<int64_t>& pieces :
           {std::vector<int64_t>{24}, {20, 4}, std::vector<int64_t>(24, 1)}) {
        auto cache = model_.make_cache(24);
        const auto extend = [&](int64_t rows) {
          const Chunk<float> chunk{
              std::span(tokens).subspan(static_cast<size_t>(cache.length()), static_cast<size_t>(rows)),
              &cache};
          inference.forward({&chunk, 1}, 0, result.hidden_rows(config, 0, rows));
        };
        for (const int64_t rows : pieces) extend(rows);
        EXPECT_EQ(routed_counts(cache), want) << threads << " threads, " << pieces.size() << " pieces";
        cache.truncate(9);
        extend(15);
        EXPECT_EQ(routed_counts(cache), want) << "cut back and extended again";
      }
    }
  }
  EXPECT_EQ(routed_in_all > 0, config.quantum.has_value());
}

TEST_P(EverySmallModel, EntropiesAreThoseOfWholeSequences) {
  const ModelConfig& config = model_.config();
  const auto tokens = random_tokens(48, 257, 6);
  const TokenBatch batch{tokens, tokens, 2, 24};
  Result whole(config, 48);
  Arena arena;
  model_.hidden_states(batch, 0, whole.hidden_rows(config, 0, 48), arena, whole.entropies(config, 0, 48));
  for (size_t i = 0; i < 2; ++i) {
    const Result own = alone(model_, std::span(tokens).subspan(24 * i, 24), 0);
    for (size_t layer = 0; layer < static_cast<size_t>(config.layers); ++layer) {
      for (size_t t = 0; t < 24; ++t) {
        const float entropy = own.entropy[24 * layer + t];
        EXPECT_EQ(whole.entropy[48 * layer + 24 * i + t], entropy) << layer << " " << t;
        EXPECT_TRUE(t == 0 ? entropy == 1 : entropy >= 0 && entropy <= 1) << entropy;
      }
    }
  }
}

// More than the rows that a team takes at once, in a model large enough that no part is empty.
TEST(Inference, ALongPromptHasOneThreadsBits) {
  ModelConfig config = small_config(small_models().front());
  config.width = 64, config.feed_forward = 100, config.context = 1100;
  Transformer<float> model(config);
  ThreadPool pool(2);
  randomise(model);
  model.prepare(tt::Use::inference, pool);
  const auto tokens = random_tokens(1100, 257, 4);
  const Result want = alone(model, tokens, 0);
  Inference<float> inference(model, pool);
  EXPECT_EQ(in_pieces(inference, model, tokens, {1100}, 0), want);
  EXPECT_EQ(in_pieces(inference, model, tokens, {1, 600, 16, 483}, 0), want);
}

TEST(Inference, ALongPromptIsRoutedAsOneThreadDoes) {
  ModelConfig config = small_config(small_models().front());
  config.width = 64, config.feed_forward = 100, config.context = 1100;
  config.quantum = parse_quantum("qubits=4,layers=1,fraction=0.29");
  Transformer<float> model(config);
  randomise(model);
  model.parameters()[static_cast<size_t>(model.layout().quantum->threshold)] = 0;
  const auto tokens = random_tokens(1100, 257, 4);
  for (const int threads : {2, 3}) {
    ThreadPool pool(threads);
    model.prepare(tt::Use::inference, pool);
    const Result want = alone(model, tokens, 0);
    Inference<float> inference(model, pool);
    EXPECT_EQ(in_pieces(inference, model, tokens, {1100}, 0), want);
    EXPECT_EQ(in_pieces(inference, model, tokens, {1, 600, 16, 483}, 0), want);
  }
}

TEST(Inference, RefusesWhatDoesNotFitAndGoesOn) {
  ThreadPool pool(2);
  Transformer<float> model(small_config(small_models().front()));
  randomise(model);
  model.prepare(tt::Use::inference, pool);
  Inference<float> inference(model, pool, kShareAll);
  auto cache = model.make_cache(24);
  Result result(model.config(), 25);
  const auto long_text = random_tokens(25, 257, 1);
  const Chunk<float> too_long{long_text, &cache};
  EXPECT_THROW(inference.forward({&too_long, 1}, 0, result.hidden_rows(model.config(), 0, 25)), InputError);
  const std::vector<int32_t> foreign = {1, 257};
  const Chunk<float> unknown{foreign, &cache};
  EXPECT_THROW(inference.forward({&unknown, 1}, 0, result.hidden_rows(model.config(), 0, 2)), InputError);
  EXPECT_EQ(cache.length(), 0);
  const Chunk<float> fits{std::span(long_text).first(2), &cache};
  inference.forward({&fits, 1}, 0, result.hidden_rows(model.config(), 0, 2));
  EXPECT_EQ(cache.length(), 2);
}

}  // namespace
}  // namespace qtf::model
