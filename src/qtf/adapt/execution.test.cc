#include "qtf/adapt/execution.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/base/random.h"

namespace qtf::adapt {
namespace {

MeasuredTimes times(int64_t a, int64_t b, int64_t c, int64_t d) {
  return {{{a, 1}, {b, 1}, {c, 1}, {d, 1}}};
}

TEST(Execution, FactorsRunWhereTheyAreSlowerNowhere) {
  EXPECT_FALSE(
      choose_execution({"up", "chain:rank=2", 1, times(5, 6, 70, 800), times(9, 9, 90, 900)}).merged);
  EXPECT_FALSE(
      choose_execution({"up", "chain:rank=2", 1, times(5, 6, 70, 800), times(5, 6, 70, 800)}).merged);
  for (size_t i = 0; i < kTimedTokens.size(); ++i) {
    ExecutionQuestion question{"up", "chain:rank=2", 1, times(5, 6, 70, 800), times(9, 9, 90, 900)};
    question.factors[i].median_ns = question.merged[i].median_ns + 1;
    const ExecutionChoice choice = choose_execution(question);
    EXPECT_TRUE(choice.merged) << "at " << kTimedTokens[i] << " tokens";
    EXPECT_EQ(choice.question, question);
    EXPECT_EQ(to_json(choice).at("factors_slower_at"),
              nlohmann::ordered_json::array({std::to_string(kTimedTokens[i])}));
  }
}

TEST(Execution, AChosenFormIsNeverSlowerThanDense) {
  const Random random{5, 5};
  uint64_t draw = 0;
  int merged = 0;
  for (int i = 0; i < 1000; ++i) {
    ExecutionQuestion question{"down", "chain:rank=2", 2, {}, {}};
    for (size_t t = 0; t < kTimedTokens.size(); ++t) {
      question.factors[t] = {1 + static_cast<int64_t>(random.below(draw++, 100)), 0};
      question.merged[t] = {40 + static_cast<int64_t>(random.below(draw++, 100)), 0};
    }
    const ExecutionChoice choice = choose_execution(question);
    merged += choice.merged ? 1 : 0;
    const MeasuredTimes& chosen = choice.merged ? question.merged : question.factors;
    for (size_t t = 0; t < kTimedTokens.size(); ++t)
      EXPECT_LE(chosen[t].median_ns, question.merged[t].median_ns);
  }
  EXPECT_GT(merged, 100);
  EXPECT_LT(merged, 900);
}

TEST(Execution, AMissingTimeIsAnError) {
  const ExecutionQuestion good{"up", "chain:rank=2", 1, times(5, 6, 70, 800), times(9, 9, 90, 900)};
  for (size_t i = 0; i < kTimedTokens.size(); ++i) {
    ExecutionQuestion bad = good;
    bad.factors[i].median_ns = 0;
    EXPECT_THROW(choose_execution(bad), InputError);
    bad = good;
    bad.merged[i].median_ns = -1;
    EXPECT_THROW(choose_execution(bad), InputError);
    bad = good;
    bad.merged[i].spread_ns = -1;
    EXPECT_THROW(choose_execution(bad), InputError);
  }
}

TEST(Execution, TheRecordHoldsAllInputsAsStrings) {
  const ExecutionChoice choice =
      choose_execution({"up", "chain:rank=2", 3, times(5, 6, 70, 901), times(9, 9, 90, 900)});
  const nlohmann::ordered_json json = to_json(choice);
  EXPECT_EQ(json.at("decision"), "execution");
  EXPECT_EQ(json.at("map"), "up");
  EXPECT_EQ(json.at("level"), "3");
  EXPECT_EQ(json.at("chosen"), "merged");
  EXPECT_EQ(json.at("factors").at(3).at("tokens"), "512");
  EXPECT_EQ(json.at("factors").at(3).at("median_ns"), "901");
  EXPECT_EQ(json.at("merged").at(0).at("median_ns"), "9");
  EXPECT_EQ(json.at("merged").at(0).at("spread_ns"), "1");
}

TEST(Execution, SummarisesRunsByMedianAndQuartiles) {
  EXPECT_EQ(summarise({40, 10, 20, 30, 50}), (MeasuredTime{30, 10}));
  EXPECT_EQ(summarise({0}), (MeasuredTime{1, 0}));
}

}  // namespace
}  // namespace qtf::adapt
