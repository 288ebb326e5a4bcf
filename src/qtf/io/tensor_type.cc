#include "qtf/io/tensor_type.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "qtf/base/error.h"
#include "qtf/base/float16.h"

namespace qtf::io {

namespace {

constexpr int64_t kQuantizedBlock = 32;

template <class Stored>
Stored load(const std::byte* from) {
  Stored value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class Stored>
void store(Stored value, std::byte* to) {
  std::memcpy(to, &value, sizeof value);
}

void decode_f32(const std::byte* from, int64_t blocks, float* to) {
  if (blocks > 0) std::memcpy(to, from, static_cast<size_t>(blocks) * sizeof(float));
}

void encode_f32(const float* from, int64_t blocks, std::byte* to) {
  if (blocks > 0) std::memcpy(to, from, static_cast<size_t>(blocks) * sizeof(float));
}

template <float (*convert)(uint16_t)>
void decode_16(const std::byte* from, int64_t blocks, float* to) {
  for (int64_t i = 0; i < blocks; ++i) to[i] = convert(load<uint16_t>(from + 2 * i));
}

template <uint16_t (*convert)(float)>
void encode_16(const float* from, int64_t blocks, std::byte* to) {
  for (int64_t i = 0; i < blocks; ++i) store(convert(from[i]), to + 2 * i);
}

/// Q4_0: a half scale d, then 16 bytes whose low halves are the numbers 0 to 15 and whose high halves 16 to
/// 31; a number is (q - 8)·d.
void decode_q4_0(const std::byte* from, int64_t blocks, float* to) {
  for (int64_t b = 0; b < blocks; ++b, from += 18, to += kQuantizedBlock) {
    const float scale = float_from_half(load<uint16_t>(from));
    for (int i = 0; i < 16; ++i) {
      const auto pair = static_cast<uint8_t>(from[2 + i]);
      to[i] = static_cast<float>((pair & 0xF) - 8) * scale;
      to[16 + i] = static_cast<float>((pair >> 4) - 8) * scale;
    }
  }
}

/// Q8_0: a half scale d, then 32 signed bytes q; a number is q·d.
void decode_q8_0(const std::byte* from, int64_t blocks, float* to) {
  for (int64_t b = 0; b < blocks; ++b, from += 34, to += kQuantizedBlock) {
    const float scale = float_from_half(load<uint16_t>(from));
    for (int i = 0; i < kQuantizedBlock; ++i) to[i] = load<int8_t>(from + 2 + i) * scale;
  }
}

void encode_q8_0(const float* from, int64_t blocks, std::byte* to) {
  for (int64_t b = 0; b < blocks; ++b, from += kQuantizedBlock, to += 34) {
    float largest = 0;
    for (int i = 0; i < kQuantizedBlock; ++i) largest = std::max(largest, std::fabs(from[i]));
    // Numbers are rounded by the exact scale, as ggml's reference does, so that files agree.
    const float scale = largest / 127;
    const float inverse = scale >= std::numeric_limits<float>::min() ? 1 / scale : 0;
    store(half_from_float(scale), to);
    for (int i = 0; i < kQuantizedBlock; ++i) {
      store(static_cast<int8_t>(std::clamp(std::round(from[i] * inverse), -127.0f, 127.0f)), to + 2 + i);
    }
  }
}

constexpr std::array<TensorTypeInfo, 5> kTypes = {{
    {TensorType::f32, "F32", 1, 4, decode_f32, encode_f32},
    {TensorType::f16, "F16", 1, 2, decode_16<float_from_half>, encode_16<half_from_float>},
    {TensorType::bf16, "BF16", 1, 2, decode_16<float_from_bfloat16>, encode_16<bfloat16_from_float>},
    {TensorType::q8_0, "Q8_0", kQuantizedBlock, 34, decode_q8_0, encode_q8_0},
    {TensorType::q4_0, "Q4_0", kQuantizedBlock, 18, decode_q4_0, nullptr},
}};

// By number; gaps are types that were withdrawn.
constexpr std::array<std::string_view, 31> kGgufNames = {
    "F32",   "F16",    "Q4_0", "Q4_1", "",     "",        "Q5_0",   "Q5_1",    "Q8_0",  "Q8_1",   "Q2_K",
    "Q3_K",  "Q4_K",   "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
    "IQ2_S", "IQ4_XS", "I8",   "I16",  "I32",  "I64",     "F64",    "IQ1_M",   "BF16"};

}  // namespace

std::span<const TensorTypeInfo> tensor_types() {
  return kTypes;
}

const TensorTypeInfo& info(TensorType type) {
  const TensorTypeInfo* found = find_tensor_type(static_cast<uint32_t>(type));
  QTF_ASSERT(found);
  return *found;
}

const TensorTypeInfo* find_tensor_type(uint32_t number) {
  for (const TensorTypeInfo& row : kTypes) {
    if (static_cast<uint32_t>(row.type) == number) return &row;
  }
  return nullptr;
}

std::vector<std::byte> encode(TensorType type, std::span<const float> values, std::string_view name) {
  const TensorTypeInfo& how = info(type);
  QTF_ASSERT(how.encode && values.size() % static_cast<size_t>(how.block) == 0);
  const int64_t blocks = static_cast<int64_t>(values.size()) / how.block;
  std::vector<std::byte> bytes(static_cast<size_t>(blocks) * how.bytes);
  how.encode(values.data(), blocks, bytes.data());
  if (type == TensorType::f32) return bytes;
  std::vector<float> back(static_cast<size_t>(how.block));
  for (int64_t b = 0; b < blocks; ++b) {
    how.decode(bytes.data() + static_cast<size_t>(b) * how.bytes, 1, back.data());
    for (int64_t i = 0; i < how.block; ++i) {
      if (std::isfinite(back[static_cast<size_t>(i)])) continue;
      throw_input_error("convert", "{}: {} at element {} is too large for {}; write F32", name,
                        values[static_cast<size_t>(b * how.block + i)], b * how.block + i, how.name);
    }
  }
  return bytes;
}

std::string_view gguf_type_name(uint32_t number) {
  return number < kGgufNames.size() ? kGgufNames[number] : std::string_view();
}

}  // namespace qtf::io
