#include "qtf/kernels/adamw.h"

#include "qtf/kernels/kernel_test.h"

namespace qtf::kernels {
namespace {

template <class T>
class AdamWKernel : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(AdamWKernel, Types);

template <class T>
AdamWStep<T> step_numbers(int step) {
  const double beta1 = 0.9, beta2 = 0.95;
  return {.learning_rate = static_cast<T>(3e-3),
          .beta1 = static_cast<T>(beta1),
          .beta2 = static_cast<T>(beta2),
          .epsilon = static_cast<T>(1e-8),
          .weight_decay = static_cast<T>(0.1),
          .correction1 = static_cast<T>(1 / (1 - std::pow(beta1, step))),
          .correction2 = static_cast<T>(1 / (1 - std::pow(beta2, step))),
          .gradient_scale = static_cast<T>(0.5)};
}

/// One number's update in double.
struct Reference {
  Expected parameter, first, second;
};

template <class T>
Reference update(const AdamWStep<T>& s, double gradient, double parameter, double first, double second) {
  const AdamWStep<double> w{s.learning_rate, s.beta1,       s.beta2,       s.epsilon,
                            s.weight_decay,  s.correction1, s.correction2, s.gradient_scale};
  const double g = gradient * w.gradient_scale;
  const double m = w.beta1 * first + (1 - w.beta1) * g, v = w.beta2 * second + (1 - w.beta2) * g * g;
  const double m_size = std::abs(w.beta1 * first) + std::abs((1 - w.beta1) * g);
  const double divisor = std::sqrt(v * w.correction2) + w.epsilon;
  const double kept = parameter * (1 - w.learning_rate * w.weight_decay);
  const double rate = w.learning_rate * w.correction1;
  return {{kept - rate * m / divisor, 3 * std::abs(kept) + 12 * rate * m_size / divisor},
          {m, 6 * m_size},
          {v, 8 * v}};
}

TYPED_TEST(AdamWKernel, MatchesPlainLoopOverThreeSteps) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t n : test_lengths()) {
      const GuardedArray<T> parameters(normal_values<T>(n, 1)), first(std::vector<T>(static_cast<size_t>(n))),
          second(std::vector<T>(static_cast<size_t>(n)));
      for (int step = 1; step <= 3; ++step) {
        const GuardedArray<T> gradient(normal_values<T>(n, 10 + static_cast<uint64_t>(step), 0.01));
        const auto numbers = step_numbers<T>(step);
        std::vector<Expected> p, m, v;
        for (int64_t i = 0; i < n; ++i) {
          const Reference r = update(numbers, gradient[i], parameters[i], first[i], second[i]);
          p.push_back(r.parameter), m.push_back(r.first), v.push_back(r.second);
        }
        adamw(n, numbers, gradient.data(), parameters.data(), first.data(), second.data());
        expect_close("parameters", parameters, p);
        expect_close("first moment", first, m);
        expect_close("second moment", second, v);
      }
    }
  });
}

TYPED_TEST(AdamWKernel, FirstStepMovesByTheLearningRateAgainstTheSign) {
  using T = TypeParam;
  for_each_instruction_set([] {
    std::vector<T> gradient = {T{5}, T(-0.001), T{1000}}, p(3, T{0}), m(3), v(3);
    adamw(3, step_numbers<T>(1), gradient.data(), p.data(), m.data(), v.data());
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(p[i], gradient[i] > 0 ? -3e-3 : 3e-3, 1e-7);  // epsilon 1e-8 beside a gradient of 5e-4
    }
  });
}

TYPED_TEST(AdamWKernel, NoGradientOnlyDecays) {
  using T = TypeParam;
  for_each_instruction_set([] {
    std::vector<T> gradient(5), p(5, T{2}), m(5), v(5);
    adamw(5, step_numbers<T>(1), gradient.data(), p.data(), m.data(), v.data());
    for (T value : p) EXPECT_NEAR(value, 2 * (1 - 3e-4), 2e-6);
  });
}

// A run of parameters may be split among threads anywhere.
TYPED_TEST(AdamWKernel, SplitRunGivesTheSameBits) {
  using T = TypeParam;
  const int64_t n = 101;
  for_each_instruction_set([&] {
    const auto gradient = normal_values<T>(n, 1);
    auto p = normal_values<T>(n, 2), m = normal_values<T>(n, 3), v = std::vector<T>(101, T{1});
    auto p2 = p, m2 = m, v2 = v;
    adamw(n, step_numbers<T>(2), gradient.data(), p.data(), m.data(), v.data());
    for (int64_t i = 0; i < n; i += 13) {
      adamw(std::min<int64_t>(13, n - i), step_numbers<T>(2), gradient.data() + i, p2.data() + i,
            m2.data() + i, v2.data() + i);
    }
    EXPECT_EQ(p, p2);
    EXPECT_EQ(m, m2);
    EXPECT_EQ(v, v2);
  });
}

}  // namespace
}  // namespace qtf::kernels
