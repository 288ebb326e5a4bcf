// What the tests of layers share: random values and the check of a gradient by central differences.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "qtf/base/random.h"

namespace qtf::nn {

template <class T>
std::vector<T> random_values(int64_t n, uint64_t stream, double deviation = 1) {
  std::vector<T> values(static_cast<size_t>(n));
  const Random random{21, stream};
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(deviation * random.normal(i));
  return values;
}

/// The largest |central difference of `loss` − gradient[i]| over about `most` places i of `values`, which
/// `loss` depends on. With steps of 1e-5 both its errors, step²·third derivative and epsilon·loss/step, are
/// some 1e-10 for losses and derivatives of size one.
inline double gradient_error(std::span<double> values, std::span<const double> gradient,
                             const std::function<double()>& loss, size_t most = 40) {
  const double step = 1e-5;
  const size_t stride = std::max<size_t>(1, values.size() / most);
  double worst = 0;
  for (size_t i = 0; i < values.size(); i += stride) {
    const double before = values[i];
    values[i] = before + step;
    const double up = loss();
    values[i] = before - step;
    const double down = loss();
    values[i] = before;
    worst = std::max(worst, std::abs((up - down) / (2 * step) - gradient[i]));
  }
  return worst;
}

/// Σ a·b: a loss whose gradient by `a` is `b`.
inline double inner_product(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace qtf::nn
