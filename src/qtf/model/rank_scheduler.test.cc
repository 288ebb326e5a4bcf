#include "qtf/model/rank_scheduler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "qtf/base/error.h"
#include "qtf/model/inference.h"
#include "qtf/model/rank_calibration.h"
#include "qtf/model/rank_mix.h"
#include "qtf/model/small_model.h"

namespace qtf::model {
namespace {

constexpr int64_t kRankedContext = 24;

/// The end of each of `count` sequences of `length` tokens.
std::vector<int64_t> equal_ends(int64_t count, int64_t length) {
  std::vector<int64_t> ends;
  for (int64_t i = 1; i <= count; ++i) ends.push_back(i * length);
  return ends;
}

std::vector<SmallModel> models_with_levels() {
  std::vector<SmallModel> some;
  for (const SmallModel& small : small_models())
    if (small.levels > 1) some.push_back(small);
  return some;
}

class ModelWithLevels : public testing::TestWithParam<SmallModel> {
 protected:
  ModelWithLevels() : model_(small_config(GetParam())), config_(model_.config()), pool_(1) {
    randomise(model_);
    model_.prepare(tt::Use::inference, pool_);
    config_.rank_policy = calibrated(adapt::RankSignal::entropy);
  }

  RankPolicy calibrated(adapt::RankSignal signal, int threads = 1) {
    ThreadPool pool(threads);
    return calibrate_ranks(model_, random_tokens(24 * 20, 257, 1), equal_ends(20, 24), {.signal = signal},
                           pool);
  }

  RankScheduler scheduler(const char* policy, int64_t hysteresis = 0, int64_t mean = adapt::kUnit / 2,
                          int64_t alpha = 0) {
    const adapt::RankPolicyChoice choice = adapt::parse_rank_policy(policy, level_count(config_));
    ModelConfig config = config_;
    if (adapt::info(choice.signal).calibrated && choice.signal != adapt::RankSignal::entropy)
      config.rank_policy = calibrated(choice.signal);
    return {config, {choice, mean, alpha, hysteresis}};
  }

  Transformer<float> model_;
  ModelConfig config_;  ///< the model's, calibrated
  ThreadPool pool_;
};
INSTANTIATE_TEST_SUITE_P(Table, ModelWithLevels, testing::ValuesIn(models_with_levels()),
                         [](const auto& param_info) { return param_info.param.name; });

/// Hidden states, and every token's level by layer.
struct RankedResult {
  std::vector<float> hidden;
  std::vector<int> levels;  // [layers, tokens]
  bool operator==(const RankedResult&) const = default;
};

std::vector<int> cached_levels(const ModelConfig& config, const nn::KvCache<float>& cache) {
  std::vector<int> levels;
  for (int64_t layer = 0; layer < config.layers; ++layer)
    for (int64_t t = 0; t < cache.length(); ++t) levels.push_back(cache.level(layer, t));
  return levels;
}

/// A whole sequence by one thread without a cache.
RankedResult ranked_alone(const Transformer<float>& model, std::span<const int32_t> tokens,
                          const RankScheduler& scheduler) {
  const ModelConfig& config = model.config();
  const auto rows = static_cast<int64_t>(tokens.size());
  RankedResult result{std::vector<float>(tokens.size() * static_cast<size_t>(config.width)), {}};
  std::vector<uint8_t> chosen(static_cast<size_t>(config.layers * rows));
  Arena arena;
  model.hidden_states({tokens, tokens, 1, rows}, {0, &scheduler, chosen.data()},
                      {result.hidden.data(), rows, config.width}, arena);
  result.levels.assign(chosen.begin(), chosen.end());
  return result;
}

struct NamedPolicy {
  const char* name;
  int64_t hysteresis;
};
const NamedPolicy kPolicies[] = {{"entropy", 0},
                                 {"entropy", adapt::kUnit / 10},
                                 {"random", 0},
                                 {"random", adapt::kUnit / 5},
                                 {"gate", adapt::kUnit / 10},
                                 {"output", 0},
                                 {"surprise", adapt::kUnit / 10},
                                 {"fixed:2", 0}};

// DESIGN's batch-invariance with levels: the same bits and the same levels whole, in chunks, token by token
// and after a cache was cut back, by any number of threads, and as without a cache.
TEST_P(ModelWithLevels, WholeChunkedAndTokenByTokenHaveTheSameBitsAndLevels) {
  const auto tokens = random_tokens(24, 257, 3);
  for (const NamedPolicy& policy : kPolicies) {
    const RankScheduler ranks = scheduler(policy.name, policy.hysteresis);
    const RankedResult want = ranked_alone(model_, tokens, ranks);
    for (const int threads : {1, 2, 5}) {
      ThreadPool pool(threads);
      Inference<float> inference(model_, pool, {.macs_per_worker = 1});
      for (const std::vector<int64_t>& pieces :
           {std::vector<int64_t>{24}, {12, 12}, {17, 1, 6}, std::vector<int64_t>(24, 1)}) {
        RankedResult got{std::vector<float>(want.hidden.size()), {}};
        auto cache = model_.make_cache(kRankedContext);
        const auto extend = [&](int64_t rows) {
          const auto at = static_cast<size_t>(cache.length());
          const Chunk<float> chunk{std::span(tokens).subspan(at, static_cast<size_t>(rows)), &cache};
          inference.forward({&chunk, 1}, {0, &ranks},
                            {got.hidden.data() + cache.length() * config_.width, rows, config_.width});
        };
        for (const int64_t rows : pieces) extend(rows);
        got.levels = cached_levels(config_, cache);
        EXPECT_EQ(got, want) << policy.name << ", " << threads << " threads, " << pieces.size() << " pieces";
        cache.truncate(9);
        extend(15);
        got.levels = cached_levels(config_, cache);
        EXPECT_EQ(got, want) << policy.name << ", cut back and extended again";
      }
    }
  }
}

TEST_P(ModelWithLevels, ABatchHasTheBitsAndLevelsOfEachAlone) {
  for (const NamedPolicy& policy : kPolicies) {
    const RankScheduler ranks = scheduler(policy.name, policy.hysteresis);
    for (const int threads : {1, 2, 5}) {
      ThreadPool pool(threads);
      Inference<float> inference(model_, pool, {.macs_per_worker = 1});
      for (const size_t sequences : {4, 64}) {  // by columns and by rows
        std::vector<std::vector<int32_t>> texts;
        std::vector<nn::KvCache<float>> caches;
        for (size_t i = 0; i < sequences; ++i) {
          texts.push_back(random_tokens(2 + i % 7, 257, 100 + i));
          caches.push_back(model_.make_cache(kRankedContext));
        }
        // All but the last tokens, then one more each: as batched decoding does.
        std::vector<std::vector<float>> hidden(sequences);
        for (const bool last : {false, true}) {
          std::vector<Chunk<float>> chunks;
          int64_t rows = 0;
          for (size_t i = 0; i < sequences; ++i) {
            const auto text = std::span<const int32_t>(texts[i]);
            chunks.push_back({last ? text.last(1) : text.first(text.size() - 1), &caches[i]});
            rows += static_cast<int64_t>(chunks.back().tokens.size());
          }
          std::vector<float> all(static_cast<size_t>(rows * config_.width));
          inference.forward(chunks, {0, &ranks}, {all.data(), rows, config_.width});
          auto at = all.begin();
          for (size_t i = 0; i < sequences; ++i) {
            const auto size = static_cast<std::ptrdiff_t>(chunks[i].tokens.size()) * config_.width;
            hidden[i].insert(hidden[i].end(), at, at + size);
            at += size;
          }
        }
        for (size_t i = 0; i < sequences; ++i) {
          const RankedResult got{hidden[i], cached_levels(config_, caches[i])};
          EXPECT_EQ(got, ranked_alone(model_, texts[i], ranks))
              << policy.name << ", " << threads << " threads, sequence " << i << " of " << sequences;
        }
      }
    }
  }
}

// Causal: what comes later changes no level before.
TEST_P(ModelWithLevels, LaterTokensChangeNothingBefore) {
  const RankScheduler ranks = scheduler("entropy", adapt::kUnit / 10);
  auto tokens = random_tokens(24, 257, 3);
  const RankedResult before = ranked_alone(model_, tokens, ranks);
  std::fill(tokens.begin() + 12, tokens.end(), 7);
  const RankedResult after = ranked_alone(model_, tokens, ranks);
  EXPECT_TRUE(
      std::equal(before.hidden.begin(), before.hidden.begin() + 12 * config_.width, after.hidden.begin()));
  EXPECT_NE(before.hidden, after.hidden);
}

TEST_P(ModelWithLevels, TheMeanRankOfTheCalibrationTextIsTheOneAskedFor) {
  const auto tokens = random_tokens(24 * 20, 257, 1);
  for (const char* policy : {"entropy", "random"}) {
    for (const int64_t tenths : {2, 5, 8}) {
      const RankScheduler ranks = scheduler(policy, 0, tenths * adapt::kUnit / 10);
      RankMix mix(ranks, config_.layers);
      for (size_t i = 0; i < 20; ++i) {
        const RankedResult one = ranked_alone(model_, std::span(tokens).subspan(24 * i, 24), ranks);
        for (int64_t layer = 0; layer < config_.layers; ++layer) {
          EXPECT_EQ(one.levels[static_cast<size_t>(24 * layer)], ranks.levels()) << "the first takes all";
          for (size_t t = 1; t < 24; ++t) mix.add(layer, one.levels[24 * static_cast<size_t>(layer) + t]);
        }
      }
      // A share of 920 tokens; the entropies are those at a mean rank of one half.
      EXPECT_NEAR(mix.mean_rank(ranks), static_cast<double>(tenths) / 10, 0.08) << policy;
      EXPECT_EQ(mix.total(), 23 * 20 * config_.layers);
      double shares = 0;
      for (int level = 1; level <= ranks.levels(); ++level) shares += mix.share(level);
      EXPECT_NEAR(shares, 1, 1e-12);
    }
  }
}

TEST_P(ModelWithLevels, HysteresisChangesLevelsLessOften) {
  const auto changes = [&](int64_t hysteresis) {
    const RankScheduler ranks = scheduler("entropy", hysteresis);
    int64_t count = 0;
    for (uint64_t text = 0; text < 10; ++text) {
      const RankedResult one = ranked_alone(model_, random_tokens(24, 257, 60 + text), ranks);
      for (size_t i = 1; i < one.levels.size(); ++i) count += one.levels[i] != one.levels[i - 1];
    }
    return count;
  };
  EXPECT_LT(changes(adapt::kUnit / 5), changes(0));
}

TEST_P(ModelWithLevels, CalibrationDoesNotDependOnThreads) {
  for (const adapt::RankPolicyInfo& policy : adapt::rank_policies()) {
    if (!policy.calibrated || policy.source == adapt::RankSource::circuit) continue;
    EXPECT_EQ(calibrated(policy.signal, 3), calibrated(policy.signal)) << policy.name;
  }
}

// Every signal comes to its mean rank on the text that it was calibrated on.
TEST_P(ModelWithLevels, EverySignalKeepsTheMeanRank) {
  for (const char* policy : {"entropy", "gate", "output", "surprise"}) {
    const RankScheduler ranks = scheduler(policy, 0, adapt::kUnit * 6 / 10, adapt::kUsualAlpha);
    RankMix mix(ranks, config_.layers);
    const auto text = random_tokens(24 * 20, 257, 1);
    for (size_t i = 0; i < 20; ++i) {
      const RankedResult one = ranked_alone(model_, std::span(text).subspan(24 * i, 24), ranks);
      for (int64_t layer = 0; layer < config_.layers; ++layer)
        for (size_t t = 1; t < 24; ++t)
          if (ranks.governs(layer)) mix.add(layer, one.levels[static_cast<size_t>(layer) * 24 + t]);
    }
    EXPECT_NEAR(mix.mean_rank(ranks), 0.6, 0.06) << policy;
  }
}

/// "llama_levels": only the feed-forward layers and the head have levels.
class RankSchedulerOf : public testing::Test {
 protected:
  RankSchedulerOf() : model_(small_config(small_models()[5])), pool_(1) {
    randomise(model_);
    model_.prepare(tt::Use::inference, pool_);
  }
  Transformer<float> model_;
  ThreadPool pool_;
};

TEST_F(RankSchedulerOf, FixedIsTheLevelItself) {
  ASSERT_EQ(small_models()[5].name, "llama_levels");
  const auto tokens = random_tokens(20, 257, 3);
  for (int level = 1; level <= 4; ++level) {
    const RankScheduler ranks(model_.config(), {{adapt::RankSignal::fixed, level}, {}, {}, {}});
    std::vector<float> want(20 * 16);
    Arena arena;
    model_.hidden_states({tokens, tokens, 1, 20}, level, {want.data(), 20, 16}, arena);
    EXPECT_EQ(ranked_alone(model_, tokens, ranks).hidden, want) << level;
  }
}

TEST_F(RankSchedulerOf, SeedsDrawOtherTokens) {
  const auto tokens = random_tokens(24, 257, 3);
  const auto levels = [&](uint64_t seed) {
    const RankScheduler ranks(model_.config(), {{adapt::RankSignal::random}, {}, {}, {}, seed});
    return ranked_alone(model_, tokens, ranks).levels;
  };
  EXPECT_EQ(levels(1), levels(1));
  EXPECT_NE(levels(1), levels(2));
}

TEST_F(RankSchedulerOf, PlacesAreSharesOfTheRange) {
  const std::vector<int64_t> places = level_places(model_.config(), 1);
  ASSERT_EQ(places.size(), 4U);  // ranks 2, 4, 6, 8
  for (size_t k = 0; k < 4; ++k)
    EXPECT_NEAR(static_cast<double>(places[k]), static_cast<double>(k) / 3 * 1e9, 1) << k;
  EXPECT_EQ(block_rank(model_.config(), 1, 1), 2);
  EXPECT_EQ(block_rank(model_.config(), 1, 0), 8);
  EXPECT_TRUE(level_places(small_config(small_models()[0]), 0).empty());
}

std::string scheduler_error(const ModelConfig& config, const RankOptions& options) {
  try {
    const RankScheduler ranks(config, options);
  } catch (const InputError& error) {
    return error.what();
  }
  return {};
}

TEST_F(RankSchedulerOf, SaysWhatIsMissing) {
  const ModelConfig& config = model_.config();
  const RankOptions entropy{{adapt::RankSignal::entropy}, {}, {}, {}};
  EXPECT_NE(scheduler_error(small_config(small_models()[0]), entropy).find("qtf compress --levels"),
            std::string::npos);
  ModelConfig only_head = config;
  only_head.shapes = {{"lm_head", config.shapes.at("lm_head")}};
  EXPECT_NE(scheduler_error(only_head, entropy).find("no nested levels"), std::string::npos);
  EXPECT_NE(scheduler_error(config, entropy).find("qtf calibrate MODEL --text FILE"), std::string::npos);
  for (const int64_t mean : {int64_t{0}, adapt::kUnit})
    EXPECT_NE(scheduler_error(config, {{adapt::RankSignal::random}, mean, {}, {}}).find("mean rank"),
              std::string::npos);
}

/// Four blocks of four levels and a quantum layer after the third's attention.
ModelConfig circuit_config() {
  ModelConfig config = small_config(small_models()[5]);
  config.layers = 4;
  config.shapes.clear();
  apply_shape_requests(config, {"ffn=chain:rank=8"});
  apply_levels(config, 4);
  config.quantum = parse_quantum("qubits=4,layers=2,fraction=0.29");
  return config;
}

class CircuitSignal : public testing::Test {
 protected:
  CircuitSignal() : model_(circuit_config()), pool_(1) {
    randomise(model_);
    model_.quantum()->prepare();
    model_.prepare(tt::Use::inference, pool_);
    config_ = model_.config();
    config_.rank_policy = calibrate_ranks(model_, random_tokens(24 * 20, 257, 1), equal_ends(20, 24),
                                          {.signal = adapt::RankSignal::circuit}, pool_);
  }
  Transformer<float> model_;
  ModelConfig config_;
  ThreadPool pool_;
};

TEST_F(CircuitSignal, RoutedTokensAfterTheCircuitGoByTheirStatesOthersByAttention) {
  for (size_t layer = 0; layer < 4; ++layer)
    EXPECT_EQ(config_.rank_policy->layers[layer].circuit.empty(), layer <= 2) << layer;
  const RankScheduler ranks(config_, {{adapt::RankSignal::circuit}, {}, {}, {}});
  int64_t seen = 0;
  for (uint64_t text = 0; text < 8; ++text) {
    const auto tokens = random_tokens(24, 257, text);
    std::vector<float> hidden(24 * 16), entropy(4 * 24), nats(24);
    std::vector<uint8_t> routed(24), chosen(4 * 24);
    std::vector<int64_t> signals(4 * 24);
    Arena arena;
    model_.hidden_states({tokens, tokens, 1, 24}, {0, &ranks, chosen.data(), signals.data()},
                         {hidden.data(), 24, 16}, arena, {entropy.data(), 4, 24},
                         {.routed = routed.data(), .circuit_entropy = nats.data()});
    for (int64_t layer = 0; layer < 4; ++layer) {
      const RankPolicy::Layer& of = config_.rank_policy->layers[static_cast<size_t>(layer)];
      for (size_t t = 1; t < 24; ++t) {
        const auto at = static_cast<size_t>(layer) * 24 + t;
        const bool circuit = layer > 2 && routed[t] != 0;
        EXPECT_EQ(signals[at] >= 0, circuit) << layer << " " << t;
        if (circuit) {
          EXPECT_NEAR(static_cast<double>(signals[at]) * 8e-9 * std::log(2.0), nats[t], 1e-5);
        }
        seen += circuit;
        const int64_t attention = adapt::to_units(static_cast<double>(entropy[at]));
        const int64_t standing =
            circuit ? adapt::rank_of({of.circuit}, signals[at]) : adapt::rank_of({of.quantiles}, attention);
        EXPECT_EQ(chosen[at], ranks.decide(layer, static_cast<int64_t>(t), standing, 0).level);
      }
    }
  }
  EXPECT_GT(seen, 0);
}

TEST_F(CircuitSignal, WholeInChunksAndInABatchHaveTheSameBits) {
  const RankScheduler ranks(config_, {{adapt::RankSignal::circuit}, {}, {}, {}});
  const auto tokens = random_tokens(24, 257, 3);
  const RankedResult want = ranked_alone(model_, tokens, ranks);
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    Inference<float> inference(model_, pool, {.macs_per_worker = 1});
    for (const std::vector<int64_t>& pieces :
         {std::vector<int64_t>{24}, {12, 12}, {17, 1, 6}, std::vector<int64_t>(24, 1)}) {
      RankedResult got{std::vector<float>(want.hidden.size()), {}};
      auto cache = model_.make_cache(kRankedContext);
      for (const int64_t rows : pieces) {
        const auto at = static_cast<size_t>(cache.length());
        const Chunk<float> chunk{std::span(tokens).subspan(at, static_cast<size_t>(rows)), &cache};
        inference.forward({&chunk, 1}, {0, &ranks}, {got.hidden.data() + at * 16, rows, 16});
      }
      got.levels = cached_levels(config_, cache);
      EXPECT_EQ(got, want) << threads << " threads, " << pieces.size() << " pieces";
    }
  }
}

TEST_F(RankSchedulerOf, ASignalThatTheModelCannotHaveIsRefused) {
  EXPECT_NE(scheduler_error(model_.config(), {{adapt::RankSignal::circuit}, {}, {}, {}}).find("no quantum"),
            std::string::npos);
  EXPECT_NE(scheduler_error(model_.config(), {{adapt::RankSignal::gate}, {}, {}, {}}).find("--signal gate"),
            std::string::npos);
  const auto tokens = random_tokens(24, 257, 1);
  EXPECT_THROW(
      calibrate_ranks(model_, tokens, equal_ends(1, 24), {.signal = adapt::RankSignal::circuit}, pool_),
      InputError);
  EXPECT_EQ(own_policy(model_.config()).signal, adapt::kUsualSignal);
}

TEST_F(RankSchedulerOf, ItsCalibrationSaysWhatIsWrong) {
  Transformer<float> dense(small_config(small_models()[0]));
  dense.prepare(tt::Use::inference, pool_);
  const auto tokens = random_tokens(25, 257, 1);
  EXPECT_THROW(calibrate_ranks(dense, tokens, equal_ends(1, 24), {}, pool_), InputError);
  EXPECT_THROW(calibrate_ranks(model_, tokens, equal_ends(1, 25), {}, pool_), InputError)
      << "beyond the context";
  EXPECT_THROW(calibrate_ranks(model_, tokens, equal_ends(1, 1), {}, pool_), InputError) << "one token";
  EXPECT_THROW(calibrate_ranks(model_, tokens, equal_ends(1, 24), {.mean = 0}, pool_), InputError);
}

}  // namespace
}  // namespace qtf::model
