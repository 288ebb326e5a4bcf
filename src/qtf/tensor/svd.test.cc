#include "qtf/tensor/svd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>
#include <vector>

#include "qtf/base/error.h"
#include "qtf/base/random.h"

namespace qtf {
namespace {

template <class T>
AlignedVector<T> random_values(int64_t n, uint64_t seed) {
  AlignedVector<T> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[i] = static_cast<T>(Random{seed, 7}.normal(i));
  return v;
}

template <class T>
double product_error(ConstMatrix<T> a, const Svd<T>& svd) {
  const auto rank = static_cast<int64_t>(svd.s.size());
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.cols; ++j) {
      double sum = 0;
      for (int64_t r = 0; r < rank; ++r)
        sum += static_cast<double>(svd.u[i * rank + r]) * svd.s[r] * svd.v[r * a.cols + j];
      difference += (sum - a(i, j)) * (sum - a(i, j));
      norm += static_cast<double>(a(i, j)) * a(i, j);
    }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

template <class T>
void expect_orthonormal_rows(ConstMatrix<T> v, double tolerance) {
  for (int64_t i = 0; i < v.rows; ++i)
    for (int64_t j = 0; j <= i; ++j) {
      double dot = 0;
      for (int64_t k = 0; k < v.cols; ++k) dot += static_cast<double>(v(i, k)) * v(j, k);
      EXPECT_NEAR(dot, i == j ? 1.0 : 0.0, tolerance) << i << ", " << j;
    }
}

template <class T>
class SvdTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(SvdTest, Types);

TYPED_TEST(SvdTest, FullRankRebuildsTheMatrix) {
  using T = TypeParam;
  const double epsilon = std::numeric_limits<T>::epsilon();
  for (const auto& [rows, cols] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {1, 7}, {7, 1}, {13, 5}, {6, 31}}) {
    const auto values = random_values<T>(rows * cols, rows * 100 + cols);
    const ConstMatrix<T> plain(values.data(), rows, cols);
    for (const ConstMatrix<T>& a : {plain, plain.transposed()}) {
      const Svd<T> svd = truncated_svd(a);
      const int64_t rank = std::min(a.rows, a.cols);
      ASSERT_EQ(static_cast<int64_t>(svd.s.size()), rank);
      EXPECT_LT(product_error(a, svd), 20 * epsilon * static_cast<double>(rank));
      EXPECT_EQ(svd.truncation_error, 0);
      expect_orthonormal_rows(ConstMatrix<T>(svd.u.data(), a.rows, rank).transposed(), 50 * epsilon);
      expect_orthonormal_rows(ConstMatrix<T>(svd.v.data(), rank, a.cols), 50 * epsilon);
      for (int64_t i = 1; i < rank; ++i) EXPECT_GE(svd.s[i - 1], svd.s[i]);
    }
  }
}

TYPED_TEST(SvdTest, TruncationErrorIsTheMeasuredOne) {
  using T = TypeParam;
  const int64_t rows = 20, cols = 12;
  const auto values = random_values<T>(rows * cols, 3);
  const ConstMatrix<T> a(values.data(), rows, cols);
  double last = 1;
  for (int64_t rank = 1; rank <= cols; ++rank) {
    const Svd<T> svd = truncated_svd(a, {.max_rank = rank});
    ASSERT_EQ(static_cast<int64_t>(svd.s.size()), rank);
    EXPECT_NEAR(svd.truncation_error, product_error(a, svd), 100 * std::numeric_limits<T>::epsilon());
    EXPECT_LT(svd.truncation_error, last);
    last = svd.truncation_error;
  }
}

TEST(Svd, ToleranceKeepsTheFewestThatMeetIt) {
  const std::vector<double> a{4, 0, 0, 0, 3, 0, 0, 0, 0.001};
  const ConstMatrix<double> matrix(a.data(), 3, 3);
  EXPECT_EQ(truncated_svd(matrix, {.tolerance = 1e-3}).s.size(), 2u);
  EXPECT_EQ(truncated_svd(matrix, {.tolerance = 0.61}).s.size(), 1u);
  EXPECT_EQ(truncated_svd(matrix, {.tolerance = 0.59}).s.size(), 2u);
  EXPECT_EQ(truncated_svd(matrix, {.max_rank = 1, .tolerance = 1e-3}).s.size(), 1u);
  EXPECT_EQ(truncated_svd(matrix, {.max_rank = 9}).s.size(), 3u);
}

TEST(Svd, ZeroMatrixKeepsOneValue) {
  const std::vector<double> a(6, 0.0);
  const auto [u, s, v, truncation_error] = truncated_svd(ConstMatrix<double>(a.data(), 2, 3));
  ASSERT_EQ(s.size(), 1u);
  EXPECT_EQ(s[0], 0);
  EXPECT_EQ(truncation_error, 0);
}

TEST(Svd, RunsOnSeveralThreadsWithTheSameResult) {
  const int64_t rows = 60, cols = 40;
  const auto values = random_values<float>(rows * cols, 5);
  const ConstMatrix<float> a(values.data(), rows, cols);
  const Svd<float> alone = truncated_svd(a);
  std::vector<Svd<float>> results(4);
  {
    std::vector<std::jthread> threads;
    for (auto& result : results) threads.emplace_back([&] { result = truncated_svd(a); });
  }
  for (const auto& result : results) EXPECT_EQ(result.u, alone.u);
}

TEST(Svd, RefusesBadInput) {
  const std::vector<double> good{1, 2, 3, 4};
  const std::vector<double> bad{1, 2, std::nan(""), 4};
  const ConstMatrix<double> a(good.data(), 2, 2), b(bad.data(), 2, 2), empty(good.data(), 0, 2);
  EXPECT_THROW(truncated_svd(empty), InputError);
  EXPECT_THROW(truncated_svd(b), InputError);
  EXPECT_THROW(truncated_svd(a, {.max_rank = -1}), InputError);
  EXPECT_THROW(truncated_svd(a, {.tolerance = -1}), InputError);
  EXPECT_THROW(truncated_svd(a, {.tolerance = std::nan("")}), InputError);
  EXPECT_THROW(symmetric_eigen(b), InputError);
  EXPECT_THROW(symmetric_eigen(empty), InputError);
}

TYPED_TEST(SvdTest, EigenvectorsRebuildTheMatrix) {
  using T = TypeParam;
  for (const int64_t n : {1, 2, 5, 16}) {
    const auto half = random_values<T>(n * n, n);
    AlignedVector<T> a(half.size());
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) a[i * n + j] = half[i * n + j] + half[j * n + i];
    const auto [values, vectors] = symmetric_eigen(ConstMatrix<T>(a.data(), n, n));
    const double tolerance = 50 * std::numeric_limits<T>::epsilon() * static_cast<double>(n);
    expect_orthonormal_rows(ConstMatrix<T>(vectors.data(), n, n), tolerance);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < n; ++k)
          sum += static_cast<double>(values[k]) * vectors[k * n + i] * vectors[k * n + j];
        EXPECT_NEAR(sum, a[i * n + j], tolerance * 4);
      }
    for (int64_t i = 1; i < n; ++i) EXPECT_GE(values[i - 1], values[i]);
  }
}

TYPED_TEST(SvdTest, CholeskyFactorRebuildsTheMatrixAndItsInverseInverts) {
  using T = TypeParam;
  for (const int64_t n : {1, 2, 5, 33}) {
    const auto half = random_values<T>(n * n, n);
    AlignedVector<T> a(half.size());
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        a[i * n + j] = i == j ? static_cast<T>(n) : T{0};
        for (int64_t k = 0; k < n; ++k) a[i * n + j] += half[i * n + k] * half[j * n + k];
      }
    const auto factor = cholesky(ConstMatrix<T>(a.data(), n, n));
    ASSERT_TRUE(factor);
    const double tolerance = 50 * std::numeric_limits<T>::epsilon() * static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double product = 0, identity = 0;
        for (int64_t k = 0; k < n; ++k) {
          product += static_cast<double>(factor->lower[i * n + k]) * factor->lower[j * n + k];
          identity += static_cast<double>(factor->lower[i * n + k]) * factor->inverse[k * n + j];
        }
        EXPECT_NEAR(product, a[i * n + j], tolerance * static_cast<double>(n));
        EXPECT_NEAR(identity, i == j ? 1 : 0, tolerance);
        EXPECT_TRUE(j <= i || factor->lower[i * n + j] == 0);
      }
  }
}

TYPED_TEST(SvdTest, NoCholeskyFactorOfWhatIsNotPositiveDefinite) {
  using T = TypeParam;
  const std::vector<T> indefinite{1, 0, 2, 1}, nan{1, 0, std::numeric_limits<T>::quiet_NaN(), 1};
  EXPECT_FALSE(cholesky(ConstMatrix<T>(indefinite.data(), 2, 2)));
  EXPECT_FALSE(cholesky(ConstMatrix<T>(nan.data(), 2, 2)));
  EXPECT_THROW(cholesky(ConstMatrix<T>(nan.data(), 1, 2)), InputError);
}

}  // namespace
}  // namespace qtf
