#include "qtf/adapt/gate_signal.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace qtf::adapt {
namespace {

TEST(GateSignal, IsMonotoneInItsSumAndStaysWithinOne) {
  // Two numbers, the entropy's weight and the constant.
  const std::vector<int64_t> weights{1'000'000, -2'000'000, 500'000, 250'000};
  const float x[] = {3, 4};  // rms √12.5
  const double z = (3 - 8) / std::sqrt(12.5) + 0.5 * 0.4 + 0.25;
  EXPECT_NEAR(gate_signal<float>(weights, x, 0.4), 0.5 * (1 + z / (1 - z)), 1e-6);
  double before = 0;
  for (const double entropy : {-1e7, -3.0, 0.0, 0.5, 1.0, 1e7}) {
    const double signal = gate_signal<float>(weights, x, entropy);
    EXPECT_GT(signal, before);
    EXPECT_LT(signal, 1);
    before = signal;
  }
  const float twice[] = {6, 8};
  EXPECT_NEAR(gate_signal<float>(weights, twice, 0.4), gate_signal<float>(weights, x, 0.4), 1e-6);
}

}  // namespace
}  // namespace qtf::adapt
