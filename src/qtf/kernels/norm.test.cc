#include "qtf/kernels/norm.h"

#include "qtf/kernels/kernel_test.h"

namespace qtf::kernels {
namespace {

template <class T>
class NormKernels : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(NormKernels, Types);

constexpr double kEpsilon = 1e-5;
constexpr int64_t kRows = 3;

/// Epsilons that a sum of n numbers may be wrong by, in shares of the sum of their magnitudes: a chain of
/// additions a lane, 2 lanes at least.
double roundings(int64_t n) {
  return static_cast<double>(n) / 2 + 8;
}

/// One row in double, and the means that bound its errors.
struct Row {
  std::vector<double> x, weight, bias, dy;
  double mean = 0, mean_size = 0, inverse = 0, mean_square = 0;
  int64_t n() const { return static_cast<int64_t>(x.size()); }
};

template <class T>
struct Inputs {
  int64_t n;
  GuardedArray<T> x, weight, bias, dy;
  Inputs(int64_t length, double mean)
      : n(length),
        x(normal_values<T>(kRows * n, 1, 1, mean)),
        weight(normal_values<T>(n, 2, 0.3, 1)),
        bias(normal_values<T>(n, 3)),
        dy(normal_values<T>(kRows * n, 4)) {}

  /// centred: subtract the mean (LayerNorm).
  Row row(int64_t i, bool centred) const {
    Row r;
    for (int64_t j = 0; j < n; ++j) {
      r.x.push_back(x[i * n + j]), r.dy.push_back(dy[i * n + j]);
      r.weight.push_back(weight[j]), r.bias.push_back(bias[j]);
      r.mean += r.x.back() / static_cast<double>(n);
      r.mean_size += std::abs(r.x.back()) / static_cast<double>(n);
    }
    if (!centred) r.mean = r.mean_size = 0;
    for (double v : r.x) r.mean_square += (v - r.mean) * (v - r.mean) / static_cast<double>(n);
    r.inverse = 1 / std::sqrt(r.mean_square + static_cast<double>(static_cast<T>(kEpsilon)));
    return r;
  }
};

/// What x̂ = (x - mean) · inverse may be wrong by: the mean's error and the deviation's.
Expected normalised(const Row& r, size_t j) {
  const double hat = (r.x[j] - r.mean) * r.inverse, terms = roundings(r.n());
  const double mean_error = (std::abs(r.x[j]) + std::abs(r.mean) + terms * r.mean_size) * r.inverse;
  return {hat, mean_error + std::abs(hat) * (terms + 4 * mean_error)};
}

TYPED_TEST(NormKernels, ForwardMatchesPlainLoop) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t n : test_lengths()) {
      if (n == 0) continue;  // the mean of nothing
      for (double mean : {0.0, 3.0, 100.0}) {
        const Inputs<T> in(n, mean);
        const GuardedArray<T> y(kRows * n), inverse_rms(kRows), z(kRows * n), stats(2 * kRows);
        rms_norm(kRows, n, in.x.data(), in.weight.data(), static_cast<T>(kEpsilon), y.data(),
                 inverse_rms.data());
        layer_norm(kRows, n, in.x.data(), in.weight.data(), in.bias.data(), static_cast<T>(kEpsilon),
                   z.data(), stats.data());
        std::vector<Expected> want_y, want_z, want_rms, want_stats;
        for (int64_t i = 0; i < kRows; ++i) {
          const Row rms = in.row(i, false), layer = in.row(i, true);
          const double shift = layer.inverse * roundings(n) * layer.mean_size;  // the mean's error, scaled
          want_rms.push_back({rms.inverse, rms.inverse * roundings(n)});
          want_stats.push_back({layer.mean, roundings(n) * layer.mean_size});
          want_stats.push_back({layer.inverse, layer.inverse * (roundings(n) + 4 * shift)});
          for (size_t j = 0; j < rms.x.size(); ++j) {
            const Expected a = normalised(rms, j), b = normalised(layer, j);
            const double w = rms.weight[j];
            want_y.push_back({a.value * w, 2 * a.magnitude * std::abs(w)});
            want_z.push_back(
                {b.value * w + layer.bias[j], 2 * b.magnitude * std::abs(w) + std::abs(layer.bias[j])});
          }
        }
        expect_close("rms_norm", y, want_y);
        expect_close("inverse_rms", inverse_rms, want_rms);
        expect_close("layer_norm", z, want_z);
        expect_close("stats", stats, want_stats);
      }
    }
  });
}

/// What backward gives for one row with the forward's own statistics: dx += inverse · (g - x̂·mean(g·x̂) [-
/// mean(g])), g = dy · weight.
struct Gradients {
  std::vector<Expected> dx, dweight, dbias;
  explicit Gradients(int64_t n, double before) {
    const Expected start{before, std::abs(before)};
    dx.assign(static_cast<size_t>(kRows * n), start);
    dweight.assign(static_cast<size_t>(n), start), dbias = dweight;
  }
  void add(const Row& r, int64_t i, bool centred) {
    const auto n = static_cast<double>(r.n());
    double mean_g = 0, mean_gx = 0, size_g = 0, size_gx = 0;
    for (size_t j = 0; j < r.x.size(); ++j) {
      const double g = r.dy[j] * r.weight[j], hat = (r.x[j] - r.mean) * r.inverse;
      mean_g += g / n, mean_gx += g * hat / n, size_g += std::abs(g) / n, size_gx += std::abs(g * hat) / n;
    }
    if (!centred) mean_g = size_g = 0;
    for (size_t j = 0; j < r.x.size(); ++j) {
      const double g = r.dy[j] * r.weight[j], hat = (r.x[j] - r.mean) * r.inverse;
      const size_t at = static_cast<size_t>(i) * r.x.size() + j;
      const double size = std::abs(g) + size_g + (std::abs(hat) + 1) * size_gx;
      dx[at].value += r.inverse * (g - mean_g - hat * mean_gx);
      dx[at].magnitude += r.inverse * size * 2 * roundings(r.n());
      dweight[j].value += r.dy[j] * hat;
      dweight[j].magnitude += std::abs(r.dy[j]) * (std::abs(hat) + 1) * 8;
      dbias[j].value += r.dy[j];
      dbias[j].magnitude += std::abs(r.dy[j]) * kRows;
    }
  }
};

TYPED_TEST(NormKernels, BackwardAccumulatesWhatPlainLoopGives) {
  using T = TypeParam;
  constexpr double kBefore = 0.5;
  for_each_instruction_set([] {
    for (int64_t n : test_lengths()) {
      if (n == 0) continue;
      for (bool centred : {false, true}) {
        const Inputs<T> in(n, 0.2);
        Gradients want(n, kBefore);
        const GuardedArray<T> stats(centred ? 2 * kRows : kRows);
        for (int64_t i = 0; i < kRows; ++i) {
          const Row r = in.row(i, centred);
          if (centred) stats[2 * i] = static_cast<T>(r.mean);
          stats[centred ? 2 * i + 1 : i] = static_cast<T>(r.inverse);
          want.add(r, i, centred);
        }
        const GuardedArray<T> dx(std::vector<T>(static_cast<size_t>(kRows * n), T(kBefore))),
            dweight(std::vector<T>(static_cast<size_t>(n), T(kBefore))), dbias(dweight.values());
        if (centred) {
          layer_norm_backward(kRows, n, in.x.data(), in.weight.data(), stats.data(), in.dy.data(), dx.data(),
                              dweight.data(), dbias.data());
          expect_close("dbias", dbias, want.dbias);
        } else {
          rms_norm_backward(kRows, n, in.x.data(), in.weight.data(), stats.data(), in.dy.data(), dx.data(),
                            dweight.data());
        }
        expect_close("dx", dx, want.dx);
        expect_close("dweight", dweight, want.dweight);
      }
    }
  });
}

TYPED_TEST(NormKernels, RowsBitsDoNotDependOnNeighbours) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (int64_t n : {1, 7, 33, 128}) {
      const Inputs<T> in(n, 0);
      std::vector<T> y(static_cast<size_t>(kRows * n)), z(y), stats(2 * kRows);
      rms_norm(kRows, n, in.x.data(), in.weight.data(), T(kEpsilon), y.data(), stats.data());
      layer_norm(kRows, n, in.x.data(), in.weight.data(), in.bias.data(), T(kEpsilon), z.data(),
                 stats.data());
      for (int64_t i = 0; i < kRows; ++i) {
        const GuardedArray<T> x(std::vector<T>(in.x.data() + i * n, in.x.data() + (i + 1) * n));
        std::vector<T> alone(static_cast<size_t>(n)), one(2);
        rms_norm(1, n, x.data(), in.weight.data(), T(kEpsilon), alone.data(), one.data());
        EXPECT_TRUE(same_bits(alone.data(), y.data() + i * n, n));
        layer_norm(1, n, x.data(), in.weight.data(), in.bias.data(), T(kEpsilon), alone.data(), one.data());
        EXPECT_TRUE(same_bits(alone.data(), z.data() + i * n, n));
      }
    }
  });
}

TYPED_TEST(NormKernels, ZeroAndHugeRowsStayFinite) {
  using T = TypeParam;
  for_each_instruction_set([] {
    for (T value : {T{0}, T(1e4), T(-1e15)}) {
      const std::vector<T> x(37, value), weight(37, T{1}), bias(37, T{0});
      std::vector<T> y(37), z(37), stats(2);
      rms_norm(1, 37, x.data(), weight.data(), T(kEpsilon), y.data(), stats.data());
      layer_norm(1, 37, x.data(), weight.data(), bias.data(), T(kEpsilon), z.data(), stats.data());
      for (size_t j = 0; j < 37; ++j) {
        EXPECT_NEAR(y[j], value == 0 ? 0 : (value > 0 ? 1 : -1), 1e-5);
        EXPECT_TRUE(std::isfinite(z[j]));
      }
    }
  });
}

}  // namespace
}  // namespace qtf::kernels
