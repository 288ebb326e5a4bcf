#include "qtf/kernels/gemm.h"

#include "qtf/kernels/kernel_test.h"

namespace qtf::kernels {
namespace {

template <class T>
class GemmKernels : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(GemmKernels, Types);

struct Size {
  int64_t m, n, k;
};

/// All small row counts, every column tail up to two of the widest panels, none of each, and blocks' edges.
std::vector<Size> sizes() {
  std::vector<Size> all = {{0, 5, 3},     {3, 0, 4},    {4, 7, 0},      {9, 40, 0},
                           {0, 0, 0},     {1, 1, 1},    {6, 64, 8},     {97, 31, 12},
                           {13, 17, 513}, {5, 1030, 3}, {193, 20, 600}, {2, 1100, 20}};
  for (int64_t m = 1; m <= 13; ++m) all.push_back({m, 19, 5});
  for (int64_t n = 1; n <= 2 * 64 + 3; ++n) all.push_back({n % 9 + 1, n, 3});
  return all;
}

/// A and B with a number of strides, C with padding between rows but none after the last.
template <class T>
struct Problem {
  Size s;
  int64_t a_row, a_col, b_row, b_col, ldc;
  bool accumulate;
  GuardedArray<T> a, b, c, before;

  Problem(const Size& size, bool a_transposed, bool b_transposed, bool into)
      : s(size),
        a_row(a_transposed ? 1 : s.k),
        a_col(a_transposed ? s.m : 1),
        b_row(b_transposed ? 1 : s.n),
        b_col(b_transposed ? s.k : 1),
        ldc(s.n + 3),
        accumulate(into),
        a(normal_values<T>(s.m * s.k, 1)),
        b(normal_values<T>(s.k * s.n, 2)),
        c(normal_values<T>(s.m ? (s.m - 1) * ldc + s.n : 0, 3)),
        before(c.values()) {}

  std::vector<Expected> want() const {
    std::vector<Expected> result;
    for (int64_t at = 0; at < before.size(); ++at) {
      const int64_t i = at / ldc, j = at % ldc;
      Expected e{static_cast<double>(before[at]), 0};
      if (j < s.n) {
        if (!accumulate) e.value = 0;
        e.magnitude = std::abs(e.value);
        for (int64_t p = 0; p < s.k; ++p) {
          const double term =
              static_cast<double>(a[i * a_row + p * a_col]) * static_cast<double>(b[p * b_row + j * b_col]);
          e.value += term, e.magnitude += std::abs(term);
        }
        e.magnitude *= static_cast<double>(s.k + 2);
      }
      result.push_back(e);
    }
    return result;
  }
};

TYPED_TEST(GemmKernels, StridedMatchesPlainLoop) {
  using T = TypeParam;
  const GuardedArray<T> scratch(gemm_scratch_size<T>());
  for_each_instruction_set([&] {
    for (const Size& s : sizes()) {
      for (int form = 0; form < 8; ++form) {
        const Problem<T> q(s, form & 1, form & 2, form & 4);
        gemm_strided(s.m, s.n, s.k, q.a.data(), q.a_row, q.a_col, q.b.data(), q.b_row, q.b_col, q.c.data(),
                     q.ldc, q.accumulate, scratch.data());
        SCOPED_TRACE(testing::Message() << s.m << " x " << s.n << " x " << s.k << " form " << form);
        expect_close("gemm_strided", q.c, q.want());
      }
    }
  });
}

TYPED_TEST(GemmKernels, PackedMatchesPlainLoopAndStridedBits) {
  using T = TypeParam;
  const GuardedArray<T> scratch(gemm_scratch_size<T>());
  for_each_instruction_set([&] {
    for (const Size& s : sizes()) {
      for (int form = 0; form < 4; ++form) {
        const Problem<T> q(s, false, form & 1, form & 2);
        const GuardedArray<T> panels(gemm_packed_size<T>(s.k, s.n)), strided(q.before.values());
        gemm_pack(s.k, s.n, q.b.data(), q.b_row, q.b_col, panels.data());
        gemm_packed(s.m, s.n, s.k, q.a.data(), s.k, panels.data(), s.k, q.c.data(), q.ldc, q.accumulate);
        gemm_strided(s.m, s.n, s.k, q.a.data(), q.a_row, q.a_col, q.b.data(), q.b_row, q.b_col,
                     strided.data(), q.ldc, q.accumulate, scratch.data());
        SCOPED_TRACE(testing::Message() << s.m << " x " << s.n << " x " << s.k << " form " << form);
        expect_close("gemm_packed", q.c, q.want());
        EXPECT_EQ(q.c.values(), strided.values());
      }
    }
  });
}

TYPED_TEST(GemmKernels, PrefixOfAPackedMatrixAndSingleRowsGiveTheSameBits) {
  using T = TypeParam;
  const Size whole{11, 150, 530};
  const GuardedArray<T> scratch(gemm_scratch_size<T>());
  for_each_instruction_set([&] {
    const Problem<T> q(whole, false, false, false);
    const GuardedArray<T> panels(gemm_packed_size<T>(whole.k, whole.n));
    gemm_pack(whole.k, whole.n, q.b.data(), q.b_row, q.b_col, panels.data());
    for (int64_t n : {1, 33, 64, 150}) {
      for (int64_t k : {0, 1, 512, 530}) {
        std::vector<T> together(static_cast<size_t>(whole.m * n)), alone(together);
        gemm_packed(whole.m, n, k, q.a.data(), whole.k, panels.data(), whole.k, together.data(), n, false);
        for (int64_t i = 0; i < whole.m; ++i) {
          gemm_strided(1, n, k, q.a.data() + i * whole.k, whole.k, 1, q.b.data(), whole.n, 1,
                       alone.data() + i * n, n, false, scratch.data());
        }
        EXPECT_EQ(together, alone) << n << " " << k;
      }
    }
  });
}

TYPED_TEST(GemmKernels, PanelsHoldTheColumnsInOrderAndZerosBeyond) {
  using T = TypeParam;
  for_each_instruction_set([] {
    const int64_t panel = gemm_panel_width<T>(), k = 3, n = panel + 1;
    const auto b = normal_values<T>(k * n, 1);
    std::vector<T> panels(static_cast<size_t>(gemm_packed_size<T>(k, n)), T{9});
    ASSERT_EQ(static_cast<int64_t>(panels.size()), 2 * panel * k);
    gemm_pack(k, n, b.data(), n, 1, panels.data());
    for (int64_t p = 0; p < k; ++p) {
      for (int64_t j = 0; j < 2 * panel; ++j) {
        const T got = panels[static_cast<size_t>((j / panel * k + p) * panel + j % panel)];
        EXPECT_EQ(got, j < n ? b[static_cast<size_t>(p * n + j)] : T{0}) << p << " " << j;
      }
    }
  });
}

}  // namespace
}  // namespace qtf::kernels
