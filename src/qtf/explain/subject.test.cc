#include "qtf/explain/subject.h"

#include <set>

#include "qtf/base/error.h"
#include "qtf/explain/explain_test.h"

namespace qtf::explain {
namespace {

TEST(Subjects, EveryDecisionHasAReasonThatSurvives) {
  std::set<std::string> reasons;
  for (const Subject& subject : test_subjects()) {
    EXPECT_FALSE(subject.reasons.empty()) << subject.title;
    EXPECT_FALSE(subject.title.empty());
    for (const Reason& reason : subject.reasons) {
      EXPECT_TRUE(survives(reason, subject, test_kinds())) << reason.id;
      reasons.insert(reason.id);
    }
  }
  for (const char* id :
       {"score_reached",      "score_below",          "quota_used",       "both_short",
        "factors_slower",     "factors_never_slower", "least_loss",       "budget_binds",
        "common_share",       "share_of_map",         "size_measured",    "quality_measured_0",
        "quality_measured_1", "level_reached",        "next_not_reached", "sequence_begins",
        "policy_fixes_level", "solved_for_mean",      "budget_too_small", "least_within_budgets",
        "no_budget_binds",    "budget_binds_map",     "size_unbound",     "query_measured",
        "time_kept",          "energy_kept",          "time_exceeded",    "energy_exceeded",
        "levels_counted",     "entropy_measured",     "routes_counted"})
    EXPECT_TRUE(reasons.contains(id)) << id;
}

TEST(Subjects, FalseReasonsAreDropped) {
  std::vector<Subject> subjects = subjects_of(test_route(9, 1, 300, 400), 1, {}, test_kinds());
  ASSERT_EQ(subjects.size(), 1U);
  Subject& subject = subjects[0];
  ASSERT_EQ(subject.reasons.size(), 1U);
  // The score was not what mattered, if moving it changes nothing.
  Reason lie = subject.reasons[0];
  lie.counterfactual->question["score"] = "399";
  subject.reasons.push_back(lie);
  Reason without = subject.reasons[0];
  without.counterfactual.reset();
  subject.reasons.push_back(without);
  EXPECT_EQ(drop_false_reasons(subject, test_kinds()), 2);
  EXPECT_EQ(subject.reasons.size(), 1U);
  EXPECT_THROW(survives(lie, subject, {}), InputError);
}

TEST(Subjects, TheMarginIsTheSmallestThatHelps) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    const audit::Decision decision = test_allocation(seed);
    for (const Subject& subject : subjects_of(decision, 1, {"layers"}, test_kinds())) {
      if (subject.reasons[0].id != "budget_binds") continue;
      const Counterfactual& grown = *subject.reasons[0].counterfactual;
      const int64_t budget = std::stoll(grown.question.at("budget").get<std::string>());
      EXPECT_GT(budget, std::stoll(decision.question.at("budget").get<std::string>()));
      nlohmann::json less = grown.question;
      less["budget"] = std::to_string(budget - 1);
      const nlohmann::json::json_pointer path(grown.path);
      EXPECT_EQ(test_kinds()[0].decide(less).at(path), decision.answer.at(path));
    }
  }
}

/// Every standing, every threshold: the entropy just across it gives another level, and just before the same.
TEST(Subjects, AnEntropyAcrossTheThresholdFlipsTheLevel) {
  const auto level = [](const nlohmann::json& question) {
    for (const audit::DecisionKind& kind : test_kinds())
      if (kind.name == "rank") return kind.decide(question).at("level").get<std::string>();
    return std::string();
  };
  int entropies = 0;
  for (int64_t step = 1; step < 16; ++step) {
    for (const int64_t hysteresis : {int64_t{0}, adapt::kUnit / 20}) {
      const audit::Decision decision =
          test_rank(adapt::RankSignal::entropy, 47, step * adapt::kUnit / 16, hysteresis);
      for (const Subject& subject : subjects_of(decision, 1, {{}, {}, &test_quantiles()}, test_kinds())) {
        for (const Reason& reason : subject.reasons) {
          ASSERT_TRUE(reason.counterfactual) << reason.id;
          nlohmann::json other = reason.counterfactual->question;
          EXPECT_NE(level(other), decision.answer.at("level"));
          const auto number = [&](const char* key) { return std::stoll(other.at(key).get<std::string>()); };
          // What is printed is the exact place: one step back, and nothing changes.
          const int64_t back = number("entropy") + (reason.id == "level_reached" ? 1 : -1);
          other["standing"] = std::to_string(adapt::rank_of({test_quantiles()[2]}, back));
          EXPECT_EQ(level(other), decision.answer.at("level")) << reason.id << " " << step;
          ++entropies;
        }
      }
    }
  }
  EXPECT_GT(entropies, 40);
}

TEST(Subjects, ARefusedBudgetIsKeptAtTheNearestAndNotBelow) {
  const audit::Decision refused = test_budget(0.1, false);
  ASSERT_EQ(refused.answer.at("feasible"), "no");
  const Subject subject = subjects_of(refused, 1, {}, test_kinds())[0];
  const audit::DecisionKind* kind = nullptr;
  for (const audit::DecisionKind& one : test_kinds())
    if (one.name == "budget") kind = &one;
  nlohmann::json question = subject.reasons[0].counterfactual->question;
  EXPECT_EQ(kind->decide(question).at("feasible"), "yes");
  nlohmann::json& limit = question["limits"][0]["at_most"];
  limit = std::to_string(std::stoll(limit.get<std::string>()) - 1);
  EXPECT_EQ(kind->decide(question).at("feasible"), "no");
  EXPECT_TRUE(subjects_of(refused, 1, {"layers"}, test_kinds()).empty());
}

TEST(Subjects, ThoseOfAMapAreItsOwn) {
  EXPECT_EQ(subjects_of(test_allocation(1), 1, {"layers.2."}, test_kinds()).size(), 1U);
  EXPECT_EQ(subjects_of(test_allocation(1), 1, {}, test_kinds()).size(), 1U);
  EXPECT_EQ(subjects_of(test_allocation(1), 1, {"layers"}, test_kinds()).size(), 3U);
  EXPECT_TRUE(subjects_of(test_execution(1, 2), 1, {"layers.7"}, test_kinds()).empty());
  EXPECT_TRUE(subjects_of({"unheard of", {}, {}}, 1, {}, test_kinds()).empty());
}

TEST(Subjects, RecordsThatAreNoneAreRefused) {
  for (audit::Decision decision :
       {test_route(9, 1, 3, 4), test_execution(1, 2), test_allocation(1), test_ranks(),
        test_budget(0.5, true), test_rank(adapt::RankSignal::entropy, 4, 5)}) {
    decision.question = nlohmann::json::object();
    EXPECT_THROW(subjects_of(decision, 1, {"layers"}, test_kinds()), InputError) << decision.kind;
  }
  audit::Decision broken = test_execution(1, 2);
  broken.question["factors_ns"][0] = "1";
  EXPECT_THROW(subjects_of(broken, 1, {"layers"}, test_kinds()), InputError);
  broken.question["factors_ns"] = nlohmann::json::array();
  EXPECT_THROW(subjects_of(broken, 1, {"layers"}, test_kinds()), InputError);
  for (audit::Decision decision : {test_budget(0.5, true), test_allocation(1)}) {
    for (const char* chosen : {"99", "-1"}) {
      decision.answer["chosen"][0] = chosen;
      EXPECT_THROW(subjects_of(decision, 1, {"layers"}, test_kinds()), InputError) << decision.kind << chosen;
    }
  }
  nlohmann::json making = test_making();
  making["figures"]["parameters"] = "0";
  EXPECT_THROW(subjects_of_making(making, 1), InputError);
  EXPECT_THROW(subjects_of_making({{"x", "y"}}, 1), InputError);
}

TEST(Subjects, EqualOnesHaveEqualHashes) {
  const auto hash = [](int64_t score) {
    return subjects_of(test_route(9, 1, score, 400), 1, {}, test_kinds())[0].hash();
  };
  EXPECT_EQ(hash(300'000'000), hash(300'000'000));
  EXPECT_NE(hash(300'000'000), hash(301'000'000));
}

TEST(FactTexts, AreExact) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(-1234567), "-1,234,567");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1,000");
  EXPECT_EQ(nano_text(412'000'000), "0.412");
  EXPECT_EQ(nano_text(-1'500'000'000), "-1.5");
  EXPECT_EQ(nano_text(499), "0");
  EXPECT_EQ(nano_text(-499), "0");
  EXPECT_EQ(nano_text(500), "0.000001");
  EXPECT_EQ(nano_text(7'000'000'000), "7");
}

}  // namespace
}  // namespace qtf::explain
