#include "qtf/kernels/vector.h"

#include <functional>

#include "qtf/kernels/kernel_test.h"

namespace qtf::kernels {
namespace {

template <class T>
class VectorKernels : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(VectorKernels, Types);

/// What an elementwise kernel reads and writes. Each test fills them anew.
template <class T>
struct Operands {
  int64_t n;
  GuardedArray<T> x, y, z, out, out2;
};

struct Inputs {
  double x, y, z;
};

template <class T>
struct Case {
  const char* name;
  void (*run)(const Operands<T>&);        // writes `out`, which starts as a copy of y, and `out2`
  std::vector<Expected> (*want)(Inputs);  // of out, and of out2 if the kernel writes it
};

constexpr double kAlpha = -1.75;

/// σ(z) and the error of σ's own argument: Exp turns a relative error of z into an absolute one.
Expected sigmoid(double z) {
  const double s = 1 / (1 + std::exp(-z));
  const double underflow = std::numeric_limits<float>::min() / std::numeric_limits<float>::epsilon();
  return {s, s * (4 + (1 - s) * std::abs(z) * 4) + underflow};
}

std::vector<Expected> want_silu_mul_backward(Inputs in) {
  const Expected s = sigmoid(in.x);
  const double rest = 1 - s.value, slope = s.value * (1 + in.x * rest);
  // The slope crosses zero, and 1 - σ rounds to an epsilon: both as if their terms did not cancel.
  const double slope_error = s.magnitude * (1 + std::abs(in.x)) + s.value * std::abs(in.x) * 4;
  return {{in.z * in.y * slope, std::abs(in.z * in.y) * (slope_error + 4)},
          {in.z * in.x * s.value, std::abs(in.z * in.x) * (s.magnitude + 4 * s.value)}};
}

double gelu_argument(double x) {
  return 2 * std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
}

std::vector<Expected> want_gelu(Inputs in) {
  const Expected s = sigmoid(gelu_argument(in.x));
  return {{in.x * s.value, std::abs(in.x) * (s.magnitude + 4 * s.value)}};
}

std::vector<Expected> want_gelu_backward(Inputs in) {
  const Expected s = sigmoid(gelu_argument(in.x));
  const double inner = 2 * std::sqrt(2 / M_PI) * in.x * (1 + 3 * 0.044715 * in.x * in.x);
  const double slope = s.value * (1 + (1 - s.value) * inner);
  const double slope_error =
      s.magnitude * (1 + std::abs(inner) * (1 - s.value)) + std::abs(inner) * s.value * 4;
  return {{in.y * slope, std::abs(in.y) * (slope_error + 4)}};
}

template <class T>
const std::vector<Case<T>> kCases = {
    {"add", [](const Operands<T>& o) { add(o.n, o.x.data(), o.out.data()); },
     [](Inputs in) {
       return std::vector<Expected>{{in.x + in.y, std::abs(in.x + in.y)}};
     }},
    {"axpy", [](const Operands<T>& o) { axpy(o.n, static_cast<T>(kAlpha), o.x.data(), o.out.data()); },
     [](Inputs in) {
       return std::vector<Expected>{{kAlpha * in.x + in.y, 2 * std::abs(kAlpha * in.x) + std::abs(in.y)}};
     }},
    {"multiply", [](const Operands<T>& o) { multiply(o.n, o.x.data(), o.out.data()); },
     [](Inputs in) {
       return std::vector<Expected>{{in.x * in.y, std::abs(in.x * in.y)}};
     }},
    {"scale", [](const Operands<T>& o) { scale(o.n, static_cast<T>(kAlpha), o.out.data()); },
     [](Inputs in) {
       return std::vector<Expected>{{kAlpha * in.y, std::abs(kAlpha * in.y)}};
     }},
    {"silu_mul", [](const Operands<T>& o) { silu_mul(o.n, o.x.data(), o.y.data(), o.out.data()); },
     [](Inputs in) {
       const Expected s = sigmoid(in.x);
       return std::vector<Expected>{
           {in.x * s.value * in.y, std::abs(in.x * in.y) * (s.magnitude + 4 * s.value)}};
     }},
    {"silu_mul_backward",
     [](const Operands<T>& o) {
       silu_mul_backward(o.n, o.x.data(), o.y.data(), o.z.data(), o.out.data(), o.out2.data());
     },
     want_silu_mul_backward},
    {"gelu", [](const Operands<T>& o) { gelu(o.n, o.x.data(), o.out.data()); }, want_gelu},
    {"gelu_backward", [](const Operands<T>& o) { gelu_backward(o.n, o.x.data(), o.y.data(), o.out.data()); },
     want_gelu_backward},
    {"gelu_backward in place",
     [](const Operands<T>& o) { gelu_backward(o.n, o.x.data(), o.out.data(), o.out.data()); },
     want_gelu_backward},
};

/// Normal draws of growing size, from 0.01 to 10,000.
template <class T>
std::vector<T> wide_values(int64_t n, uint64_t stream) {
  std::vector<T> values = normal_values<T>(n, stream);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= static_cast<T>(std::pow(10, i % 7) / 100);
  return values;
}

TYPED_TEST(VectorKernels, ElementwiseMatchPlainLoop) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (const Case<T>& c : kCases<T>) {
      for (int64_t n : test_lengths()) {
        const std::vector<T> y = wide_values<T>(n, 2);
        const Operands<T> o{n, wide_values<T>(n, 1), y, normal_values<T>(n, 3), y, y};
        c.run(o);
        std::vector<Expected> want, want2;
        for (int64_t i = 0; i < n; ++i) {
          const auto w =
              c.want({static_cast<double>(o.x[i]), static_cast<double>(o.y[i]), static_cast<double>(o.z[i])});
          want.push_back(w[0]);
          if (w.size() > 1) want2.push_back(w[1]);
        }
        expect_close(c.name, o.out, want);
        expect_close<T>(c.name, {o.out2.data(), want2.size()}, want2);
      }
    }
  });
}

TYPED_TEST(VectorKernels, DotAndSumOfSquaresMatchPlainLoop) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t n : test_lengths()) {
      const GuardedArray<T> x(wide_values<T>(n, 1)), y(normal_values<T>(n, 2));
      Expected product{0, 0}, squares{0, 0};
      for (int64_t i = 0; i < n; ++i) {
        const double a = static_cast<double>(x[i]), b = static_cast<double>(y[i]);
        product.value += a * b, product.magnitude += std::abs(a * b);
        squares.value += a * a;
      }
      const double roundings = static_cast<double>(n) / 2 + 4;  // 2 lanes at least, each a chain of additions
      product.magnitude *= roundings;
      squares.magnitude = squares.value * roundings;
      expect_close("dot", dot(n, x.data(), y.data()), product);
      expect_close("sum_squares", static_cast<T>(sum_squares(n, x.data())), squares);
    }
  });
}

// A float that counts by ones stops at 2^24.
TYPED_TEST(VectorKernels, SumOfSquaresOfManyNumbersLosesNothing) {
  using T = TypeParam;
  for_each_instruction_set([] {
    const std::vector<T> ones(20'000'001, T{1});
    EXPECT_EQ(sum_squares(static_cast<int64_t>(ones.size()), ones.data()), 20'000'001.0);
  });
}

TYPED_TEST(VectorKernels, ColumnSumsAccumulateAndSkipWhatLiesBeyondTheRow) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t rows : {0, 1, 5}) {
      for (int64_t n : test_lengths()) {
        const int64_t ld = n + 3;
        const GuardedArray<T> x(normal_values<T>(rows * ld, 1)), columns(normal_values<T>(n, 2));
        std::vector<Expected> want;
        for (int64_t j = 0; j < n; ++j) {
          Expected sum{static_cast<double>(columns[j]), std::abs(static_cast<double>(columns[j]))};
          for (int64_t i = 0; i < rows; ++i) {
            sum.value += static_cast<double>(x[i * ld + j]);
            sum.magnitude += std::abs(static_cast<double>(x[i * ld + j]));
          }
          want.push_back({sum.value, sum.magnitude * static_cast<double>(rows + 1)});
        }
        add_column_sums(rows, n, x.data(), ld, columns.data());
        expect_close("add_column_sums", columns, want);
      }
    }
  });
}

TYPED_TEST(VectorKernels, DropoutKeepsTheShareAskedForAndTheMean) {
  using T = TypeParam;
  constexpr int64_t n = 200'000;
  for_each_instruction_set([&] {
    for (double drop : {0.0, 0.1, 0.5, 0.9}) {
      const std::vector<T> x(n, T{1});
      std::vector<T> y(n);
      dropout(n, 123, 0, static_cast<T>(drop), x.data(), y.data());
      int64_t dropped = 0;
      for (T value : y) {
        dropped += value == 0;
        EXPECT_TRUE(value == 0 || value == T{1} / (T{1} - static_cast<T>(drop))) << value;
      }
      const double deviations = 5 * std::sqrt(drop * (1 - drop) * n);
      EXPECT_NEAR(static_cast<double>(dropped), drop * n, deviations);
    }
  });
}

/// Places dropped when one call covers [first, first + n).
template <class T>
std::vector<T> dropped_ones(int64_t n, uint64_t key, uint64_t first, int64_t piece) {
  std::vector<T> y(static_cast<size_t>(n), T{1});
  for (int64_t i = 0; i < n; i += piece) {
    dropout(std::min(piece, n - i), key, first + static_cast<uint64_t>(i), static_cast<T>(0.3), y.data() + i,
            y.data() + i);
  }
  return y;
}

TYPED_TEST(VectorKernels, DropoutDependsOnKeyAndPlaceNotOnTheSplitOrInstructionSet) {
  using T = TypeParam;
  // The last range crosses 2^32.
  for (uint64_t first : {uint64_t{0}, uint64_t{977}, (uint64_t{1} << 40) + 5, (uint64_t{1} << 32) - 300}) {
    const std::vector<T> whole = dropped_ones<T>(1000, 42, first, 1000);
    for_each_instruction_set([&] {
      for (int64_t piece : {1, 7, 16, 333})
        EXPECT_EQ(dropped_ones<T>(1000, 42, first, piece), whole) << first;
    });
    EXPECT_NE(dropped_ones<T>(1000, 43, first, 1000), whole);
    EXPECT_NE(dropped_ones<T>(1000, 42 + (uint64_t{1} << 32), first, 1000), whole);
    EXPECT_NE(dropped_ones<T>(1000, 42, first + (uint64_t{1} << 32), 1000), whole);
  }
}

// Masks of neighbouring keys and places must not follow each other: half of all pairs agree by chance.
TYPED_TEST(VectorKernels, DropoutMasksOfNeighboursAreIndependent) {
  using T = TypeParam;
  constexpr int64_t n = 100'000;
  std::vector<T> base(n, T{1});
  dropout(n, 1000, 0, static_cast<T>(0.5), base.data(), base.data());
  struct Other {
    uint64_t key, first;
  };
  for (const Other& other :
       {Other{1001, 0}, Other{1000, 1}, Other{1008, 0}, Other{1000, uint64_t{1} << 32}}) {
    std::vector<T> y(n, T{1});
    dropout(n, other.key, other.first, static_cast<T>(0.5), y.data(), y.data());
    int64_t agree = 0;
    for (size_t i = 0; i < y.size(); ++i) agree += y[i] == base[i];
    EXPECT_NEAR(static_cast<double>(agree), n / 2.0, 5 * std::sqrt(n / 4.0))
        << other.key << " " << other.first;
  }
}

}  // namespace
}  // namespace qtf::kernels
