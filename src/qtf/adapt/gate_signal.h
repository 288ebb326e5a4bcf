// What a learned gate says of a token (the policy `gate`), for the rank scheduler and the edge library alike.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "qtf/kernels/vector.h"

namespace qtf::adapt {

/// Weights of a learned gate are integers in this unit.
inline constexpr double kGateUnit = 1e-6;

/// 1/rms(x): a gate looks at a token's numbers at one scale.
template <class T>
double inverse_rms(const T* x, int64_t width) {
  return 1 / std::sqrt(kernels::sum_squares<T>(width, x) / static_cast<double>(width) + 1e-12);
}

/// What a learned gate expects a token to lose at a smaller level: z/(1 + |z|) moved to (0, 1), of
/// z = Σ weights[i]·x[i]/rms(x) + weights[D]·entropy + weights[D + 1]. weights: D + 2 numbers in kGateUnit.
template <class T>
double gate_signal(std::span<const int64_t> weights, const T* x, double entropy) {
  const auto width = static_cast<int64_t>(weights.size()) - 2;
  double sum = 0;
  for (int64_t i = 0; i < width; ++i)
    sum += static_cast<double>(weights[static_cast<size_t>(i)]) * static_cast<double>(x[i]);
  const auto at = static_cast<size_t>(width);
  const double z = kGateUnit * (sum * inverse_rms(x, width) + static_cast<double>(weights[at]) * entropy +
                                static_cast<double>(weights[at + 1]));
  return 0.5 * (1 + z / (1 + std::abs(z)));
}

}  // namespace qtf::adapt
