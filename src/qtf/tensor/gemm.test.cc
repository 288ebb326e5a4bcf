#include "qtf/tensor/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "qtf/base/random.h"

namespace qtf {
namespace {

template <class T>
std::vector<T> random_values(int64_t n, uint64_t stream) {
  std::vector<T> values(static_cast<size_t>(n));
  const Random random{1, stream};
  for (int64_t i = 0; i < n; ++i)
    values[static_cast<size_t>(i)] = static_cast<T>(random.normal(static_cast<uint64_t>(i)));
  return values;
}

template <class T>
class Gemm : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Gemm, Types);

/// C += A·B in double, and the largest error allowed: k roundings of the sum of magnitudes.
template <class T>
void expect_product(ConstMatrix<T> a, ConstMatrix<T> b, const std::vector<T>& before, Matrix<T> c) {
  double worst = 0;
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < c.cols; ++j) {
      double sum = static_cast<double>(before[static_cast<size_t>(i * c.row_stride + j)]);
      double magnitude = std::abs(sum);
      for (int64_t p = 0; p < a.cols; ++p) {
        const double term = static_cast<double>(a(i, p)) * static_cast<double>(b(p, j));
        sum += term, magnitude += std::abs(term);
      }
      const double bound = std::numeric_limits<T>::epsilon() * (static_cast<double>(a.cols) + 2) * magnitude;
      worst = std::max(worst, std::abs(sum - static_cast<double>(c(i, j))) - bound);
    }
  }
  EXPECT_LE(worst, 0) << "m " << c.rows << " n " << c.cols << " k " << a.cols;
}

struct Size {
  int64_t m, n, k;
};
const Size kSizes[] = {{1, 1, 1},   {1, 64, 7},    {3, 63, 16},  {4, 65, 5},     {6, 32, 33},   {7, 130, 64},
                       {13, 17, 1}, {97, 31, 520}, {5, 1100, 3}, {130, 70, 129}, {12, 16, 1030}};

TYPED_TEST(Gemm, MatchesPlainLoopForEveryTailAndStride) {
  using T = TypeParam;
  for (const Size& s : kSizes) {
    for (int form = 0; form < 8; ++form) {
      const auto a = random_values<T>(s.m * s.k, 1), b = random_values<T>(s.k * s.n, 2);
      const ConstMatrix<T> av =
          form & 1 ? ConstMatrix<T>(a.data(), s.k, s.m).transposed() : ConstMatrix<T>(a.data(), s.m, s.k);
      const ConstMatrix<T> bv =
          form & 2 ? ConstMatrix<T>(b.data(), s.n, s.k).transposed() : ConstMatrix<T>(b.data(), s.k, s.n);
      auto c = random_values<T>(s.m * (s.n + 3), 3);
      auto before = c;
      if (!(form & 4)) std::fill(before.begin(), before.end(), T{0});
      const Matrix<T> cv(c.data(), s.m, s.n, s.n + 3);
      gemm(av, bv, cv, form & 4 ? Into::accumulate : Into::overwrite);
      expect_product(av, bv, before, cv);
    }
  }
}

TYPED_TEST(Gemm, PackedInAnArenaGivesTheSameBits) {
  using T = TypeParam;
  const auto a = random_values<T>(13 * 40, 1), b = random_values<T>(70 * 40, 2);
  const ConstMatrix<T> left(a.data(), 13, 40), right = ConstMatrix<T>(b.data(), 70, 40).transposed();
  std::vector<T> direct(13 * 70), packed(13 * 70);
  Arena memory;
  gemm<T>(left, right, Matrix<T>(direct.data(), 13, 70));
  gemm<T>(left, pack(right, memory), Matrix<T>(packed.data(), 13, 70));
  EXPECT_EQ(direct, packed);
}

/// A weight gradient: a left operand too large to be read where it lies, of every number of rows about the
/// tiles' edges.
TYPED_TEST(Gemm, TransposedOperandsBeyondTheCacheGiveTheSameBits) {
  using T = TypeParam;
  constexpr int64_t kDepth = 90, kStride = 104;
  const auto a = random_values<T>(kDepth * kStride, 1), b = random_values<T>(kDepth * 9, 2);
  const ConstMatrix<T> right(b.data(), kDepth, 9);
  for (int64_t m = 5; m <= kStride; ++m) {
    std::vector<T> exact(a.begin(), a.end()), copy(static_cast<size_t>(m * kDepth)),
        c(static_cast<size_t>(m * 9)), want(c);
    exact.resize(static_cast<size_t>((kDepth - 1) * kStride + m));  // what lies beyond is not to be read
    exact.shrink_to_fit();
    for (int64_t i = 0; i < m; ++i)
      for (int64_t p = 0; p < kDepth; ++p)
        copy[static_cast<size_t>(i * kDepth + p)] = a[static_cast<size_t>(p * kStride + i)];
    gemm<T>(ConstMatrix<T>(exact.data(), kDepth, m, kStride).transposed(), right, Matrix<T>(c.data(), m, 9));
    gemm<T>(ConstMatrix<T>(copy.data(), m, kDepth), right, Matrix<T>(want.data(), m, 9));
    ASSERT_EQ(c, want) << m << " rows";
  }
}

TYPED_TEST(Gemm, LeavesWhatLiesBesideTheResult) {
  using T = TypeParam;
  const auto a = random_values<T>(5 * 8, 1), b = random_values<T>(8 * 9, 2);
  std::vector<T> c(5 * 12, T{7});
  gemm<T>({a.data(), 5, 8}, ConstMatrix<T>(b.data(), 8, 9), {c.data(), 5, 9, 12});
  for (int i = 0; i < 5; ++i) {
    for (int j = 9; j < 12; ++j) EXPECT_EQ(c[static_cast<size_t>(i * 12 + j)], T{7});
  }
}

TYPED_TEST(Gemm, PackedEqualsUnpackedBitForBitWhateverTheRows) {
  using T = TypeParam;
  for (const Size& s : kSizes) {
    const auto a = random_values<T>(s.m * s.k, 1), b = random_values<T>(s.k * s.n, 2);
    std::vector<T> whole(static_cast<size_t>(s.m * s.n)), packed(whole), by_row(whole);
    const ConstMatrix<T> av(a.data(), s.m, s.k), bv(b.data(), s.k, s.n);
    gemm(av, bv, Matrix<T>(whole.data(), s.m, s.n));
    const PackedMatrix<T> p(bv);
    gemm(av, p, Matrix<T>(packed.data(), s.m, s.n));
    for (int64_t i = 0; i < s.m; ++i) {
      gemm(av.row_block(i, 1), bv, Matrix<T>(by_row.data() + i * s.n, 1, s.n));
    }
    EXPECT_EQ(whole, packed);
    EXPECT_EQ(whole, by_row);
  }
}

TYPED_TEST(Gemm, PrefixOfAPackedMatrixIsTheSmallerProduct) {
  using T = TypeParam;
  const int64_t m = 9, n = 140, k = 70;
  const auto a = random_values<T>(m * k, 1), b = random_values<T>(k * n, 2);
  const PackedMatrix<T> p(ConstMatrix<T>(b.data(), k, n));
  for (int64_t n2 : {1L, 65L, 140L}) {
    for (int64_t k2 : {1L, 33L, 70L}) {
      std::vector<T> c(static_cast<size_t>(m * n2)), d(c);
      gemm(ConstMatrix<T>(a.data(), m, k2, k), p, Matrix<T>(c.data(), m, n2));
      gemm(ConstMatrix<T>(a.data(), m, k2, k), ConstMatrix<T>(b.data(), k2, n2, n),
           Matrix<T>(d.data(), m, n2));
      EXPECT_EQ(c, d);
    }
  }
}

}  // namespace
}  // namespace qtf
