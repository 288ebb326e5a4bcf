#include "qtf/adapt/allocation.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/base/random.h"

namespace qtf::adapt {
namespace {

/// Parts whose choices cost and lose random amounts, convex or not.
AllocationQuestion random_question(uint64_t seed, size_t parts, size_t choices) {
  const Random random{seed, 3};
  uint64_t draw = 0;
  AllocationQuestion question;
  question.fixed_cost = 7;
  for (size_t p = 0; p < parts; ++p) {
    SizedPart part{fmt::format("part{}", p), {}};
    for (size_t c = 0; c < choices; ++c)
      part.choices.push_back({fmt::format("c{}", c), static_cast<int64_t>(random.below(draw++, 50)),
                              static_cast<int64_t>(random.below(draw++, 1000))});
    question.parts.push_back(part);
  }
  question.budget = 7 + static_cast<int64_t>(parts) * 20;
  return question;
}

/// Least (loss, cost) of all combinations.
std::pair<int64_t, int64_t> brute_force(const AllocationQuestion& question) {
  std::pair<int64_t, int64_t> best{INT64_MAX, INT64_MAX};
  const std::function<void(size_t, int64_t, int64_t)> walk = [&](size_t p, int64_t cost, int64_t loss) {
    if (cost > question.budget) return;
    if (p == question.parts.size()) {
      best = std::min(best, {loss, cost});
      return;
    }
    for (const SizeChoice& c : question.parts[p].choices) walk(p + 1, cost + c.cost, loss + c.loss);
  };
  walk(0, question.fixed_cost, 0);
  return best;
}

TEST(Allocation, EqualsBruteForce) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    AllocationQuestion question = random_question(seed, 1 + seed % 5, 1 + seed % 7);
    const auto [loss, cost] = brute_force(question);
    if (loss == INT64_MAX) {
      EXPECT_THROW(allocate(question), InputError) << seed;
      continue;
    }
    const Allocation a = allocate(question);
    EXPECT_TRUE(a.optimal);
    EXPECT_EQ(a.loss, loss) << seed;
    EXPECT_EQ(a.cost, cost) << seed;
    EXPECT_LE(a.bound, a.loss) << seed;
  }
}

TEST(Allocation, ChosenSizesGiveTheTotals) {
  const Allocation a = allocate(random_question(4, 40, 30));
  int64_t cost = a.question.fixed_cost, loss = 0;
  for (size_t p = 0; p < a.chosen.size(); ++p) {
    const SizeChoice& c = a.question.parts[p].choices[static_cast<size_t>(a.chosen[p])];
    cost += c.cost, loss += c.loss;
  }
  EXPECT_EQ(cost, a.cost);
  EXPECT_EQ(loss, a.loss);
  EXPECT_LE(a.cost, a.question.budget);
  EXPECT_TRUE(a.optimal);
}

TEST(Allocation, TheSameQuestionReplays) {
  const Allocation a = allocate(random_question(9, 20, 20));
  EXPECT_EQ(allocate(a.question), a);
}

/// Ranks of maps whose losses fall as singular values squared do: what compression asks.
TEST(Allocation, AModelOfTwoHundredMapsIsSolvedExactly) {
  const Random random{1, 2};
  AllocationQuestion question;
  int64_t dense = 0;
  for (uint64_t m = 0; m < 200; ++m) {
    SizedPart part{fmt::format("map{}", m), {}};
    const auto width = static_cast<int64_t>(300 + random.below(m, 700));
    double loss = 1e6 * (1 + random.uniform(1000 + m));
    for (int64_t r = 4; r <= 256; r += 4) {
      part.choices.push_back({std::to_string(r), r * width, static_cast<int64_t>(loss)});
      loss *= 0.9 + 0.05 * random.uniform(2000 + m);
    }
    dense += 256 * width;
    question.parts.push_back(part);
  }
  question.budget = dense / 2;
  const Allocation a = allocate(question);
  EXPECT_TRUE(a.optimal);
  EXPECT_LE(a.cost, question.budget);
  EXPECT_LE(a.loss - a.bound, a.loss / 1000);
}

TEST(Allocation, ALooseBudgetTakesTheLeastLoss) {
  AllocationQuestion question = random_question(2, 3, 5);
  question.budget = 1'000'000;
  const Allocation a = allocate(question);
  EXPECT_EQ(a.loss, brute_force(question).first);
  EXPECT_EQ(a.loss, a.bound);
  EXPECT_EQ(a.loss_step, 0);
}

TEST(Allocation, RefusesWhatCannotBe) {
  AllocationQuestion question;
  question.budget = 9;
  question.parts = {{"map", {{"small", 10, 5}, {"large", 20, 0}}}};
  try {
    allocate(question);
    FAIL();
  } catch (const InputError& e) {
    EXPECT_STREQ(e.what(), "[allocation] 9 parameters cannot be reached: the smallest count is 10");
  }
  question.parts = {{"map", {}}};
  EXPECT_THROW(allocate(question), InputError);
  question.parts = {{"map", {{"negative", 1, -1}}}};
  EXPECT_THROW(allocate(question), InputError);
}

TEST(Allocation, TheRecordNamesTheNeighbours) {
  AllocationQuestion question;
  question.budget = 25;
  question.parts = {{"map", {{"a", 10, 5}, {"worse", 11, 6}, {"b", 20, 3}, {"c", 30, 1}}}};
  const auto json = to_json(allocate(question));
  EXPECT_EQ(json["maps"][0]["chosen"]["size"], "b");
  EXPECT_EQ(json["maps"][0]["smaller"]["size"], "a");
  EXPECT_EQ(json["maps"][0]["larger"]["size"], "c");
  EXPECT_EQ(json["total_parameters"], "20");
}

}  // namespace
}  // namespace qtf::adapt
