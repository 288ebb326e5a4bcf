#include "qtf/kernels/gemm_columns.h"

#include "qtf/kernels/gemm.h"
#include "qtf/kernels/kernel_test.h"

namespace qtf::kernels {
namespace {

template <class T>
class GemmColumnsKernel : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(GemmColumnsKernel, Types);

/// One product by gemm_packed, and by gemm_columns in parts that begin at multiples of `step`.
template <class T>
void expect_same_bits(int64_t m, int64_t n, int64_t k, int64_t packed_k, int64_t step, bool accumulate) {
  const GuardedArray<T> a(normal_values<T>(m * k, 1)), panels(gemm_packed_size<T>(packed_k, n));
  const std::vector<T> b = normal_values<T>(packed_k * n, 2);
  gemm_pack<T>(packed_k, n, b.data(), n, 1, panels.data());
  const int64_t ldc = n + 3;
  const GuardedArray<T> whole(normal_values<T>((m - 1) * ldc + n, 3)), parts(whole.values());
  gemm_packed<T>(m, n, k, a.data(), k, panels.data(), packed_k, whole.data(), ldc, accumulate);
  for (int64_t begin = 0; begin < n; begin += step) {
    gemm_columns<T>(m, begin, std::min(n, begin + step), k, a.data(), k, panels.data(), packed_k,
                    parts.data(), ldc, accumulate);
  }
  EXPECT_EQ(whole.values(), parts.values())
      << m << " x " << n << " x " << k << " of " << packed_k << " by " << step;
}

TYPED_TEST(GemmColumnsKernel, PartsOfTheProductHaveThePackedProductsBits) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t m = 1; m <= 17; ++m) {
      for (const int64_t n : {1, 15, 16, 17, 40, 64, 65, 100, 150}) {
        for (const int64_t step : {16, 48, 160}) {
          expect_same_bits<T>(m, n, 7, 7, step, false);
          expect_same_bits<T>(m, n, 7, 7, step, true);
        }
      }
    }
    for (const int64_t k : {0, 1, 513, 600}) {
      expect_same_bits<T>(5, 150, k, 600, 32, false);
      expect_same_bits<T>(5, 150, k, 600, 32, true);
    }
  });
}

TYPED_TEST(GemmColumnsKernel, AnEmptyPartWritesNothing) {
  using T = TypeParam;
  for_each_instruction_set([] {
    const GuardedArray<T> a(normal_values<T>(6, 1)), panels(gemm_packed_size<T>(3, 32));
    const GuardedArray<T> c(normal_values<T>(64, 2)), before(c.values());
    gemm_columns<T>(2, 16, 16, 3, a.data(), 3, panels.data(), 3, c.data(), 32, false);
    gemm_columns<T>(2, 19, 19, 3, a.data(), 3, panels.data(), 3, c.data(), 32, false);
    gemm_columns<T>(0, 0, 32, 3, a.data(), 3, panels.data(), 3, c.data(), 32, false);
    EXPECT_EQ(c.values(), before.values());
  });
}

}  // namespace
}  // namespace qtf::kernels
