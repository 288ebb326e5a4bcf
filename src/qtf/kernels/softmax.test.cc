#include "qtf/kernels/softmax.h"

#include <numeric>

#include "qtf/kernels/kernel_test.h"

namespace qtf::kernels {
namespace {

template <class T>
class SoftmaxKernels : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(SoftmaxKernels, Types);

/// Epsilons that a sum of n positive numbers may be wrong by: a chain of additions a lane, 2 lanes at least.
double roundings(size_t n) {
  return static_cast<double>(n) / 2 + 8;
}

double exact_log_sum_exp(const std::vector<double>& x) {
  const double top = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (double v : x) sum += std::exp(v - top);
  return top + std::log(sum);
}

/// softmax of a row's scaled scores, its log Σ exp and its entropy, with the errors that rounding scale·x
/// costs.
struct Softmax {
  std::vector<Expected> p;
  Expected log_sum_exp{0, 0};
  Expected entropy{0, 0};
};

template <class T>
Softmax exact_softmax(const T* scores, int64_t length, T scale) {
  std::vector<double> x(static_cast<size_t>(length));
  double largest = 0;
  for (size_t j = 0; j < x.size(); ++j) {
    x[j] = static_cast<double>(scale) * static_cast<double>(scores[j]);
    largest = std::max(largest, std::abs(x[j]));
  }
  Softmax result;
  const double lse = exact_log_sum_exp(x);
  result.log_sum_exp = {lse, 2 * largest + std::abs(lse) + roundings(x.size())};
  for (double v : x) {
    const double p = std::exp(v - lse);
    result.p.push_back({p, p * (roundings(x.size()) + 4 * largest + std::abs(lse))});
    result.entropy.value -= p > 0 ? p * (v - lse) : 0;
  }
  // ln Z and the mean of ln e, each at most ln n; an error d of x changes e·ln e by e·(1 + ln e)·d.
  const double most = 1 + std::log(static_cast<double>(length));
  result.entropy.magnitude = 2 * most * (roundings(x.size()) + 2 * largest);
  return result;
}

struct Block {
  int64_t rows, width, first, padding;
  double deviation, scale;
};

/// Every tail length at each place of a block, and score sizes up to ±1e4 and beyond.
std::vector<Block> blocks() {
  std::vector<Block> all = {{4, 200, 100, 3, 1, 0.125}, {3, 1000, 998, 0, 3, 1}, {1, 4099, 5000, 1, 1, 1}};
  for (int64_t width = 1; width <= 2 * 16 + 3; ++width) {
    all.push_back({width, width, 0, 2, 1, 0.25});
    all.push_back({2, width, width / 2, 0, 1e4, 1});
    all.push_back({2, width, width, 5, 3e3, 0.7});
  }
  return all;
}

TYPED_TEST(SoftmaxKernels, CausalMatchesPlainLoopAndKeepsWhatLiesBeside) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (const Block& b : blocks()) {
      const int64_t ld = b.width + b.padding, size = (b.rows - 1) * ld + b.width;  // ends with the last row
      const GuardedArray<T> scores(normal_values<T>(size, 1, b.deviation)), again(scores.values()),
          lse(b.rows), kept(scores.values()), entropy(b.rows), plain(scores.values()), plain_lse(b.rows);
      const T scale = static_cast<T>(b.scale);
      softmax_causal(b.rows, b.width, b.first, scale, scores.data(), ld, lse.data(), entropy.data());
      softmax_causal(b.rows, b.width, b.first, scale, plain.data(), ld, plain_lse.data());
      EXPECT_TRUE(same_bits(scores.data(), plain.data(), size));
      EXPECT_TRUE(same_bits(lse.data(), plain_lse.data(), b.rows));
      softmax_causal_again(b.rows, b.width, b.first, scale, again.data(), ld, lse.data());
      for (int64_t i = 0; i < b.rows; ++i) {
        const int64_t length = std::min(b.width, b.first + i + 1), at = i * ld;
        const Softmax want = exact_softmax(kept.data() + at, length, scale);
        const auto valid = static_cast<size_t>(length);
        expect_close<T>("softmax", {scores.data() + at, valid}, want.p);
        expect_close<T>("softmax again", {again.data() + at, valid}, want.p);
        expect_close("log_sum_exp", lse[i], want.log_sum_exp);
        expect_close("entropy", entropy[i], want.entropy);
        for (int64_t j = length; j < b.width; ++j) {
          EXPECT_EQ(scores[at + j], T{0}) << i << " " << j;
          EXPECT_EQ(again[at + j], T{0}) << i << " " << j;
        }
        if (i + 1 < b.rows) {
          EXPECT_TRUE(same_bits(scores.data() + at + b.width, kept.data() + at + b.width, b.padding));
          EXPECT_TRUE(same_bits(again.data() + at + b.width, kept.data() + at + b.width, b.padding));
        }
      }
    }
  });
}

TYPED_TEST(SoftmaxKernels, RowsBitsDoNotDependOnNeighboursOrWidth) {
  using T = TypeParam;
  for_each_instruction_set([] {
    const int64_t width = 37;
    const auto scores = normal_values<T>(width * width, 1, 5);
    auto block = scores;
    std::vector<T> lse(static_cast<size_t>(width));
    softmax_causal(width, width, 0, T{1}, block.data(), width, lse.data());
    for (int64_t i = 0; i < width; ++i) {
      for (int64_t wide : {i + 1, i + 4, i + 40}) {
        std::vector<T> row(static_cast<size_t>(wide), T(99));
        std::copy_n(scores.data() + i * width, i + 1, row.data());
        auto again = row;
        T alone = 0;
        softmax_causal(1, wide, i, T{1}, row.data(), wide, &alone);
        EXPECT_TRUE(same_bits(row.data(), block.data() + i * width, i + 1)) << i << " " << wide;
        EXPECT_EQ(alone, lse[static_cast<size_t>(i)]);
        softmax_causal_again(1, wide, i, T{1}, again.data(), wide, &alone);
        T narrow_lse = alone;
        std::vector<T> narrow(scores.data() + i * width, scores.data() + i * width + i + 1);
        softmax_causal_again(1, i + 1, i, T{1}, narrow.data(), i + 1, &narrow_lse);
        EXPECT_TRUE(same_bits(again.data(), narrow.data(), i + 1)) << i << " " << wide;
      }
    }
  });
}

TYPED_TEST(SoftmaxKernels, BackwardMatchesPlainLoop) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t width : test_lengths()) {
      const int64_t rows = 3, ld = width + 2, size = std::max<int64_t>((rows - 1) * ld + width, 0);
      std::vector<T> values = normal_values<T>(size, 1);
      for (T& v : values) v = std::abs(v) / static_cast<T>(width + 1);
      const GuardedArray<T> p(values), dp(normal_values<T>(size, 2)), kept(dp.values());
      const T scale = static_cast<T>(0.3);
      softmax_backward(rows, width, scale, p.data(), dp.data(), ld);
      for (int64_t i = 0; i < rows; ++i) {
        double sum = 0, total = 0;
        for (int64_t j = i * ld; j < i * ld + width; ++j) {
          const double term = static_cast<double>(p[j]) * static_cast<double>(kept[j]);
          sum += term, total += std::abs(term);
        }
        std::vector<Expected> want;
        for (int64_t j = i * ld; j < i * ld + width; ++j) {
          const double factor = static_cast<double>(scale) * static_cast<double>(p[j]), g = kept[j];
          want.push_back(
              {factor * (g - sum),
               std::abs(factor) * (4 * std::abs(g) + total * roundings(static_cast<size_t>(width)))});
        }
        expect_close<T>("softmax_backward", {dp.data() + i * ld, static_cast<size_t>(width)}, want);
        const int64_t padding = i + 1 < rows ? 2 : 0;
        EXPECT_TRUE(same_bits(dp.data() + i * ld + width, kept.data() + i * ld + width, padding));
      }
    }
  });
}

TYPED_TEST(SoftmaxKernels, BackwardOfARowDoesNotDependOnItsZeroTail) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t n : {1, 5, 16, 21}) {
      const auto p = normal_values<T>(n, 1), dp = normal_values<T>(n, 2);
      auto narrow = dp;
      softmax_backward(1, n, T{1}, p.data(), narrow.data(), n);
      std::vector<T> wide_p(static_cast<size_t>(n + 19), T{0}), wide(static_cast<size_t>(n + 19), T{3});
      std::copy(p.begin(), p.end(), wide_p.begin());
      std::copy(dp.begin(), dp.end(), wide.begin());
      softmax_backward(1, n + 19, T{1}, wide_p.data(), wide.data(), n + 19);
      EXPECT_TRUE(same_bits(wide.data(), narrow.data(), n)) << n;
      for (int64_t j = n; j < n + 19; ++j) EXPECT_EQ(wide[static_cast<size_t>(j)], T{0});
    }
  });
}

TYPED_TEST(SoftmaxKernels, LogSumExpAndArgmaxMatchPlainLoop) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t n : test_lengths()) {
      if (n == 0) continue;
      for (double deviation : {0.0, 1.0, 1e4}) {
        const GuardedArray<T> x(normal_values<T>(n, 1, deviation, -2));
        const std::vector<T> values = x.values();
        const double lse = exact_log_sum_exp({values.begin(), values.end()});
        expect_close("log_sum_exp", log_sum_exp(n, x.data()),
                     {lse, 2 * std::abs(lse) + roundings(values.size()) + 8 * deviation});
        EXPECT_EQ(argmax(n, x.data()), std::max_element(values.begin(), values.end()) - values.begin());
      }
    }
  });
}

TYPED_TEST(SoftmaxKernels, ArgmaxFindsEachPlaceAndTheFirstOfEquals) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t n = 1; n <= 35; ++n) {
      for (int64_t place = 0; place < n; ++place) {
        std::vector<T> x(static_cast<size_t>(n), T{-5});
        x[static_cast<size_t>(place)] = x.back() = T{-1};
        EXPECT_EQ(argmax(n, x.data()), place);
      }
    }
  });
}

TYPED_TEST(SoftmaxKernels, ExponentialsMatchPlainLoopInPlaceToo) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t n : test_lengths()) {
      for (double deviation : {1.0, 2e3}) {
        const GuardedArray<T> x(normal_values<T>(n, 1, deviation)), t(normal_values<T>(n, 2, deviation)),
            y(n), shifted(x.values()), difference(x.values());
        const std::vector<T> xs = x.values(), ts = t.values();
        const T top_x = n ? *std::max_element(xs.begin(), xs.end()) : T{0};
        const T top_t = n ? *std::max_element(ts.begin(), ts.end()) : T{0}, factor = static_cast<T>(-0.3);
        std::vector<Expected> want_shifted, want_difference;
        for (int64_t i = 0; i < n; ++i) {
          const double ax = static_cast<double>(x[i]) - static_cast<double>(top_x), px = std::exp(ax);
          const double at = static_cast<double>(t[i]) - static_cast<double>(top_t), pt = std::exp(at);
          const double error = px * (4 + std::abs(ax)), t_error = pt * (4 + std::abs(at));
          want_shifted.push_back({static_cast<double>(factor) * px, 0.3 * error});
          want_difference.push_back(
              {static_cast<double>(factor) * (px - pt), 0.3 * (error + t_error + px + pt)});
        }
        exp_shifted(n, x.data(), top_x, factor, y.data());
        exp_shifted(n, shifted.data(), top_x, factor, shifted.data());
        expect_close("exp_shifted", y, want_shifted);
        EXPECT_TRUE(same_bits(shifted.data(), y.data(), n));
        exp_difference(n, x.data(), top_x, t.data(), top_t, factor, y.data());
        exp_difference(n, difference.data(), top_x, t.data(), top_t, factor, difference.data());
        expect_close("exp_difference", y, want_difference);
        EXPECT_TRUE(same_bits(difference.data(), y.data(), n));
      }
    }
  });
}

TYPED_TEST(SoftmaxKernels, ScaledSoftmaxIsTheShiftedExponential) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t n : test_lengths()) {
      if (n == 0) continue;
      const std::vector<T> x = normal_values<T>(n, 3, 4.0);
      const GuardedArray<T> scaled(x), want(x);
      const T factor = static_cast<T>(0.3), lse = log_sum_exp(n, x.data());
      EXPECT_EQ(softmax_scaled(n, factor, scaled.data()), lse);
      exp_shifted(n, x.data(), lse, factor, want.data());
      // The two shifts, by the maximum and by the log-sum-exp, each round the exponent.
      const T tolerance = 64 * std::numeric_limits<T>::epsilon();
      for (int64_t i = 0; i < n; ++i)
        EXPECT_NEAR(scaled[i], want[i], tolerance * want[i]) << i << " of " << n;
    }
  });
}

TYPED_TEST(SoftmaxKernels, DivergenceMatchesPlainLoop) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t n : test_lengths()) {
      if (n == 0) continue;
      for (double deviation : {1.0, 1e4}) {
        const GuardedArray<T> t(normal_values<T>(n, 1, deviation)), x(normal_values<T>(n, 2, deviation));
        const T lse_t = log_sum_exp(n, t.data()), lse_x = log_sum_exp(n, x.data());
        Expected want{0, 0};
        for (int64_t i = 0; i < n; ++i) {
          const double log_t = static_cast<double>(t[i]) - static_cast<double>(lse_t);
          const double log_x = static_cast<double>(x[i]) - static_cast<double>(lse_x);
          const double size = std::exp(log_t) * (std::abs(log_t) + std::abs(log_x));
          want.value += std::exp(log_t) * (log_t - log_x);
          want.magnitude += size * (roundings(static_cast<size_t>(n)) + std::abs(log_t));
        }
        expect_close("kl_divergence", kl_divergence(n, t.data(), lse_t, x.data(), lse_x), want);
        EXPECT_EQ(kl_divergence(n, t.data(), lse_t, t.data(), lse_t), T{0});
      }
    }
  });
}

}  // namespace
}  // namespace qtf::kernels
