#include "qtf/adapt/decision_records.h"

#include <gtest/gtest.h>

#include <map>

#include "qtf/audit/canonical.h"
#include "qtf/audit/record.h"
#include "qtf/base/error.h"
#include "qtf/base/random.h"

namespace qtf::adapt {
namespace {

using Json = nlohmann::json;

const audit::DecisionKind& kind_called(std::string_view name) {
  for (const audit::DecisionKind& kind : decision_kinds())
    if (kind.name == name) return kind;
  throw InputError("no such kind");
}

/// Through the record's bytes and back.
Json again(const audit::Decision& decision) {
  return kind_called(decision.kind).decide(Json::parse(audit::canonical(decision.question)));
}

Allocation random_allocation(const Random& random) {
  AllocationQuestion question;
  uint64_t i = 0;
  int64_t least = 0, most = 0;
  for (int p = 0; p < 5; ++p) {
    SizedPart part{"map " + std::to_string(p), {}};
    for (int c = 0; c < 6; ++c)
      part.choices.push_back({"rank " + std::to_string(c),
                              10 + 20 * c + static_cast<int64_t>(random.below(i++, 15)),
                              (6 - c) * 1000 - static_cast<int64_t>(random.below(i++, 900))});
    least += part.choices.front().cost, most += part.choices.back().cost;
    question.parts.push_back(part);
  }
  question.fixed_cost = 7;
  question.budget = 7 + least + static_cast<int64_t>(random.below(i++, static_cast<uint64_t>(most - least)));
  return allocate(question);
}

TEST(DecisionRecords, ReplayToTheSameBits) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Random random{seed, 5};
    const audit::Decision allocation = record(random_allocation(random));
    EXPECT_EQ(again(allocation), allocation.answer);
    ExecutionQuestion question{"a map", "chain:rank=4", 2, {}, {}};
    for (size_t t = 0; t < kTimedTokens.size(); ++t) {
      question.factors[t] = {1 + static_cast<int64_t>(random.below(100 + t, 1000)), 3};
      question.merged[t] = {1 + static_cast<int64_t>(random.below(200 + t, 1000)), 4};
    }
    const audit::Decision execution = record(choose_execution(question));
    EXPECT_EQ(again(execution), execution.answer);
    const RouteQuestion route{static_cast<int64_t>(seed), static_cast<int64_t>(seed / 4),
                              static_cast<int64_t>(random.bits(1)), static_cast<int64_t>(random.bits(2)),
                              250'000};
    EXPECT_EQ(again(record(decide_route(route))), record(decide_route(route)).answer);
  }
}

BudgetQuestion random_budget(const Random& random, int64_t share) {
  BudgetQuestion question{"loss", {{"parameters", 0, 5}, {"latency_ns", 0, 9}}, {}};
  uint64_t n = 0;
  for (int p = 0; p < 4; ++p) {
    BudgetPart part{"map " + std::to_string(p), {}};
    for (int64_t c = 1; c <= 5; ++c) {
      const auto jitter = static_cast<int64_t>(random.below(n++, 30));
      part.choices.push_back({"rank " + std::to_string(c), 1000 / c + jitter, {100 * c, 50 * c + jitter}});
    }
    question.parts.push_back(part);
  }
  for (BudgetLimit& limit : question.limits) limit.limit = share;
  return question;
}

TEST(DecisionRecords, BudgetsReplayToTheSameBits) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (const int64_t share : {100, 900, 1500, 5000}) {  // too little, tight, and more than all needs
      const BudgetAnswer answer = solve_budgets(random_budget({seed, 6}, share));
      EXPECT_EQ(answer.feasible, share > 100);
      const audit::Decision decision = record(answer);
      EXPECT_EQ(again(decision), decision.answer);
    }
  }
  const audit::Decision good = record(solve_budgets(random_budget({1, 6}, 900)));
  for (const char* path : {"/parts/0/costs/0/1", "/parts/0/values", "/parts/0/sizes/0", "/parts/0/costs",
                           "/parts/0/costs/1", "/limits/0/at_most", "/limits", "/parts", "/value"}) {
    audit::Decision bad = good;
    bad.question.at(Json::json_pointer(path)) = Json::object();
    EXPECT_THROW(again(bad), InputError) << path;
  }
}

TEST(DecisionRecords, RanksReplayToTheSameBits) {
  for (int64_t mean : {kUnit / 10, kUnit / 2, 9 * kUnit / 10}) {
    const audit::Decision solved = record(solve_thresholds({mean, {0, kUnit / 3, kUnit}, kUsualAlpha}));
    EXPECT_EQ(again(solved), solved.answer);
  }
  for (uint64_t i = 0; i < 200; ++i) {
    const Random random{i, 8};
    RankQuestion question;
    question.signal = static_cast<RankSignal>(random.below(0, 3));
    question.position = static_cast<int64_t>(random.below(1, 3));
    question.standing = static_cast<int64_t>(random.below(2, static_cast<uint64_t>(kUnit)));
    question.levels = 4, question.fixed_level = 2;
    question.thresholds = {kUnit / 4, kUnit / 2, 3 * kUnit / 4};
    question.hysteresis = kUnit / 50, question.previous = static_cast<int>(random.below(3, 5));
    question.seed = random.bits(4);
    const audit::Decision decision = record(decide_level(question));
    EXPECT_EQ(again(decision), decision.answer);
  }
  audit::Decision bad = record(decide_level({}));
  for (const auto& [key, value] : std::map<std::string, Json>{{"levels", "9"},
                                                              {"levels", "0"},
                                                              {"policy", "whim"},
                                                              {"previous", "-1"},
                                                              {"thresholds", Json::array()}}) {
    audit::Decision other = bad;
    other.question[key] = value;
    EXPECT_THROW(again(other), InputError) << key;
  }
}

TEST(DecisionRecords, MeanRanksReplayToTheSameBits) {
  for (const RunBudget of : {RunBudget::time, RunBudget::energy})
    for (int64_t measured : {500, 890, 1000, 1001, 1500, 9000})
      for (int64_t mean : {kLeastMean, kUnit / 3, kUnit / 2}) {
        const audit::Decision decision =
            record(decide_mean({of, 8, measured * 1000, 1'000'000, mean, kUnit / 2}));
        EXPECT_EQ(again(decision), decision.answer);
      }
  audit::Decision bad = record(decide_mean({RunBudget::time, 8, 1, 1, 1, 1}));
  for (const char* key : {"measured_ns", "budget_ns", "mean", "asked"}) {
    audit::Decision other = bad;
    other.question[key] = "9223372036854775807";
    EXPECT_THROW(again(other), InputError) << key;
  }
}

TEST(DecisionRecords, AnotherQuestionHasAnotherAnswer) {
  audit::Decision decision = record(decide_route({10, 1, 500, 400, 250'000}));
  EXPECT_EQ(decision.answer["routed"], "yes");
  decision.question["score"] = "399";
  EXPECT_EQ(again(decision)["routed"], "no");
}

TEST(DecisionRecords, QuestionsThatAreNoneAreRefused) {
  const Random random{1, 5};
  const audit::Decision good[] = {
      record(random_allocation(random)),
      record(choose_execution(
          {"m", "s", 1, {{{1, 0}, {1, 0}, {1, 0}, {1, 0}}}, {{{1, 0}, {1, 0}, {1, 0}, {1, 0}}}})),
      record(decide_route({}))};
  for (const audit::Decision& decision : good) {
    for (const auto& [key, value] : decision.question.items()) {
      audit::Decision bad = decision;
      bad.question.erase(key);
      EXPECT_THROW(again(bad), InputError) << decision.kind << " without " << key;
      bad.question[key] = Json::object();
      EXPECT_THROW(again(bad), InputError) << decision.kind << " with another " << key;
    }
  }
  audit::Decision bad = good[0];
  bad.question["parts"][0]["costs"].push_back("1");
  EXPECT_THROW(again(bad), InputError);
  bad = good[0];
  bad.question["parts"][0]["sizes"][0] = 1;
  EXPECT_THROW(again(bad), InputError);
  bad = good[1];
  bad.question["merged_ns"].push_back({"1", "1"});
  EXPECT_THROW(again(bad), InputError);
  bad = good[1];
  bad.question["merged_ns"][0] = "1";
  EXPECT_THROW(again(bad), InputError);
}

TEST(DecisionRecords, EveryKindHasItsRow) {
  for (const audit::DecisionKind& kind : decision_kinds()) {
    EXPECT_FALSE(kind.summary.empty());
    EXPECT_TRUE(audit::is_kind(kind.name));
    EXPECT_THROW(kind.decide(Json::array()), InputError);
  }
}

}  // namespace
}  // namespace qtf::adapt
