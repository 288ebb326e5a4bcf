#include "qtf/compress/metric.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qtf/base/error.h"
#include "qtf/compress/compress_test.h"

namespace qtf::compress {
namespace {

/// W less the first `rank` terms.
AlignedVector<double> remainder(const AlignedVector<double>& w, const WeightedSvd& svd, int64_t rank) {
  AlignedVector<double> rest = w;
  for (int64_t i = 0; i < svd.out; ++i)
    for (int64_t j = 0; j < svd.in; ++j)
      for (int64_t r = 0; r < rank; ++r)
        rest[i * svd.in + j] -= svd.u[i * svd.rank + r] * svd.v[r * svd.in + j];
  return rest;
}

struct Case {
  int64_t out, in;
  Metric rows, columns;
  AlignedVector<double> w;
};

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{9, 6}, {5, 11}}) {
    const AlignedVector<double> c = random_moment(out, 20, 1), g = random_moment(in, 20, 2);
    AlignedVector<double> diagonal;
    for (int64_t i = 0; i < out; ++i) diagonal.push_back(0.1 + static_cast<double>(i));
    const Metric full = Metric::from_matrix(ConstMatrix<double>(c.data(), out, out), 1e-3);
    const Metric inputs = Metric::from_matrix(ConstMatrix<double>(g.data(), in, in), 1e-3);
    const AlignedVector<double> w = random_matrix(out * in, 3);
    result.push_back({out, in, full, inputs, w});
    result.push_back({out, in, Metric::from_diagonal(diagonal), inputs, w});
    result.push_back({out, in, Metric(out), Metric(in), w});
  }
  return result;
}

TEST(WeightedSvd, ADroppedTermCostsItsSquaredSingularValue) {
  for (const Case& c : cases()) {
    const WeightedSvd svd = weighted_svd(ConstMatrix<double>(c.w.data(), c.out, c.in), c.rows, c.columns);
    ASSERT_EQ(svd.rank, std::min(c.out, c.in));
    const double whole = weighted_error(ConstMatrix<double>(c.w.data(), c.out, c.in), c.rows, c.columns);
    double expected = 0;
    for (int64_t rank = svd.rank; rank >= 0; --rank) {
      const AlignedVector<double> rest = remainder(c.w, svd, rank);
      const double error = weighted_error(ConstMatrix<double>(rest.data(), c.out, c.in), c.rows, c.columns);
      EXPECT_NEAR(error, expected, 1e-10 * whole) << "rank " << rank;
      if (rank > 0) expected += svd.losses[rank - 1];
    }
  }
}

TEST(WeightedSvd, NoOtherApproximationOfTheRankIsBetter) {
  for (const Case& c : cases()) {
    const ConstMatrix<double> w(c.w.data(), c.out, c.in);
    const int64_t rank = 3;
    const WeightedSvd best = weighted_svd(w, c.rows, c.columns);
    const WeightedSvd plain = weighted_svd(w, Metric(c.out), Metric(c.in));
    const auto error = [&](const WeightedSvd& svd) {
      const AlignedVector<double> rest = remainder(c.w, svd, rank);
      return weighted_error(ConstMatrix<double>(rest.data(), c.out, c.in), c.rows, c.columns);
    };
    EXPECT_LE(error(best), error(plain) * (1 + 1e-12));
  }
}

TEST(WeightedSvd, FactorsAreBalanced) {
  const Case c = cases().front();
  const WeightedSvd svd = weighted_svd(ConstMatrix<double>(c.w.data(), c.out, c.in), c.rows, c.columns);
  for (int64_t r = 0; r < svd.rank; ++r) {
    double u = 0, v = 0;
    for (int64_t i = 0; i < c.out; ++i) u += svd.u[i * svd.rank + r] * svd.u[i * svd.rank + r];
    for (int64_t j = 0; j < c.in; ++j) v += svd.v[r * c.in + j] * svd.v[r * c.in + j];
    EXPECT_NEAR(u, v, 1e-10 * u);
  }
}

TEST(Metric, DoingAndUndoingCancel) {
  for (const Case& c : cases()) {
    AlignedVector<double> w = c.w;
    const Matrix<double> view(w.data(), c.out, c.in);
    c.rows.apply_left(view), c.columns.apply_right(view);
    c.columns.undo_right(view), c.rows.undo_left(view);
    for (size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(w[i], c.w[i], 1e-9);
  }
}

TEST(Metric, ASingularMomentIsShrunkAndInverted) {
  const int64_t n = 7;
  const AlignedVector<double> moment = random_moment(n, 2, 5);  // of rank 2
  const Metric metric = Metric::from_matrix(ConstMatrix<double>(moment.data(), n, n), 1e-2);
  double trace = 0;
  for (int64_t i = 0; i < n; ++i) trace += moment[i * n + i];
  AlignedVector<double> shrunk = moment;
  for (int64_t i = 0; i < n; ++i) shrunk[i * n + i] += 1e-2 * trace / static_cast<double>(n);
  metric.divide_right(Matrix<double>(shrunk.data(), n, n));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) EXPECT_NEAR(shrunk[i * n + j], i == j ? 1 : 0, 1e-9);
}

/// As fp32 sums leave it: an eigenvalue below zero, by more than is added.
TEST(Metric, AnEigenvalueThatRoundingLeftNegativeCountsAsZero) {
  const int64_t n = 3;
  const AlignedVector<double> moment{1, 0, 0, 0, 1, 0, 0, 0, -1e-3};
  const double added = 1e-6 * (2 - 1e-3) / 3;
  const Metric metric = Metric::from_matrix(ConstMatrix<double>(moment.data(), n, n), 1e-6);
  AlignedVector<double> kept{1 + added, 0, 0, 0, 1 + added, 0, 0, 0, added};
  AlignedVector<double> same{1, 2, 3};
  metric.apply_right(Matrix<double>(same.data(), 1, n)), metric.undo_right(Matrix<double>(same.data(), 1, n));
  for (int64_t i = 0; i < n; ++i) EXPECT_NEAR(same[i], 1 + static_cast<double>(i), 1e-12);
  metric.divide_right(Matrix<double>(kept.data(), n, n));
  for (int64_t i = 0; i < n * n; ++i) EXPECT_NEAR(kept[i], i % 4 ? 0 : 1, 1e-9);
}

TEST(Metric, RefusesAMomentOfZeroAndNoNumbers) {
  AlignedVector<double> moment(9, 0.0);
  EXPECT_THROW(Metric::from_matrix(ConstMatrix<double>(moment.data(), 3, 3), 1e-2), InputError);
  moment[4] = NAN;
  EXPECT_THROW(Metric::from_matrix(ConstMatrix<double>(moment.data(), 3, 3), 1e-2), InputError);
}

}  // namespace
}  // namespace qtf::compress
