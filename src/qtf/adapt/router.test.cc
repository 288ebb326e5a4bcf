#include "qtf/adapt/router.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "qtf/adapt/entropy_distribution.h"
#include "qtf/base/json.h"
#include "qtf/base/random.h"

namespace qtf::adapt {
namespace {

TEST(Router, RoutesWhatIsAboveTheThresholdAndWithinTheQuota) {
  struct Case {
    RouteQuestion question;
    bool above, within;
  };
  const std::vector<Case> cases = {
      {{.position = 4, .routed_before = 0, .score = 5, .threshold = 5, .ppm = 200'000}, true, true},
      {{.position = 4, .routed_before = 0, .score = 4, .threshold = 5, .ppm = 200'000}, false, true},
      {{.position = 3, .routed_before = 0, .score = 9, .threshold = 5, .ppm = 200'000}, true, false},
      {{.position = 9, .routed_before = 1, .score = 9, .threshold = 5, .ppm = 200'000}, true, true},
      {{.position = 8, .routed_before = 1, .score = 9, .threshold = 5, .ppm = 200'000}, true, false},
      {{.position = 8, .routed_before = 1, .score = -9, .threshold = -5, .ppm = 200'000}, false, false},
      {{.position = 999'999, .routed_before = 0, .score = 0, .threshold = 0, .ppm = 1}, true, true},
      {{.position = 999'998, .routed_before = 0, .score = 0, .threshold = 0, .ppm = 1}, true, false},
      {{.position = 1'000'000, .routed_before = 0, .score = 0, .threshold = 0, .ppm = 0}, true, false},
  };
  for (const Case& c : cases) {
    const RouteDecision d = decide_route(c.question);
    EXPECT_EQ(d, (RouteDecision{c.question, c.above, c.within, c.above && c.within})) << to_json(d);
  }
}

// The cap, whatever the scores are: at every prefix of every sequence.
TEST(Router, NoPrefixHasMoreThanTheShare) {
  constexpr auto kMost = std::numeric_limits<int64_t>::max();
  for (uint64_t sequence = 0; sequence < 200; ++sequence) {
    const Random random{11, sequence};
    const auto ppm = static_cast<int64_t>(random.below(0, kRouteLimitPpm));
    int64_t routed = 0, wanted = 0;
    for (int64_t t = 0; t < 600; ++t) {
      // Everything wants to pass, or bursts of it, or a random part.
      const bool burst = sequence % 3 == 1 && t % 100 >= 50;
      const bool wants = sequence % 3 == 0 || burst ||
                         (sequence % 3 == 2 && random.below(static_cast<uint64_t>(t + 1), 4) == 0);
      const RouteDecision d = decide_route({t, routed, wants ? kMost : -kMost, 0, ppm});
      EXPECT_TRUE(wants || !d.routed);
      routed += d.routed, wanted += wants;
      ASSERT_LE(1'000'000 * routed, ppm * (t + 1)) << "sequence " << sequence << ", prefix " << t + 1;
      if (wants && !d.routed) {
        ASSERT_GT(1'000'000 * (routed + 1), ppm * (t + 1)) << "refused below the cap";
      }
    }
    if (sequence % 3 == 0) {
      EXPECT_EQ(routed, ppm * 600 / 1'000'000) << "the cap is reached where all ask";
    }
  }
}

TEST(Router, RecordHoldsAllInputsAsText) {
  const auto json = to_json(decide_route({12, 1, -3, -4, 250'000}));
  EXPECT_EQ(json.dump(),
            R"({"decision":"route","position":"12","routed_before":"1","score":"-3","threshold":"-4",)"
            R"("ppm":"250000","above_threshold":"1","within_quota":"1","routed":"1"})");
}

/// A step's tokens, all of which have room.
void observe(int64_t step, int64_t ppm, const std::vector<float>& scores, const std::vector<float>& entropies,
             RouterState& state) {
  calibrate(step, ppm, {static_cast<int64_t>(scores.size()), scores, entropies}, state);
}

/// The share that is routed of sequences whose first tokens have the highest scores.
double routed_share(int64_t step, float threshold, std::vector<float>& open_scores) {
  constexpr int64_t kSequences = 8, kLength = 64;
  int64_t routed = 0;
  for (int64_t s = 0; s < kSequences; ++s) {
    int64_t before = 0;
    for (int64_t t = 0; t < kLength; ++t) {
      const Random random{static_cast<uint64_t>(step), static_cast<uint64_t>(s)};
      const auto score =
          static_cast<float>(random.normal(static_cast<uint64_t>(t)) + 20 / static_cast<double>(t + 1));
      const RouteDecision d = decide_route({.position = t,
                                            .routed_before = before,
                                            .score = to_units(static_cast<double>(score)),
                                            .threshold = to_units(static_cast<double>(threshold)),
                                            .ppm = 200'000});
      if (d.within_quota) open_scores.push_back(score);
      before += d.routed;
    }
    routed += before;
  }
  return static_cast<double>(routed) / (kSequences * kLength);
}

TEST(RouterCalibration, TheShareIsNearlyUsedThoughTheFirstTokensScoreHighest) {
  RouterState state{0, std::vector<float>(3)};
  double late = 0;
  for (int64_t step = 1; step <= 200; ++step) {
    std::vector<float> scores;
    const double share = routed_share(step, state.threshold, scores);
    EXPECT_LE(share, 0.2);
    if (step > 100) late += share / 100;
    calibrate(step, 200'000, {512, scores, std::vector<float>{0, 1}}, state);
  }
  EXPECT_GT(late, 0.16);
}

TEST(RouterCalibration, TheThresholdComesToTheShare) {
  RouterState state{0, std::vector<float>(5)};
  for (int64_t step = 1; step <= 200; ++step) {
    std::vector<float> scores, entropies;
    const Random random{5, static_cast<uint64_t>(step)};
    for (uint64_t i = 0; i < 1000; ++i) {
      scores.push_back(static_cast<float>(3 + random.normal(i)));
      entropies.push_back(static_cast<float>(random.uniform(i + 5000)));
    }
    observe(step, 200'000, scores, entropies, state);
  }
  EXPECT_NEAR(state.threshold, 3 + 0.9154, 0.05);  // the normal's 82 % quantile
  for (size_t k = 0; k < 5; ++k)
    EXPECT_NEAR(state.entropy_quantiles[k], static_cast<float>(k) / 4, 0.03F) << k;
}

TEST(RouterCalibration, TakesTheFirstStepsFiguresAndForgetsThem) {
  RouterState state{99, {7, 7, 7}};
  observe(1, 250'000, std::vector<float>{4, 1, 3, 2, 5}, std::vector<float>{0.5F, 0.25F, 1}, state);
  EXPECT_EQ(state.threshold, 4);
  EXPECT_EQ(state.entropy_quantiles, (std::vector<float>{0.25F, 0.5F, 1}));
  for (int64_t step = 2; step < 300; ++step)
    observe(step, 250'000, std::vector<float>{8, 8}, std::vector<float>{0.1F}, state);
  EXPECT_NEAR(state.threshold, 8, 1e-4);
  EXPECT_NEAR(state.entropy_quantiles[2], 0.1, 1e-4);
}

TEST(RouterCalibration, DoesNotDependOnTheOrderNorOnNumbersThatAreNone) {
  std::vector<float> scores, entropies;
  const Random random{5, 1};
  for (uint64_t i = 0; i < 100; ++i) {
    scores.push_back(static_cast<float>(random.normal(i)));
    entropies.push_back(static_cast<float>(random.uniform(i)));
  }
  RouterState a{0.5F, {0, 0.1F, 0.9F}}, b = a;
  observe(7, 100'000, scores, entropies, a);
  std::reverse(scores.begin(), scores.end());
  std::reverse(entropies.begin(), entropies.end());
  scores.insert(scores.begin() + 3, std::numeric_limits<float>::quiet_NaN());
  calibrate(7, 100'000, {100, scores, entropies}, b);
  EXPECT_EQ(a.threshold, b.threshold);
  EXPECT_EQ(a.entropy_quantiles, b.entropy_quantiles);
  calibrate(7, 100'000, {}, b);
  EXPECT_EQ(a.threshold, b.threshold);
}

}  // namespace
}  // namespace qtf::adapt
