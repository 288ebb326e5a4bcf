#include "qtf/adapt/entropy_distribution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "qtf/base/error.h"
#include "qtf/base/random.h"

namespace qtf::adapt {
namespace {

TEST(EntropyDistribution, UnitsAreRoundedAndClamped) {
  EXPECT_EQ(to_units(0.25), 250'000'000);
  EXPECT_EQ(to_units(-1.4e-9), -1);
  EXPECT_EQ(to_units(1e300), kUnit * kUnit);
  EXPECT_EQ(to_units(std::nan("")), -kUnit * kUnit);
}

TEST(EntropyDistribution, RankIsTheShareAtOrBelow) {
  const EntropyDistribution d{{100, 200, 200, 600, 1000}};
  EXPECT_EQ(rank_of(d, 99), 0);
  EXPECT_EQ(rank_of(d, 100), 0);
  EXPECT_EQ(rank_of(d, 150), kUnit / 8);
  EXPECT_EQ(rank_of(d, 200), kUnit / 2) << "of equal quantiles the last";
  EXPECT_EQ(rank_of(d, 400), kUnit / 2 + kUnit / 8);
  EXPECT_EQ(rank_of(d, 1000), kUnit);
  EXPECT_EQ(rank_of(d, 5000), kUnit);
}

TEST(EntropyDistribution, MakesAnyTextsEntropiesUniform) {
  std::vector<int64_t> samples;
  const Random random{3, 1};
  for (uint64_t i = 0; i < 5000; ++i) samples.push_back(to_units(std::pow(random.uniform(i), 3)));
  const EntropyDistribution d = distribution_of(samples, 33);
  EXPECT_TRUE(std::is_sorted(d.quantiles.begin(), d.quantiles.end()));
  EXPECT_EQ(d.quantiles.front(), *std::min_element(samples.begin(), samples.end()));
  EXPECT_EQ(d.quantiles.back(), *std::max_element(samples.begin(), samples.end()));
  std::sort(samples.begin(), samples.end());
  int64_t before = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const int64_t rank = rank_of(d, samples[i]);
    EXPECT_GE(rank, before) << "never falls";
    before = rank;
    // Exact at the quantiles, and rising between them: within one of the 32 steps everywhere.
    EXPECT_NEAR(static_cast<double>(rank) / kUnit, static_cast<double>(i) / 5000, 1.0 / 32) << i;
  }
}

TEST(EntropyDistribution, OfOneValueIsAStep) {
  const EntropyDistribution d = distribution_of({7, 7, 7}, 4);
  EXPECT_EQ(rank_of(d, 6), 0);
  EXPECT_EQ(rank_of(d, 7), kUnit);
}

TEST(EntropyDistribution, RepairsWhatAFileMayHold) {
  const auto most = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(repaired({-5, 30, 20, most, 40}), (EntropyDistribution{{0, 30, 30, kUnit, kUnit}}));
}

TEST(EntropyDistribution, RefusesNoSamplesAndOnePoint) {
  EXPECT_THROW(distribution_of({}, 5), InputError);
  EXPECT_THROW(distribution_of({1, 2}, 1), InputError);
}

}  // namespace
}  // namespace qtf::adapt
