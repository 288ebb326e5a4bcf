#include "qtf/base/float16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace qtf {
namespace {

TEST(Float16, EveryHalfComesBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = float_from_half(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(float_from_half(half_from_float(value))));
    } else {
      ASSERT_EQ(half_from_float(value), bits) << value;
    }
  }
}

TEST(Float16, EveryBfloat16ComesBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = float_from_bfloat16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(float_from_bfloat16(bfloat16_from_float(value))));
    } else {
      ASSERT_EQ(bfloat16_from_float(value), bits) << value;
    }
  }
}

// Between two neighbours: the nearer one, and the even one from the middle.
TEST(Float16, RoundsToTheNearest) {
  for (uint32_t bits = 0; bits < 0x7BFF; ++bits) {
    const float low = float_from_half(static_cast<uint16_t>(bits));
    const float high = float_from_half(static_cast<uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;
    ASSERT_EQ(half_from_float(middle), bits + bits % 2) << middle;
    ASSERT_EQ(half_from_float(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(half_from_float(std::nextafter(middle, high)), bits + 1);
    ASSERT_EQ(half_from_float(-middle), 0x8000u + bits + bits % 2);
  }
  EXPECT_EQ(bfloat16_from_float(1.00390625f), 0x3F80) << "the middle above an even one";
  EXPECT_EQ(bfloat16_from_float(1.01171875f), 0x3F82) << "the middle above an odd one";
  EXPECT_EQ(bfloat16_from_float(1.0040f), 0x3F81);
}

TEST(Float16, TooLargeIsInfinite) {
  EXPECT_EQ(half_from_float(65519.996f), 0x7BFF);
  EXPECT_EQ(half_from_float(65520.0f), 0x7C00);
  EXPECT_EQ(half_from_float(-std::numeric_limits<float>::infinity()), 0xFC00);
  EXPECT_EQ(bfloat16_from_float(std::numeric_limits<float>::max()), 0x7F80);
}

}  // namespace
}  // namespace qtf
