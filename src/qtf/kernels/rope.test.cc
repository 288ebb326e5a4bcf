#include "qtf/kernels/rope.h"

#include "qtf/kernels/kernel_test.h"

namespace qtf::kernels {
namespace {

template <class T>
class RopeKernel : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(RopeKernel, Types);

template <class T>
struct Angles {
  std::vector<T> cosines, sines;
  explicit Angles(int64_t half) {
    for (int64_t i = 0; i < half; ++i) {
      cosines.push_back(static_cast<T>(std::cos(0.3 * static_cast<double>(i) + 0.1)));
      sines.push_back(static_cast<T>(std::sin(0.3 * static_cast<double>(i) + 0.1)));
    }
  }
};

TYPED_TEST(RopeKernel, MatchesPlainLoopBothWays) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t half : test_lengths()) {
      const int64_t heads = 3, dim = 2 * half;
      const Angles<T> angles(half);
      const GuardedArray<T> cosines(angles.cosines), sines(angles.sines);
      for (T direction : {T{1}, T{-1}}) {
        const GuardedArray<T> x(normal_values<T>(heads * dim, 1));
        std::vector<Expected> want(static_cast<size_t>(heads * dim));
        for (int64_t h = 0; h < heads; ++h) {
          for (int64_t i = 0; i < half; ++i) {
            const double a = x[h * dim + i], b = x[h * dim + half + i], c = cosines[i];
            const double s = static_cast<double>(direction) * static_cast<double>(sines[i]);
            want[static_cast<size_t>(h * dim + i)] = {a * c - b * s, 2 * (std::abs(a * c) + std::abs(b * s))};
            want[static_cast<size_t>(h * dim + half + i)] = {a * s + b * c,
                                                             2 * (std::abs(a * s) + std::abs(b * c))};
          }
        }
        rope(heads, dim, cosines.data(), sines.data(), direction, x.data());
        expect_close("rope", x, want);
      }
    }
  });
}

TYPED_TEST(RopeKernel, RotatingBackRestores) {
  using T = TypeParam;
  for_each_instruction_set([] {
    const int64_t heads = 2, dim = 22;
    const Angles<T> angles(dim / 2);
    const auto before = normal_values<T>(heads * dim, 1);
    auto x = before;
    rope(heads, dim, angles.cosines.data(), angles.sines.data(), T{1}, x.data());
    EXPECT_NE(x, before);
    rope(heads, dim, angles.cosines.data(), angles.sines.data(), T{-1}, x.data());
    std::vector<Expected> want;
    for (T value : before) want.push_back({value, 16});  // of a pair that is at most about 4 long
    expect_close<T>("rope there and back", x, want);
  });
}

TYPED_TEST(RopeKernel, NoAngleAndNoHeadsChangeNothing) {
  using T = TypeParam;
  for_each_instruction_set([] {
    const std::vector<T> ones(4, T{1}), zeros(4, T{0}), before = normal_values<T>(8, 1);
    auto x = before;
    rope(1, 8, ones.data(), zeros.data(), T{1}, x.data());
    rope(0, 8, zeros.data(), ones.data(), T{1}, x.data());
    EXPECT_EQ(x, before);
  });
}

}  // namespace
}  // namespace qtf::kernels
