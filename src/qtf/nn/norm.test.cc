#include "qtf/nn/norm.h"

#include <gtest/gtest.h>

#include <limits>

#include "qtf/nn/nn_test.h"

namespace qtf::nn {
namespace {

/// A norm of width `cols` over `rows` random tokens, all in one struct so that losses can be taken again.
template <class T>
struct Fixture {
  Fixture(NormKind kind, int64_t rows_, int64_t cols_)
      : rows(rows_),
        cols(cols_),
        x(random_values<T>(rows * cols, 1)),
        weight(random_values<T>(cols, 2)),
        bias(random_values<T>(cols, 3)),
        y(x.size()) {
    norm.kind = kind;
    norm.weight = weight.data(), norm.weight_gradient = 0;
    if (kind == NormKind::layer) norm.bias = bias.data(), norm.bias_gradient = cols;
    norm.epsilon = static_cast<T>(0.01);
    stats.resize(static_cast<size_t>(norm.stats_size(rows)));
  }

  void forward() { norm_forward<T>(norm, {x.data(), rows, cols}, {y.data(), rows, cols}, stats.data()); }

  /// The definition for one element.
  double plain(int64_t i, int64_t j) const {
    const T* row = x.data() + i * cols;
    const auto n = static_cast<double>(cols);
    double mean = 0, square = 0;
    for (int64_t k = 0; k < cols && norm.kind == NormKind::layer; ++k)
      mean += static_cast<double>(row[k]) / n;
    for (int64_t k = 0; k < cols; ++k) square += std::pow(static_cast<double>(row[k]) - mean, 2) / n;
    const double unit =
        (static_cast<double>(row[j]) - mean) / std::sqrt(square + static_cast<double>(norm.epsilon));
    return unit * static_cast<double>(weight[static_cast<size_t>(j)]) +
           (norm.bias ? static_cast<double>(bias[static_cast<size_t>(j)]) : 0);
  }

  int64_t rows, cols;
  std::vector<T> x, weight, bias, y, stats;
  Norm<T> norm;
};

template <class T>
void expect_equals_definition(NormKind kind, int64_t rows, int64_t cols) {
  Fixture<T> f(kind, rows, cols);
  f.forward();
  // Values of size ~4 after a sum over `cols` terms.
  const double tolerance =
      static_cast<double>(std::numeric_limits<T>::epsilon()) * 8 * (4 + std::sqrt(static_cast<double>(cols)));
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      const double expected = f.plain(i, j);
      ASSERT_NEAR(static_cast<double>(f.y[static_cast<size_t>(i * cols + j)]), expected,
                  tolerance * (1 + std::abs(expected)))
          << "row " << i << " column " << j << " of " << cols;
    }
  }
}

TEST(Norm, EqualsItsDefinition) {
  for (NormKind kind : {NormKind::rms, NormKind::layer}) {
    for (int64_t cols : {2, 7, 16, 33, 128}) {
      expect_equals_definition<float>(kind, 5, cols);
      expect_equals_definition<double>(kind, 3, cols);
    }
  }
}

TEST(Norm, GradientsEqualCentralDifferencesAndAreAdded) {
  for (NormKind kind : {NormKind::rms, NormKind::layer}) {
    Fixture<double> f(kind, 4, 9);
    const auto dy = random_values<double>(36, 5);
    const auto loss = [&] {
      f.forward();
      return inner_product(f.y, dy);
    };
    loss();
    std::vector<double> dx(36, 3), gradients(18, 4);
    norm_backward<double>(f.norm, {dy.data(), 4, 9}, {f.x.data(), 4, 9}, f.stats.data(), {dx.data(), 4, 9},
                          gradients.data());
    for (double& g : dx) g -= 3;
    for (double& g : gradients) g -= 4;
    EXPECT_LT(gradient_error(f.x, dx, loss), 1e-8);
    EXPECT_LT(gradient_error(f.weight, std::span(gradients).first(9), loss), 1e-8);
    if (kind == NormKind::layer) {
      EXPECT_LT(gradient_error(f.bias, std::span(gradients).last(9), loss), 1e-8);
    } else {
      EXPECT_EQ(std::vector<double>(9, 0), std::vector<double>(gradients.begin() + 9, gradients.end()));
    }
  }
}

TEST(Norm, ARowOfZerosStaysFinite) {
  for (NormKind kind : {NormKind::rms, NormKind::layer}) {
    Fixture<float> f(kind, 2, 6);
    std::fill(f.x.begin(), f.x.end(), 0.0f);
    f.forward();
    for (size_t j = 0; j < 12; ++j) EXPECT_EQ(f.y[j], kind == NormKind::rms ? 0 : f.bias[j % 6]);
  }
}

}  // namespace
}  // namespace qtf::nn
