#include "qtf/adapt/rank_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/base/random.h"

namespace qtf::adapt {
namespace {

constexpr int64_t kTenth = kUnit / 10;

RankQuestion rank_question(int64_t tenths, int previous = 0, int64_t hysteresis = 0) {
  return {.signal = RankSignal::entropy,
          .position = 5,
          .layer = 1,
          .entropy = 700,
          .standing = tenths * kTenth,
          .levels = 4,
          .thresholds = {2 * kTenth, 5 * kTenth, 8 * kTenth},
          .hysteresis = hysteresis,
          .previous = previous};
}

TEST(RankPolicy, TheLevelIsOneMoreThanTheThresholdsReached) {
  const int want[] = {1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4};
  for (int64_t tenths = 0; tenths <= 10; ++tenths) {
    const RankDecision decision = decide_level(rank_question(tenths));
    EXPECT_EQ(decision.level, want[tenths]) << tenths;
    EXPECT_EQ(decision.question, rank_question(tenths));
  }
}

TEST(RankPolicy, TheFirstTokenTakesAll) {
  RankQuestion first = rank_question(0);
  first.position = 0;
  EXPECT_EQ(decide_level(first).level, 4);
  first.signal = RankSignal::random;
  EXPECT_EQ(decide_level(first).level, 4);
}

TEST(RankPolicy, FixedIsFixed) {
  RankQuestion question = rank_question(10);
  question.signal = RankSignal::fixed, question.fixed_level = 2;
  EXPECT_EQ(decide_level(question).level, 2);
  question.position = 0;
  EXPECT_EQ(decide_level(question).level, 2);
}

TEST(RankPolicy, CalibratedSignalsHaveNames) {
  for (const RankPolicyInfo& policy : rank_policies()) {
    EXPECT_EQ(&info(policy.signal), &policy);
    if (policy.calibrated) {
      EXPECT_EQ(parse_calibrated_signal(policy.name), policy.signal);
    } else {
      EXPECT_THROW(parse_calibrated_signal(policy.name), InputError);
    }
  }
  EXPECT_EQ(calibrated_signals(), "entropy, gate, output, surprise, circuit");
  EXPECT_TRUE(info(kUsualSignal).calibrated);
}

// A level is kept until Ŝ is beyond its interval by the hysteresis, whatever the level is.
TEST(RankPolicy, HysteresisKeepsTheLevelNearAThreshold) {
  const int64_t small = kTenth / 2;
  for (int previous = 1; previous <= 4; ++previous) {
    for (int64_t standing = 0; standing <= kUnit; standing += kTenth / 20) {
      RankQuestion question = rank_question(0, previous, small);
      question.standing = standing;
      const int without = decide_level([&] {
                            RankQuestion q = question;
                            q.hysteresis = 0;
                            return q;
                          }())
                              .level;
      const auto inside = [&](int64_t margin) {
        const bool above =
            previous == 1 || standing >= question.thresholds[static_cast<size_t>(previous - 2)] - margin;
        const bool below =
            previous == 4 || standing < question.thresholds[static_cast<size_t>(previous - 1)] + margin;
        return above && below;
      };
      const int level = decide_level(question).level;
      EXPECT_EQ(level == previous, inside(small)) << previous << " " << standing;
      if (level != previous) {
        EXPECT_EQ(level > previous, without > previous) << "moves the way that Ŝ says";
      }
    }
  }
}

TEST(RankPolicy, RandomStandingsAreUniformAndDependOnAll) {
  double sum = 0;
  int64_t below_tenth = 0;
  constexpr int64_t kDraws = 20000;
  for (int64_t i = 0; i < kDraws; ++i) {
    const int64_t standing = random_standing(1, i % 3, i, 17 * i);
    ASSERT_GE(standing, 0);
    ASSERT_LT(standing, kUnit);
    sum += static_cast<double>(standing) / static_cast<double>(kUnit);
    below_tenth += standing < kTenth;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * 0.2887 / std::sqrt(kDraws));
  EXPECT_NEAR(static_cast<double>(below_tenth) / kDraws, 0.1, 5 * 0.3 / std::sqrt(kDraws));
  const int64_t draw = random_standing(1, 2, 3, 4);
  EXPECT_EQ(draw, random_standing(1, 2, 3, 4));
  EXPECT_NE(draw, random_standing(2, 2, 3, 4));
  EXPECT_NE(draw, random_standing(1, 3, 3, 4));
  EXPECT_NE(draw, random_standing(1, 2, 4, 4));
  EXPECT_NE(draw, random_standing(1, 2, 3, 5));
}

// α by its formula, and the mean: exactly m for any places, by the sum and by counting tokens.
TEST(RankThresholdsOf, TheMeanIsTheOneAskedFor) {
  const std::vector<std::vector<int64_t>> all_places = {
      {0, kUnit},           {0, kUnit / 3, 2 * (kUnit / 3), kUnit}, {0, kTenth, 7 * kTenth, kUnit},
      {0, 0, kUnit, kUnit}, {0, 1, 2, 3, 4, 5, 6, kUnit},
  };
  for (const auto& places : all_places) {
    for (const int64_t mean :
         {kUnit / 1000, kTenth, 3 * kTenth, kUnit / 2, 7 * kTenth, 9 * kTenth + 1, kUnit - 1}) {
      const RankThresholds solved = solve_thresholds({mean, places, 0});
      const double m = static_cast<double>(mean) / static_cast<double>(kUnit);
      const double alpha = m <= 0.5 ? 2 * m : 1 / (2 * (1 - m));
      EXPECT_NEAR(static_cast<double>(solved.alpha) / static_cast<double>(kUnit), alpha, 1e-7 * alpha + 1e-9);
      EXPECT_LE(solved.mean, mean);
      EXPECT_GE(solved.mean, mean - 8);
      EXPECT_TRUE(std::is_sorted(solved.thresholds.begin(), solved.thresholds.end()));
      EXPECT_EQ(solved.thresholds.size(), places.size() - 1);

      RankQuestion question{.position = 1, .levels = static_cast<int>(places.size())};
      std::copy(solved.thresholds.begin(), solved.thresholds.end(), question.thresholds.begin());
      double sum = 0;
      constexpr int64_t kTokens = 10000;
      for (int64_t i = 0; i < kTokens; ++i) {
        question.standing = (2 * i + 1) * kUnit / (2 * kTokens);
        sum += static_cast<double>(places[static_cast<size_t>(decide_level(question).level - 1)]);
      }
      EXPECT_NEAR(sum / static_cast<double>(kUnit) / kTokens, m, 1.0 / kTokens) << solved.mean;
    }
  }
}

TEST(RankThresholdsOf, ASmallSlopeMixesTheTwoLevelsBesideTheMean) {
  const std::vector<int64_t> places = {0, 2 * kTenth, 6 * kTenth, kUnit};
  for (const int64_t alpha : {int64_t{1}, kUsualAlpha}) {
    for (int64_t mean = kTenth / 2; mean < kUnit; mean += kTenth) {
      const RankThresholds solved = solve_thresholds({mean, places, alpha});
      EXPECT_EQ(solved.alpha, alpha);
      EXPECT_NEAR(static_cast<double>(solved.mean), static_cast<double>(mean), 8);
      for (size_t k = 0; k < 3; ++k) {
        const bool between = places[k] < mean && mean < places[k + 1];
        EXPECT_EQ(solved.thresholds[k] > 0 && solved.thresholds[k] < kUnit, between) << mean << " " << k;
      }
    }
  }
}

TEST(RankThresholdsOf, RefusesMeansAndPlacesOutOfRange) {
  const std::vector<int64_t> two = {0, kUnit};
  for (const int64_t mean : {int64_t{0}, -kTenth, kUnit, 2 * kUnit})
    EXPECT_THROW(solve_thresholds({mean, two, 0}), InputError) << mean;
  EXPECT_THROW(solve_thresholds({kTenth, two, -1}), InputError);
  for (const std::vector<int64_t>& places : {std::vector<int64_t>{},
                                             {kUnit},
                                             {1, kUnit},
                                             {0, kUnit - 1},
                                             {0, 5, 4, kUnit},
                                             std::vector<int64_t>(9, 0)})
    EXPECT_THROW(solve_thresholds({kUnit / 2, places, 0}), InputError) << places.size();
}

TEST(RankPolicyNames, AreReadAndWrongOnesExplained) {
  EXPECT_EQ(parse_rank_policy("entropy", 4), (RankPolicyChoice{RankSignal::entropy, 0}));
  EXPECT_EQ(parse_rank_policy("random", 2), (RankPolicyChoice{RankSignal::random, 0}));
  EXPECT_EQ(parse_rank_policy("fixed:3", 4), (RankPolicyChoice{RankSignal::fixed, 3}));
  const auto message = [](const char* text) {
    try {
      parse_rank_policy(text, 4);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message("entopy").find("did you mean entropy"), std::string::npos) << message("entopy");
  EXPECT_NE(message("").find("choose one of fixed:K, entropy"), std::string::npos) << message("");
  for (const char* bad : {"fixed:0", "fixed:5", "fixed:", "fixed:2x", "fixed:-1", "fixed:K"})
    EXPECT_NE(message(bad).find("1 (the smallest) to 4"), std::string::npos) << bad << ": " << message(bad);
}

TEST(RankPolicyRecords, HoldAllInputsAndWhatWasRejected) {
  const auto json = to_json(decide_level(rank_question(6, 3, kTenth)));
  EXPECT_EQ(json.dump(),
            R"({"decision":"rank","policy":"entropy","position":"5","layer":"1","entropy":"700",)"
            R"("standing":"600000000","hysteresis":"100000000","previous":"3","seed":"0","level":"3",)"
            R"("rejected":[{"level":"1","below":"100000000"},)"
            R"({"level":"2","from":"100000000","below":"400000000"},{"level":"4","from":"900000000"}]})");
  RankQuestion first = rank_question(1);
  first.position = 0;
  EXPECT_EQ(to_json(decide_level(first)).at("rejected").dump(),
            R"([{"level":"1"},{"level":"2"},{"level":"3"}])");
  const auto solved = to_json(solve_thresholds({kUnit / 2, {0, kUnit}, 0}));
  EXPECT_EQ(solved.dump(),
            R"({"decision":"rank_thresholds","mean":"500000000","places":["0","1000000000"],)"
            R"("alpha":"1000000000","shift":"0","thresholds":["500000000"],"mean_reached":"500000000"})");
}

TEST(RankPolicyTable, IsInTheSignalsOrder) {
  for (const RankPolicyInfo& policy : rank_policies()) EXPECT_EQ(&info(policy.signal), &policy);
}

}  // namespace
}  // namespace qtf::adapt
