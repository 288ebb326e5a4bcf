#include "qtf/kernels/fma_peak.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qtf/kernels/kernel_test.h"

namespace qtf::kernels {
namespace {

TEST(FmaPeak, IsPlausibleOnEveryInstructionSet) {
  for_each_instruction_set([] {
    const double peak = measure_fma_peak(0.02);
    EXPECT_TRUE(std::isfinite(peak));
    EXPECT_GT(peak, 1e8);
    EXPECT_LT(peak, 1e12);
  });
}

TEST(FmaPeak, MeasuresOnceEvenWithNoTime) {
  EXPECT_GT(measure_fma_peak(0), 0);
}

}  // namespace
}  // namespace qtf::kernels
