#include "qtf/adapt/latency.h"

#include <gtest/gtest.h>

#include "qtf/base/json.h"

namespace qtf::adapt {
namespace {

constexpr int64_t kBudgetNs = 1'000'000;

LatencyQuestion latency_question(int64_t measured_ns, int64_t mean) {
  return {.token = 8, .measured = measured_ns, .budget = kBudgetNs, .mean = mean, .asked = kUnit / 2};
}

TEST(Latency, FallsWhenSlowAndRisesWhenThereIsRoom) {
  const int64_t mean = kUnit / 4;
  EXPECT_EQ(decide_mean(latency_question(kBudgetNs + 1, mean)).mean, mean - kUnit / 16);
  EXPECT_EQ(decide_mean(latency_question(2 * kBudgetNs, mean)).mean, mean / 2)
      << "half of the time is too much";
  EXPECT_EQ(decide_mean(latency_question(kBudgetNs, mean)).mean, mean);
  EXPECT_EQ(decide_mean(latency_question(kBudgetNs / 10 * 9, mean)).mean, mean);
  EXPECT_EQ(decide_mean(latency_question(kBudgetNs / 10 * 9 - 1, mean)).mean, mean + kUnit / 64);
  EXPECT_EQ(decide_mean(latency_question(1, kUnit / 2 - 5)).mean, kUnit / 2) << "never above what was asked";
}

TEST(Latency, SaysWhenNothingIsLeftToGiveUp) {
  const LatencyDecision last = decide_mean(latency_question(2 * kBudgetNs, kUnit / 100));
  EXPECT_EQ(last.mean, kLeastMean);
  EXPECT_FALSE(last.too_slow);
  const LatencyDecision none = decide_mean(latency_question(2 * kBudgetNs, kLeastMean));
  EXPECT_EQ(none.mean, kLeastMean);
  EXPECT_TRUE(none.too_slow);
}

// A token whose time grows with its rank settles within the budget, from above and below.
TEST(Latency, ComesToTheBudget) {
  for (const int64_t start : {kLeastMean, kUnit / 2}) {
    int64_t mean = start;
    for (int64_t token = 0; token < 2000; token += kLatencyTokens) {
      const int64_t ns = kBudgetNs / 2 + 2 * kBudgetNs * (mean / 1000) / (kUnit / 1000);
      mean = decide_mean({RunBudget::time, token, ns, kBudgetNs, mean, kUnit / 2}).mean;
    }
    EXPECT_GT(mean, kUnit / 8) << "half a millisecond is at a quarter of the range";
    EXPECT_LE(mean, kUnit / 4);
  }
}

TEST(Latency, RecordHoldsAllInputsAsText) {
  EXPECT_EQ(to_json(decide_mean(latency_question(kBudgetNs, kUnit / 4))).dump(),
            R"({"decision":"mean_rank","token":"8","measured_ns":"1000000","budget_ns":"1000000",)"
            R"("mean_before":"250000000","asked":"500000000","mean":"250000000","too_slow":"0"})");
  LatencyQuestion energy = latency_question(kBudgetNs, kUnit / 4);
  energy.budget_of = RunBudget::energy;
  EXPECT_EQ(to_json(decide_mean(energy)).dump(),
            R"({"decision":"mean_rank","token":"8","measured_nj":"1000000","budget_nj":"1000000",)"
            R"("mean_before":"250000000","asked":"500000000","mean":"250000000","too_slow":"0"})");
}

}  // namespace
}  // namespace qtf::adapt
