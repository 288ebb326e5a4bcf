#include "qtf/model/budget_keeper.h"

#include <gtest/gtest.h>

namespace qtf::model {
namespace {

constexpr int64_t kMean = adapt::kUnit / 2;

adapt::Energy joules(double value) {
  return {value, value, value};
}

std::optional<adapt::Energy> none() {
  return {};
}

/// The changes that so many tokens of one length make.
std::vector<int64_t> changes(BudgetKeeper& keeper, int64_t tokens, int64_t ns,
                             const BudgetKeeper::EnergySoFar& energy = none) {
  std::vector<int64_t> means;
  for (int64_t i = 0; i < tokens; ++i)
    if (const auto mean = keeper.add(ns, energy)) means.push_back(*mean);
  return means;
}

TEST(BudgetKeeper, DecidesOnceInAFewTokens) {
  BudgetKeeper keeper({.token_ns = 1000}, 100, kMean);
  EXPECT_TRUE(changes(keeper, adapt::kLatencyTokens - 1, 2000).empty());
  EXPECT_TRUE(keeper.due());
  EXPECT_EQ(changes(keeper, 1, 2000), std::vector<int64_t>{kMean / 2});
  EXPECT_FALSE(keeper.due());
  EXPECT_EQ(keeper.mean(), kMean / 2);
  ASSERT_EQ(keeper.decisions.size(), 1U);
  EXPECT_EQ(keeper.decisions[0].question.token, adapt::kLatencyTokens);
}

TEST(BudgetKeeper, ReturnsToWhatWasAsked) {
  BudgetKeeper keeper({.token_ns = 1000}, 10'000, kMean);
  changes(keeper, adapt::kLatencyTokens, 2000);
  const std::vector<int64_t> up = changes(keeper, 40 * adapt::kLatencyTokens, 100);
  ASSERT_FALSE(up.empty());
  EXPECT_EQ(up.back(), kMean);
}

TEST(BudgetKeeper, SaysWhenNothingIsLeftToGiveUp) {
  BudgetKeeper keeper({.token_ns = 1}, 10'000, kMean);
  changes(keeper, 3 * adapt::kLatencyTokens, 1'000'000);
  EXPECT_EQ(keeper.mean(), adapt::kLeastMean);
  EXPECT_TRUE(keeper.decisions.back().too_slow);
}

// The first reading holds the prompt, so that the second is the first that tells of tokens.
TEST(BudgetKeeper, SpreadsTheEnergyThatIsLeft) {
  double used = 0.5;
  const auto meter = [&] { return std::optional(joules(used)); };
  BudgetKeeper keeper({.energy_nj = 1'000'000'000}, 101, kMean);
  EXPECT_TRUE(changes(keeper, adapt::kLatencyTokens, 1, meter).empty());
  used += 8 * 0.01;  // 84 tokens are left, for 0.42 J
  EXPECT_FALSE(changes(keeper, adapt::kLatencyTokens, 1, meter).empty());
  EXPECT_LT(keeper.mean(), kMean);
  EXPECT_EQ(keeper.decisions.back().question.measured, 10'000'000);
  EXPECT_EQ(keeper.decisions.back().question.budget, 5'000'000);
}

// A counter that did not move says nothing: the rank stays where it was driven to.
TEST(BudgetKeeper, StaysWhereAMeterIsSilent) {
  double used = 0.5;
  bool silent = false;
  const auto meter = [&] { return silent ? none() : std::optional(joules(used)); };
  BudgetKeeper keeper({.energy_nj = 1'000'000'000}, 101, kMean);
  changes(keeper, adapt::kLatencyTokens, 1, meter);
  used += 8 * 0.01;
  changes(keeper, adapt::kLatencyTokens, 1, meter);
  const int64_t mean = keeper.mean();
  ASSERT_LT(mean, kMean);
  silent = true;
  EXPECT_TRUE(changes(keeper, 3 * adapt::kLatencyTokens, 1, meter).empty());
  EXPECT_EQ(keeper.mean(), mean);
}

TEST(BudgetKeeper, LeavesTheRankWithoutABudgetOrAMeasurement) {
  BudgetKeeper no_budget({}, 100, kMean);
  EXPECT_TRUE(changes(no_budget, 100, 1'000'000).empty());
  BudgetKeeper no_meter({.energy_nj = 1}, 100, kMean);
  EXPECT_TRUE(changes(no_meter, 100, 1'000'000).empty());
  EXPECT_EQ(no_meter.mean(), kMean);
}

}  // namespace
}  // namespace qtf::model
