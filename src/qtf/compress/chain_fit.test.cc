#include "qtf/compress/chain_fit.h"

#include <gtest/gtest.h>

#include "qtf/compress/compress_test.h"

namespace qtf::compress {
namespace {

/// A chain of three levels, each with a weight and inputs of its own.
class FittingLevels : public testing::Test {
 protected:
  FittingLevels() {
    const AlignedVector<double> common = random_matrix(kOut * kIn, 1);
    for (uint64_t level = 0; level < 3; ++level) {
      LevelTarget target{random_matrix(kOut * kIn, 2 + level), random_moment(kIn, 2 * kIn, 5 + level)};
      for (size_t i = 0; i < common.size(); ++i) target.weight[i] = common[i] + 0.3 * target.weight[i];
      targets_.push_back(std::move(target));
    }
  }

  Metric columns(size_t level) const {
    return Metric::from_matrix(ConstMatrix<double>(targets_[level].inputs.data(), kIn, kIn), 0);
  }

  AlignedVector<float> fit(const std::vector<double>& importance, int sweeps) const {
    AlignedVector<float> cores(static_cast<size_t>(tt::parameters(shape_)));
    fit_levels(shape_, targets_, importance, rows_, sweeps, cores.data());
    return cores;
  }

  double error(const AlignedVector<float>& cores, size_t level) const {
    return error(cores, level, shape_.levels[level]);
  }
  /// Of the first `rank` terms as that level.
  double error(const AlignedVector<float>& cores, size_t level, int64_t rank) const {
    const int64_t all = tt::level_rank(shape_, 0);
    AlignedVector<double> rest = targets_[level].weight;
    for (int64_t i = 0; i < kOut; ++i)
      for (int64_t j = 0; j < kIn; ++j)
        for (int64_t r = 0; r < rank; ++r)
          rest[i * kIn + j] -=
              static_cast<double>(cores[i * all + r]) * static_cast<double>(cores[kOut * all + r * kIn + j]);
    return weighted_error(ConstMatrix<double>(rest.data(), kOut, kIn), rows_, columns(level));
  }
  double sum(const AlignedVector<float>& cores) const {
    return error(cores, 0) + error(cores, 1) + error(cores, 2);
  }

  static constexpr int64_t kOut = 9, kIn = 8;
  const tt::WeightShape shape_ = tt::parse_shape("chain:rank=6,levels=1x3x6", kOut, kIn);
  const AlignedVector<double> moment_ = random_moment(kOut, 2 * kOut, 8);
  const Metric rows_ = Metric::from_matrix(ConstMatrix<double>(moment_.data(), kOut, kOut), 1e-2);
  std::vector<LevelTarget> targets_;
};

TEST_F(FittingLevels, EverySweepMakesTheSumOfErrorsSmaller) {
  double before = sum(fit({1, 1, 1}, 1));
  for (const int sweeps : {2, 3, 6}) {
    const double now = sum(fit({1, 1, 1}, sweeps));
    EXPECT_LT(now, before) << sweeps;
    before = now;
  }
}

TEST_F(FittingLevels, AnImportantLevelIsFittedBetter) {
  const auto equal = fit({1, 1, 1}, 4), first = fit({20, 1, 1}, 4), last = fit({1, 1, 20}, 4);
  EXPECT_LT(error(first, 0), error(equal, 0));
  EXPECT_LT(error(last, 2), error(equal, 2));
}

TEST_F(FittingLevels, TellsWhatMoreTermsWouldBring) {
  AlignedVector<float> cores(static_cast<size_t>(tt::parameters(shape_)));
  ErrorsByTerms errors;
  fit_levels(shape_, targets_, std::vector<double>{1, 1, 1}, rows_, 2, cores.data(), &errors);
  ASSERT_EQ(errors.size(), 3U);
  int64_t before = 0;
  for (size_t level = 0; level < 3; ++level) {
    const auto added = static_cast<size_t>(shape_.levels[level] - before);
    EXPECT_NEAR(errors[level][0], error(cores, level, before), 1e-4 * errors[level][0]);
    EXPECT_LE(errors[level][added], 1.0001 * error(cores, level));
    for (size_t r = 1; r < errors[level].size(); ++r) EXPECT_LE(errors[level][r], errors[level][r - 1]);
    EXPECT_NEAR(errors[level].back(), 0, 1e-9 * errors[level][0]);
    before = shape_.levels[level];
  }
}

/// Where all levels ask for the same, each is the best of its rank.
TEST_F(FittingLevels, TheSameTargetGivesThePrefixesOfOneDecomposition) {
  targets_[1] = targets_[2] = targets_[0];
  AlignedVector<float> alone(static_cast<size_t>(tt::parameters(shape_)));
  fit_chain(shape_, {targets_[0].weight.data(), kOut, kIn}, rows_, columns(0), alone.data());
  const auto together = fit({1, 1, 1}, 2);
  for (size_t level = 0; level < 3; ++level)
    EXPECT_NEAR(error(together, level), error(alone, level), 1e-4 * error(alone, 0));
}

}  // namespace
}  // namespace qtf::compress
