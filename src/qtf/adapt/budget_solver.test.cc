#include "qtf/adapt/budget_solver.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <optional>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/base/random.h"

namespace qtf::adapt {
namespace {

/// Parts whose larger choices cost more and lose less, with some disorder.
BudgetQuestion random_question(uint64_t seed, size_t parts, size_t choices, size_t limits, double tightness) {
  const Random random{seed, 3};
  uint64_t n = 0;
  const auto below = [&](int64_t bound) {
    return static_cast<int64_t>(random.below(n++, static_cast<uint64_t>(bound)));
  };
  BudgetQuestion question{"loss", {}, {}};
  std::vector<int64_t> most(limits, 0), least(limits, 0);
  for (size_t p = 0; p < parts; ++p) {
    BudgetPart part{"map" + std::to_string(p), {}};
    std::vector<int64_t> largest(limits, 0), smallest(limits, int64_t{1} << 40);
    for (size_t c = 0; c < choices; ++c) {
      const auto size = static_cast<int64_t>(c + 1);
      BudgetChoice choice{"size" + std::to_string(c), 100'000 / size + below(20'000), {}};
      for (size_t k = 0; k < limits; ++k) {
        choice.costs.push_back(size * 1000 + below(1500) * static_cast<int64_t>(k + 1));
        largest[k] = std::max(largest[k], choice.costs[k]),
        smallest[k] = std::min(smallest[k], choice.costs[k]);
      }
      part.choices.push_back(std::move(choice));
    }
    for (size_t k = 0; k < limits; ++k) most[k] += largest[k], least[k] += smallest[k];
    question.parts.push_back(std::move(part));
  }
  for (size_t k = 0; k < limits; ++k) {
    const double share = tightness * (0.8 + 0.4 * static_cast<double>(below(1000)) / 1000);
    question.limits.push_back(
        {"limit" + std::to_string(k),
         500 + least[k] + static_cast<int64_t>(share * static_cast<double>(most[k] - least[k])), 500});
  }
  return question;
}

/// The least value within the limits by trying every selection.
std::optional<int64_t> exhaustive(const BudgetQuestion& question) {
  std::optional<int64_t> best;
  std::vector<int64_t> sums;
  for (const BudgetLimit& limit : question.limits) sums.push_back(limit.fixed);
  const std::function<void(size_t, int64_t)> visit = [&](size_t p, int64_t value) {
    if (best && value >= *best) return;  // values only grow
    for (size_t k = 0; k < sums.size(); ++k)
      if (sums[k] > question.limits[k].limit) return;
    if (p == question.parts.size()) {
      best = value;
      return;
    }
    for (const BudgetChoice& choice : question.parts[p].choices) {
      for (size_t k = 0; k < sums.size(); ++k) sums[k] += choice.costs[k];
      visit(p + 1, value + choice.value);
      for (size_t k = 0; k < sums.size(); ++k) sums[k] -= choice.costs[k];
    }
  };
  visit(0, 0);
  return best;
}

void expect_consistent(const BudgetAnswer& answer) {
  int64_t value = 0;
  std::vector<int64_t> totals;
  for (const BudgetLimit& limit : answer.question.limits) totals.push_back(limit.fixed);
  ASSERT_EQ(answer.chosen.size(), answer.question.parts.size());
  for (size_t p = 0; p < answer.chosen.size(); ++p) {
    const BudgetChoice& choice = answer.question.parts[p].choices.at(static_cast<size_t>(answer.chosen[p]));
    value += choice.value;
    for (size_t k = 0; k < totals.size(); ++k) totals[k] += choice.costs[k];
  }
  EXPECT_EQ(answer.value, value);
  EXPECT_EQ(answer.totals, totals);
  for (size_t k = 0; k < totals.size(); ++k) EXPECT_LE(totals[k], answer.question.limits[k].limit);
  EXPECT_LE(answer.bound, answer.value);
}

TEST(BudgetSolver, EqualsExhaustiveSearch) {
  int infeasible = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const size_t limits = 1 + seed % 4, parts = 2 + seed % 6;
    const size_t choices = parts <= 4 ? 8 : 6;  // at most 6^7 = 279,936
    const double tightness = seed % 5 == 0 ? 0.04 : 0.15 * static_cast<double>(1 + seed % 5);
    const BudgetQuestion question = random_question(seed, parts, choices, limits, tightness);
    const BudgetAnswer answer = solve_budgets(question);
    const std::optional<int64_t> best = exhaustive(question);
    ASSERT_EQ(answer.feasible, best.has_value()) << seed;
    infeasible += !answer.feasible;
    if (!answer.feasible) continue;
    EXPECT_TRUE(answer.optimal) << seed;
    EXPECT_EQ(answer.value, *best) << "seed " << seed << ", " << limits << " limits";
    expect_consistent(answer);
  }
  EXPECT_GT(infeasible, 0);
  EXPECT_LT(infeasible, 150);
}

TEST(BudgetSolver, EqualsExhaustiveSearchOfAMillionSelections) {
  for (const size_t limits : {1, 2, 4}) {
    const BudgetQuestion question = random_question(77 + limits, 6, 10, limits, 0.4);
    const BudgetAnswer answer = solve_budgets(question);
    ASSERT_TRUE(answer.feasible);
    EXPECT_EQ(answer.value, exhaustive(question).value()) << limits;
    EXPECT_TRUE(answer.optimal);
  }
}

TEST(BudgetSolver, SolvesAModelsTableInSecondsNearTheBound) {
  for (const size_t limits : {1, 2, 3}) {
    const BudgetQuestion question = random_question(5, 100, 60, limits, 0.3);
    const auto begin = std::chrono::steady_clock::now();
    const BudgetAnswer answer = solve_budgets(question);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    ASSERT_TRUE(answer.feasible);
    expect_consistent(answer);
    EXPECT_LT(gap(answer), 0.01) << limits;
    EXPECT_LT(seconds, 10) << limits;
    RecordProperty("seconds_" + std::to_string(limits), std::to_string(seconds));
    RecordProperty("gap_" + std::to_string(limits), std::to_string(gap(answer)));
  }
}

/// Two sizes each: {value 10, cost 1} or {value 0, cost 5}.
BudgetQuestion two_maps(int64_t limit) {
  const BudgetPart part{"map", {{"small", 10, {1}}, {"large", 0, {5}}}};
  return {"loss", {{"latency_ns", limit, 2}}, {part, part}};
}

TEST(BudgetSolver, NamesTheLimitThatBindsAndTheNearestThatCanBeKept) {
  const BudgetAnswer answer = solve_budgets(two_maps(3));
  EXPECT_FALSE(answer.feasible);
  EXPECT_EQ(answer.nearest, (std::vector<NearestLimit>{{0, 4}}));
  EXPECT_TRUE(solve_budgets(two_maps(4)).feasible);
}

TEST(BudgetSolver, FindsWhichOfTwoConflictingLimitsGivesWayTheLeast) {
  // Whoever saves memory takes time.
  const BudgetPart part{"map", {{"a", 0, {10, 100}}, {"b", 0, {11, 90}}, {"c", 0, {100, 10}}}};
  BudgetQuestion question{"loss", {{"bytes", 10, 0}, {"latency_ns", 95, 0}}, {part}};
  BudgetAnswer answer = solve_budgets(question);
  EXPECT_FALSE(answer.feasible);
  EXPECT_EQ(answer.nearest, (std::vector<NearestLimit>{{1, 100}}));  // 5 % more; bytes would need 10 %
  question.limits[1].limit = 100;
  EXPECT_TRUE(solve_budgets(question).feasible);
  question.limits = {{"bytes", 5, 0}, {"latency_ns", 5, 0}};  // neither can be kept alone
  answer = solve_budgets(question);
  ASSERT_EQ(answer.nearest.size(), 2U);
  for (const NearestLimit& nearest : answer.nearest) question.limits[nearest.limit].limit = nearest.value;
  EXPECT_TRUE(solve_budgets(question).feasible);
}

TEST(BudgetSolver, NearestLimitsCanBeKept) {
  int checked = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    BudgetQuestion question = random_question(seed + 900, 4, 5, 1 + seed % 3, 0.02);
    for (BudgetLimit& limit : question.limits) limit.limit = limit.limit * (seed % 2 ? 7 : 10) / 10;
    const BudgetAnswer answer = solve_budgets(question);
    if (answer.feasible) continue;
    ++checked;
    ASSERT_FALSE(answer.nearest.empty());
    for (const NearestLimit& nearest : answer.nearest) {
      EXPECT_GT(nearest.value, question.limits[nearest.limit].limit);
      question.limits[nearest.limit].limit = nearest.value;
    }
    EXPECT_TRUE(solve_budgets(question).feasible) << seed;
  }
  EXPECT_GT(checked, 20);
}

TEST(BudgetSolver, TakesTheBestOfEverythingWithoutLimits) {
  BudgetQuestion question = two_maps(100);
  EXPECT_EQ(solve_budgets(question).value, 0);
  question.limits.clear();
  for (BudgetPart& part : question.parts)
    for (BudgetChoice& choice : part.choices) choice.costs.clear();
  const BudgetAnswer answer = solve_budgets(question);
  EXPECT_EQ(answer.value, 0);
  EXPECT_TRUE(answer.optimal);
  EXPECT_EQ(gap(answer), 0);
}

TEST(BudgetSolver, RefusesWhatIsNoQuestion) {
  const auto refused = [](auto change) {
    BudgetQuestion question = two_maps(10);
    change(question);
    EXPECT_THROW(solve_budgets(question), InputError);
  };
  refused([](BudgetQuestion& q) { q.parts[0].choices.clear(); });
  refused([](BudgetQuestion& q) { q.parts[0].choices[0].costs.clear(); });
  refused([](BudgetQuestion& q) { q.parts[0].choices[0].costs[0] = -1; });
  refused([](BudgetQuestion& q) { q.parts[0].choices[0].value = int64_t{1} << 49; });
  refused([](BudgetQuestion& q) { q.limits[0].limit = -1; });
  refused([](BudgetQuestion& q) { q.limits.resize(6); });
}

TEST(BudgetSolver, RecordsItsInputsAndItsAnswer) {
  const auto json = to_json(solve_budgets(two_maps(9)));
  EXPECT_EQ(json["decision"], "budget");
  EXPECT_EQ(json["feasible"], "yes");
  EXPECT_EQ(json["total_value"], "10");
  EXPECT_EQ(json["limits"][0]["at_most"], "9");
  EXPECT_EQ(json["limits"][0]["total"], "8");
  EXPECT_EQ(json["maps"].size(), 2U);
  const auto infeasible = to_json(solve_budgets(two_maps(3)));
  EXPECT_EQ(infeasible["nearest"][0]["at_least"], "4");
  EXPECT_EQ(infeasible["maps"].size(), 0U);
}

}  // namespace
}  // namespace qtf::adapt
