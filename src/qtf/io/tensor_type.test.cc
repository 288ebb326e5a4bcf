#include "qtf/io/tensor_type.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "qtf/base/error.h"
#include "qtf/base/random.h"

namespace qtf::io {
namespace {

std::vector<float> random_numbers(size_t count, double scale) {
  const Random random{7, 3};
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(scale * random.normal(i));
  return values;
}

std::vector<float> decoded(const TensorTypeInfo& type, const std::vector<std::byte>& bytes) {
  const auto blocks = static_cast<int64_t>(bytes.size() / type.bytes);
  std::vector<float> values(static_cast<size_t>(blocks * type.block));
  type.decode(bytes.data(), blocks, values.data());
  return values;
}

// Largest error of a number, by its own size or the largest of its block.
double tolerance(TensorType type, float value, float largest) {
  switch (type) {
    case TensorType::f16:
      return 0x1p-11 * std::fabs(value) + 0x1p-25;
    case TensorType::bf16:
      return 0x1p-8 * std::fabs(value);
    case TensorType::q8_0:  // half a step, and the rounding of the scale to a half
      return largest / 127 * 0.5 + 0x1p-10 * largest;
    default:
      return 0;
  }
}

TEST(TensorType, DecodesWhatItEncodes) {
  for (const TensorTypeInfo& type : tensor_types()) {
    if (!type.encode) continue;
    const auto values = random_numbers(256, 0.3);
    const auto bytes = encode(type.type, values, "x");
    EXPECT_EQ(bytes.size(), values.size() / static_cast<size_t>(type.block) * type.bytes);
    const auto back = decoded(type, bytes);
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t block = i / 32 * 32;
      float largest = 0;
      for (size_t k = block; k < block + 32; ++k) largest = std::max(largest, std::fabs(values[k]));
      EXPECT_NEAR(back[i], values[i], tolerance(type.type, values[i], largest)) << type.name << " " << i;
    }
    EXPECT_EQ(encode(type.type, back, "x"), bytes) << type.name << ": rounded numbers stay";
  }
}

TEST(TensorType, ReadsQ4_0ByItsLayout) {
  std::vector<std::byte> block(18);
  const uint16_t two = 0x4000;  // as a half
  std::memcpy(block.data(), &two, 2);
  for (size_t i = 0; i < 16; ++i) block[2 + i] = static_cast<std::byte>(i | ((15 - i) << 4));
  const auto values = decoded(info(TensorType::q4_0), block);
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(values[static_cast<size_t>(i)], 2.0f * static_cast<float>(i - 8));
    EXPECT_EQ(values[static_cast<size_t>(16 + i)], 2.0f * static_cast<float>(7 - i));
  }
}

TEST(TensorType, ZerosAndTinyNumbersStayFinite) {
  std::vector<float> values(32, 0.0f);
  EXPECT_EQ(decoded(info(TensorType::q8_0), encode(TensorType::q8_0, values, "x")), values);
  values[5] = 1e-44f;
  for (const float value : decoded(info(TensorType::q8_0), encode(TensorType::q8_0, values, "x")))
    EXPECT_EQ(value, 0.0f);
}

TEST(TensorType, NamesANumberThatIsTooLarge) {
  std::vector<float> values(64, 1.0f);
  values[40] = 1e5f;
  try {
    encode(TensorType::f16, values, "blk.0.attn_q.weight");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("blk.0.attn_q.weight: 100000 at element 40"), std::string::npos)
        << error.what();
  }
  EXPECT_NO_THROW(encode(TensorType::q8_0, values, "x"));
  values[40] = 1e8f;
  EXPECT_THROW(encode(TensorType::q8_0, values, "x"), InputError);
  EXPECT_NO_THROW(encode(TensorType::bf16, values, "x"));
}

TEST(TensorType, KnowsGgufsNames) {
  for (const TensorTypeInfo& type : tensor_types())
    EXPECT_EQ(gguf_type_name(static_cast<uint32_t>(type.type)), type.name);
  EXPECT_EQ(gguf_type_name(12), "Q4_K");
  EXPECT_EQ(gguf_type_name(4), "") << "withdrawn";
  EXPECT_EQ(gguf_type_name(1000), "");
  EXPECT_EQ(find_tensor_type(12), nullptr);
}

}  // namespace
}  // namespace qtf::io
