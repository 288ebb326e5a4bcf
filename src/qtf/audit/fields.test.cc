#include "qtf/audit/fields.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "qtf/base/error.h"

namespace qtf::audit {
namespace {

using nlohmann::json;

TEST(Fields, AreReadBack) {
  const json object = {{"a", "-17"}, {"b", "yes"}, {"c", "no"}, {"d", {"x"}}, {"e", float_bits(-0.1F)}};
  EXPECT_EQ(integer_field(object, "a"), -17);
  EXPECT_EQ(text_field(object, "a"), "-17");
  EXPECT_TRUE(flag_field(object, "b"));
  EXPECT_FALSE(flag_field(object, "c"));
  EXPECT_EQ(array_field(object, "d").size(), 1U);
  EXPECT_EQ(float_field(object, "e"), -0.1F);
  for (float value :
       {0.F, -0.F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::denorm_min()}) {
    const float back = float_field({{"x", float_bits(value)}}, "x");
    EXPECT_EQ(back, value);
    EXPECT_EQ(std::signbit(back), std::signbit(value));
  }
  EXPECT_EQ(float_bits(1.F), "3f800000");
  EXPECT_EQ(double_field({{"x", float_bits(0.1)}}, "x"), 0.1);
  EXPECT_EQ(float_bits(1.0), "3ff0000000000000");
}

TEST(Fields, ThatAreNotThereOrOtherwiseAreNamed) {
  const json object = {{"number", 3},        {"text", "three"}, {"zero", "03"},
                       {"plus", "+3"},       {"empty", ""},     {"far", "9223372036854775808"},
                       {"bits", "3F800000"}, {"short", "3f8"}};
  EXPECT_THROW(member(object, "none"), InputError);
  EXPECT_THROW(member("text", "none"), InputError);
  EXPECT_THROW(text_field(object, "number"), InputError);
  EXPECT_THROW(array_field(object, "text"), InputError);
  EXPECT_THROW(flag_field(object, "text"), InputError);
  for (const char* key : {"number", "text", "zero", "plus", "empty", "far"})
    EXPECT_THROW(integer_field(object, key), InputError) << key;
  for (const char* key : {"bits", "short", "text", "number"})
    EXPECT_THROW(float_field(object, key), InputError) << key;
  EXPECT_THROW(double_field({{"x", float_bits(1.F)}}, "x"), InputError);
}

}  // namespace
}  // namespace qtf::audit
