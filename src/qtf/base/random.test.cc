#include "qtf/base/random.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace qtf {
namespace {

// tests/kat_vectors of Random123 1.14, lines "philox4x32 10".
TEST(Philox, KnownAnswers) {
  struct Case {
    std::array<uint32_t, 4> counter;
    std::array<uint32_t, 2> key;
    std::array<uint32_t, 4> expected;
  };
  const Case cases[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Case& c : cases) EXPECT_EQ(philox(c.counter, c.key), c.expected);
}

TEST(Random, SeedStreamAndIndexFillCounterAndKey) {
  const Random random{.seed = 0x299f31d0a4093822, .stream = 0x0370734413198a2e};
  const std::array<uint32_t, 4> expected = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
  EXPECT_EQ(random.block(0x85a308d3243f6a88), expected);
  EXPECT_EQ(random.bits(0x85a308d3243f6a88), 0x94fdccebd16cfe09u);
}

TEST(Random, StreamsAndSeedsDiffer) {
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    for (uint64_t stream = 0; stream < 10; ++stream) {
      for (uint64_t i = 0; i < 10; ++i) seen.insert(Random{seed, stream}.bits(i));
    }
  }
  EXPECT_EQ(seen.size(), 1000u);
}

constexpr int kDraws = 200'000;

// Each mean may stray by 5 standard errors, sqrt(variance / draws): once in a million seeds, and the seed is
// fixed.
void expect_mean(double sum, double mean, double variance, const char* what) {
  EXPECT_NEAR(sum / kDraws, mean, 5 * std::sqrt(variance / kDraws)) << what;
}

TEST(Random, UniformMoments) {
  const Random random{.seed = 1};
  double sum = 0, squares = 0, neighbours = 0;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double u = random.uniform(i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
    squares += u * u;
    neighbours += u * random.uniform(i + 1);
  }
  expect_mean(sum, 1.0 / 2, 1.0 / 12, "mean");
  expect_mean(squares, 1.0 / 3, 4.0 / 45, "second moment");
  expect_mean(neighbours, 1.0 / 4, 7.0 / 144 + 2 * (1.0 / 12 - 1.0 / 16), "correlation of neighbours");
}

TEST(Random, NormalMoments) {
  const Random random{.seed = 2, .stream = 3};
  double sum = 0, squares = 0, fourths = 0;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double x = random.normal(i);
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourths += x * x * x * x;
  }
  expect_mean(sum, 0, 1, "mean");
  expect_mean(squares, 1, 2, "variance");
  expect_mean(fourths, 3, 96, "kurtosis");
}

TEST(Random, BelowStaysInRangeAndIsEven) {
  const Random random{.seed = 4};
  for (uint64_t n : {uint64_t{1}, uint64_t{2}, uint64_t{7}, uint64_t{0xffffffff}}) {
    for (uint64_t i = 0; i < 1000; ++i) ASSERT_LT(random.below(i, n), n);
  }
  std::vector<int> counts(7);
  for (uint64_t i = 0; i < kDraws; ++i) ++counts[random.below(i, 7)];
  for (int count : counts) expect_mean(count, 1.0 / 7, 6.0 / 49, "share");
}

}  // namespace
}  // namespace qtf
