#include "qtf/model/rank_gate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qtf/base/error.h"
#include "qtf/model/output_signal.h"
#include "qtf/model/rank_calibration.h"
#include "qtf/model/small_model.h"

namespace qtf::model {
namespace {

std::vector<int64_t> sequence_ends(int64_t count, int64_t length) {
  std::vector<int64_t> ends;
  for (int64_t i = 1; i <= count; ++i) ends.push_back(i * length);
  return ends;
}

class GateTraining : public testing::Test {
 protected:
  GateTraining() : model_(small_config(small_models()[5])), pool_(2) {
    randomise(model_);
    model_.prepare(tt::Use::inference, pool_);
  }
  std::vector<std::vector<int64_t>> train(size_t sequences, ThreadPool& pool) {
    const auto count = static_cast<int64_t>(sequences);
    return train_gates(model_, random_tokens(sequences * 24, 257, 1), sequence_ends(count, 24), 1, pool);
  }
  /// Nats that each token but the first loses with one layer at level 1: KL of what is predicted.
  std::vector<double> lost(std::span<const int32_t> tokens, int64_t layer) {
    struct OneDown final : nn::LevelChooser<float> {
      int64_t down = -1;
      bool governs(int64_t) const override { return true; }
      void choose(const nn::Pass<float>& pass, int64_t at, const float*, ConstMatrix<float>, uint8_t* levels,
                  Arena&) override {
        std::fill_n(levels, pass.rows, static_cast<uint8_t>(at == down ? 1 : 4));
      }
    };
    const auto rows = static_cast<int64_t>(tokens.size());
    const auto logits_with = [&](int64_t down) {
      OneDown chooser;
      chooser.down = down;
      std::vector<float> hidden(static_cast<size_t>(rows * 16)), logits(static_cast<size_t>(rows * 257));
      model_.hidden_states({tokens, tokens, 1, rows}, chooser, {hidden.data(), rows, 16}, arena_);
      model_.logits({hidden.data(), rows, 16}, 0, {logits.data(), rows, 257}, arena_);
      return logits;
    };
    const std::vector<float> p = logits_with(-1), q = logits_with(layer);
    std::vector<double> nats;
    for (int64_t t = 1; t < rows; ++t) {
      double of_p = 0, of_q = 0, sum = 0;
      for (int64_t v = 0; v < 257; ++v) {
        of_p += std::exp(static_cast<double>(p[static_cast<size_t>(t * 257 + v)]));
        of_q += std::exp(static_cast<double>(q[static_cast<size_t>(t * 257 + v)]));
      }
      for (int64_t v = 0; v < 257; ++v) {
        const double a = static_cast<double>(p[static_cast<size_t>(t * 257 + v)]) - std::log(of_p);
        const double b = static_cast<double>(q[static_cast<size_t>(t * 257 + v)]) - std::log(of_q);
        sum += std::exp(a) * (a - b);
      }
      nats.push_back(sum);
    }
    return nats;
  }

  Transformer<float> model_;
  ThreadPool pool_;
  Arena arena_;
};

TEST_F(GateTraining, DoesNotDependOnThreads) {
  ThreadPool one(1);
  EXPECT_EQ(train(20, pool_), train(20, one));
}

// On tokens that it was not trained on: those that the gate puts above the middle lose more.
TEST_F(GateTraining, ItPutsTokensFirstThatLoseMore) {
  const auto gates = train(60, pool_);
  ASSERT_EQ(gates.size(), 2U);
  for (int64_t layer = 0; layer < 2; ++layer) {
    ASSERT_EQ(gates[static_cast<size_t>(layer)].size(), 18U);
    ModelConfig config = model_.config();
    RankPolicy policy;
    policy.signal = adapt::RankSignal::gate;
    for (int64_t l = 0; l < 2; ++l)
      policy.layers.push_back({{-2 * adapt::kUnit, -2 * adapt::kUnit, -2 * adapt::kUnit},
                               {0, adapt::kUnit},
                               gates[static_cast<size_t>(l)]});
    config.rank_policy = policy;
    const RankScheduler scheduler(config, {{adapt::RankSignal::gate}, {}, {}, {}});
    double high = 0, low = 0;
    int64_t highs = 0, lows = 0;
    for (uint64_t text = 0; text < 20; ++text) {
      const auto tokens = random_tokens(24, 257, 500 + text);
      std::vector<float> hidden(24 * 16);
      std::vector<int64_t> signals(2 * 24);
      model_.hidden_states({tokens, tokens, 1, 24}, {0, &scheduler, nullptr, signals.data()},
                           {hidden.data(), 24, 16}, arena_);
      const std::vector<double> nats = lost(tokens, layer);
      for (int64_t t = 1; t < 24; ++t) {
        const bool above = signals[static_cast<size_t>(layer * 24 + t)] > adapt::kUnit / 2;
        (above ? high : low) += nats[static_cast<size_t>(t - 1)];
        ++(above ? highs : lows);
      }
    }
    ASSERT_GT(highs, 40);
    ASSERT_GT(lows, 40);
    EXPECT_GT(high / static_cast<double>(highs), 1.05 * low / static_cast<double>(lows)) << layer;
  }
}

TEST_F(GateTraining, ItsLevelIsTheOneBelowTheMean) {
  const std::vector<int64_t> places{0, adapt::kUnit / 6, adapt::kUnit / 2, adapt::kUnit};
  const int want[] = {1, 2, 2, 3, 3};
  int i = 0;
  for (const double mean : {0.1, 0.2, 0.4, 0.5, 0.99})
    EXPECT_EQ(level_below(places, adapt::to_units(mean)), want[i++]) << mean;
}

TEST(OutputSignal, EntropyAndSurpriseOfAKnownOutput) {
  const std::vector<double> logits{std::log(0.5) + 3, std::log(0.25) + 3, std::log(0.25) + 3};
  EXPECT_NEAR(output_signal<double>(adapt::RankSignal::output, logits, 0), 1.5 * std::log(2) / std::log(3),
              1e-12);
  EXPECT_NEAR(output_signal<double>(adapt::RankSignal::surprise, logits, 0), std::log(2) / (1 + std::log(2)),
              1e-12);
  EXPECT_GT(output_signal<double>(adapt::RankSignal::surprise, logits, 2),
            output_signal<double>(adapt::RankSignal::surprise, logits, 0));
  const std::vector<double> even(8, 1.0);
  EXPECT_NEAR(output_signal<double>(adapt::RankSignal::output, even, 0), 1, 1e-12);
}

}  // namespace
}  // namespace qtf::model
