#include "qtf/tt/gauge.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qtf/base/random.h"
#include "qtf/tt/linear_map.h"

namespace qtf::tt {
namespace {

struct Case {
  int64_t out, in;
  const char* text;
};

const std::vector<Case> kCases{{40, 30, "chain:rank=12"},
                               {30, 40, "chain:rank=12,levels=3x5x12"},
                               {7, 5, "chain:rank=1"},
                               {20, 9, "chain:rank=8,levels=1x2x7x8"},
                               {64, 96, "chain:rank=40,levels=10x40"}};

template <class T>
AlignedVector<T> random_cores(const WeightShape& shape) {
  AlignedVector<T> cores(static_cast<size_t>(parameters(shape)));
  for (size_t i = 0; i < cores.size(); ++i) cores[i] = static_cast<T>(Random{9, 9}.normal(i));
  return cores;
}

template <class T>
AlignedVector<T> dense(const WeightShape& shape, const T* cores, int level) {
  AlignedVector<T> w(static_cast<size_t>(shape.out * shape.in));
  Arena scratch;
  make_linear_map<T>(shape)->to_dense(cores, w.data(), level, scratch);
  return w;
}

template <class T>
void expect_same_levels(const WeightShape& shape, const AlignedVector<T>& cores, const FixedChain<T>& fixed,
                        double tolerance) {
  for (int level = 0; level <= (shape.levels.empty() ? 0 : level_count(shape)); ++level) {
    const AlignedVector<T> before = dense(shape, cores.data(), level);
    const AlignedVector<T> after = dense(fixed.shape, fixed.cores.data(), level);
    double largest = 0;
    for (const T x : before) largest = std::max(largest, std::abs(static_cast<double>(x)));
    for (size_t i = 0; i < before.size(); ++i)
      EXPECT_NEAR(before[i], after[i], tolerance * largest) << to_string(shape) << " level " << level;
  }
}

TEST(Gauge, EveryLevelStaysAndTheSquaresAreSaved) {
  for (const Case& c : kCases) {
    const WeightShape shape = parse_shape(c.text, c.out, c.in);
    ASSERT_TRUE(can_fix_gauge(shape));
    const auto cores = random_cores<double>(shape);
    const FixedChain<double> fixed = fix_gauge(shape, cores.data());
    EXPECT_NO_THROW(validate(fixed.shape));
    EXPECT_FALSE(can_fix_gauge(fixed.shape));
    int64_t squares = 0;
    for (const auto& [begin, end] : bond_blocks(shape)) squares += (end - begin) * (end - begin);
    EXPECT_EQ(parameters(fixed.shape), parameters(shape) - squares);
    EXPECT_EQ(static_cast<int64_t>(fixed.cores.size()), parameters(fixed.shape));
    expect_same_levels(shape, cores, fixed, 1e-10);
    expect_same_levels(shape, random_cores<float>(shape), fix_gauge(shape, random_cores<float>(shape).data()),
                       1e-5);
  }
}

TEST(Gauge, StoredNumbersOfVStayNearOne) {
  for (const Case& c : kCases) {
    const WeightShape shape = parse_shape(c.text, c.out, c.in);
    const FixedChain<double> fixed = fix_gauge(shape, random_cores<double>(shape).data());
    for (size_t i = static_cast<size_t>(c.out * level_rank(shape, 0)); i < fixed.cores.size(); ++i)
      EXPECT_LE(std::abs(fixed.cores[i]), 1.5);
  }
}

/// A chain whose factors have a lower rank than its bond, or are zero.
TEST(Gauge, DependentRowsAreNoTrouble) {
  const WeightShape shape = parse_shape("chain:rank=5,levels=2x5", 8, 9);
  AlignedVector<double> cores = random_cores<double>(shape);
  double* v = cores.data() + 8 * 5;
  for (int64_t j = 0; j < 9; ++j) v[9 + j] = 2 * v[j], v[3 * 9 + j] = 0, v[4 * 9 + j] = v[2 * 9 + j];
  expect_same_levels(shape, cores, fix_gauge(shape, cores.data()), 1e-10);
  std::fill(cores.begin(), cores.end(), 0.0);
  for (const double x : dense(shape, cores.data(), 0)) EXPECT_EQ(x, 0);
}

TEST(Gauge, FreeingGivesAllNumbersOfTheSameFunction) {
  const WeightShape shape = parse_shape("chain:rank=12,levels=3x5x12", 30, 40);
  const auto cores = random_cores<double>(shape);
  const FixedChain<double> fixed = fix_gauge(shape, cores.data());
  EXPECT_EQ(with_free_gauge(fixed.shape), shape);
  AlignedVector<double> all(cores.size());
  free_gauge(fixed.shape, fixed.cores.data(), all.data());
  EXPECT_EQ(dense(shape, all.data(), 0), dense(fixed.shape, fixed.cores.data(), 0));
  const FixedChain<double> again = fix_gauge(fixed.shape, all.data());
  EXPECT_EQ(again.shape, fixed.shape);
  for (size_t i = 0; i < fixed.cores.size(); ++i) EXPECT_NEAR(again.cores[i], fixed.cores[i], 1e-10);
}

TEST(Gauge, BalancingKeepsEveryLevelAndEvensTheFactors) {
  for (const Case& c : kCases) {
    const WeightShape shape = parse_shape(c.text, c.out, c.in);
    const auto before = random_cores<double>(shape);
    auto cores = before;
    balance_gauge(shape, cores.data());
    expect_same_levels(shape, before, FixedChain<double>{shape, cores}, 1e-10);
    const int64_t rank = level_rank(shape, 0);
    const auto product_of = [&](int64_t a, int64_t b, bool of_u) {
      double sum = 0;
      const double* v = cores.data() + c.out * rank;
      for (int64_t i = 0; i < (of_u ? c.out : c.in); ++i)
        sum += of_u ? cores[i * rank + a] * cores[i * rank + b] : v[a * c.in + i] * v[b * c.in + i];
      return sum;
    };
    for (const auto& [begin, end] : bond_blocks(shape))
      for (int64_t a = begin; a < end; ++a)
        for (int64_t b = begin; b <= a; ++b) {
          EXPECT_NEAR(product_of(a, b, true), product_of(a, b, false), 1e-9);
          if (a == b) continue;
          EXPECT_NEAR(product_of(a, b, true), 0, 1e-9);
        }
  }
}

TEST(Gauge, SpreadingKeepsEveryLevelAndRoundsBetter) {
  const WeightShape shape = parse_shape("chain:rank=24,levels=8x24", 40, 32);
  // Singular values that fall: a large column beside small ones.
  AlignedVector<double> cores(static_cast<size_t>(parameters(shape)));
  const Random random{7, 3};
  for (size_t i = 0; i < cores.size(); ++i) cores[i] = random.normal(i);
  for (int64_t i = 0; i < 40; ++i)
    for (int64_t r = 0; r < 24; ++r) cores[static_cast<size_t>(i * 24 + r)] *= std::pow(0.6, r);
  balance_gauge(shape, cores.data());
  const auto dense = [&](const AlignedVector<double>& of, int level) {
    std::vector<double> w(40 * 32);
    Arena scratch;
    make_linear_map<double>(shape)->to_dense(of.data(), w.data(), level, scratch);
    return w;
  };
  /// ‖W − Ŵ‖ where both factors are rounded to 15 steps of their rows' largest number.
  const auto rounded_error = [&](AlignedVector<double> of) {
    const std::vector<double> before = dense(of, 0);
    for (size_t begin = 0; begin < of.size();) {
      const size_t size = begin < 40 * 24 ? 24 : 32;
      double most = 0;
      for (size_t i = begin; i < begin + size; ++i) most = std::max(most, std::abs(of[i]));
      for (size_t i = begin; i < begin + size; ++i) of[i] = std::nearbyint(of[i] / most * 7) * most / 7;
      begin += size;
    }
    const std::vector<double> after = dense(of, 0);
    double error = 0;
    for (size_t i = 0; i < after.size(); ++i) error += std::pow(after[i] - before[i], 2);
    return std::sqrt(error);
  };
  AlignedVector<double> spread = cores;
  spread_gauge(shape, spread.data());
  for (int level = 0; level <= 2; ++level) {
    const std::vector<double> before = dense(cores, level), after = dense(spread, level);
    for (size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i], before[i], 1e-12);
  }
  EXPECT_LT(rounded_error(spread), 0.8 * rounded_error(cores));
}

TEST(Gauge, OnlyPlainChainsBelowFullRankHaveOne) {
  EXPECT_FALSE(can_fix_gauge(parse_shape("dense", 8, 8)));
  EXPECT_FALSE(can_fix_gauge(parse_shape("chain:rank=8", 8, 8)));
  EXPECT_FALSE(can_fix_gauge(parse_shape("chain:rank=4,out=2x4", 8, 8)));
  EXPECT_FALSE(can_fix_gauge(parse_shape("mpo:rank=2", 16, 16)));
  EXPECT_TRUE(can_fix_gauge(parse_shape("chain:rank=8", 8, 9)));
}

}  // namespace
}  // namespace qtf::tt
