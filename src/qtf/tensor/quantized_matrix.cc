#include "qtf/tensor/quantized_matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "qtf/base/error.h"
#include "qtf/base/float16.h"

namespace qtf {

namespace {

constexpr std::array<std::string_view, 3> kNames{"f16", "int8", "int4"};

float half_at(const uint8_t* halves, int64_t i) {
  uint16_t bits;
  std::memcpy(&bits, halves + 2 * i, sizeof bits);
  return float_from_half(bits);
}

void put_half(uint8_t* halves, int64_t i, float value) {
  const uint16_t bits = half_from_float(value);
  std::memcpy(halves + 2 * i, &bits, sizeof bits);
}

int8_t code_at(CodeType type, const uint8_t* row, int64_t col) {
  if (type == CodeType::int8) return static_cast<int8_t>(row[col]);
  const auto pair = static_cast<int8_t>(row[col / 2]);
  return col % 2 ? static_cast<int8_t>(pair >> 4) : static_cast<int8_t>(static_cast<int8_t>(pair << 4) >> 4);
}

void put_code(CodeType type, uint8_t* row, int64_t col, int code) {
  const auto bits = static_cast<uint8_t>(code);
  if (type == CodeType::int8)
    row[col] = bits;
  else
    row[col / 2] = static_cast<uint8_t>(row[col / 2] | (col % 2 ? bits << 4 : bits & 0xF));
}

/// Codes of one block at one scale, and what they miss.
struct BlockFit {
  float scale = 0;
  double error = 0;
};

struct CodeRange {
  int low, high;
};

CodeRange range_of(CodeType type) {
  return type == CodeType::int8 ? CodeRange{-127, 127} : CodeRange{-8, 7};
}

int nearest_code(float value, float scale, CodeRange range) {
  if (scale == 0) return 0;
  return static_cast<int>(std::clamp(std::nearbyint(value / scale), static_cast<float>(range.low),
                                     static_cast<float>(range.high)));
}

double error_of(std::span<const float> block, std::span<const float> importance, float scale,
                CodeRange range) {
  double error = 0;
  for (size_t i = 0; i < block.size(); ++i) {
    const double miss = block[i] - static_cast<float>(nearest_code(block[i], scale, range)) * scale;
    error += (importance.empty() ? 1.0 : importance[i]) * miss * miss;
  }
  return error;
}

/// What the largest number is divided by. Few codes: clipping a little, or the ninth code of one sign, may be
/// worth it. Many: every part of the range is needed.
std::span<const float> divisors(CodeType type) {
  static constexpr float kInt8[] = {127};
  static constexpr float kInt4[] = {7,    -8,   7.5f, -7.5f, 8,    -8.5f, 8.5f, -7,
                                    6.5f, -9.f, 9.f,  -6.5f, 9.5f, -9.5f, 6,    10};
  return type == CodeType::int8 ? std::span<const float>(kInt8) : std::span<const float>(kInt4);
}

float best_scale(std::span<const float> block, std::span<const float> importance, CodeType type) {
  const float extreme = *std::max_element(block.begin(), block.end(),
                                          [](float a, float b) { return std::abs(a) < std::abs(b); });
  if (extreme == 0) return 0;
  const CodeRange range = range_of(type);
  BlockFit best{0, INFINITY};
  for (const float divisor : divisors(type)) {
    const float scale = float_from_half(half_from_float(extreme / divisor));
    if (const double error = error_of(block, importance, scale, range); error < best.error)
      best = {scale, error};
  }
  return best.scale;
}

void quantize_row(const float* w, int64_t cols, const Coding& coding, std::span<const float> importance,
                  uint8_t* codes, uint8_t* scales) {
  const int64_t block = coding.block_of(cols);
  for (int64_t begin = 0; begin < cols; begin += block) {
    const auto size = static_cast<size_t>(std::min(block, cols - begin));
    const std::span<const float> part(w + begin, size);
    const float scale = best_scale(
        part, importance.empty() ? importance : importance.subspan(static_cast<size_t>(begin), size),
        coding.type);
    put_half(scales, begin / block, scale);
    for (size_t i = 0; i < size; ++i)
      put_code(coding.type, codes, begin + static_cast<int64_t>(i),
               nearest_code(part[i], scale, range_of(coding.type)));
  }
}

void check_range(ConstMatrix<float> w) {
  constexpr float kLargest = 65504;
  for (int64_t i = 0; i < w.rows; ++i)
    for (int64_t j = 0; j < w.cols; ++j)
      if (!(std::abs(w(i, j)) <= kLargest))
        throw_input_error("quantize", "a weight is {}; half floats, which scales are, end at {}", w(i, j),
                          kLargest);
}

}  // namespace

std::string_view name(CodeType type) {
  return kNames[static_cast<size_t>(type)];
}

std::optional<CodeType> code_type_named(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return static_cast<CodeType>(i);
  return std::nullopt;
}

int64_t Coding::block_of(int64_t cols) const {
  return !scaled() || block == kWholeRow ? (cols + 1) / 2 * 2 : block;
}

int64_t Coding::row_bytes(int64_t cols) const {
  switch (type) {
    case CodeType::f16:
      return 2 * cols;
    case CodeType::int8:
      return cols;
    default:
      return (cols + 1) / 2;
  }
}

int64_t Coding::row_scales(int64_t cols) const {
  return scaled() ? (cols + block_of(cols) - 1) / block_of(cols) : 0;
}

void QuantizedMatrix::decode_row(int64_t row, int64_t count, float* to) const {
  QTF_ASSERT(row < rows && count <= cols);
  const uint8_t* from = codes + row * coding.row_bytes(cols);
  if (!coding.scaled()) {
    for (int64_t j = 0; j < count; ++j) to[j] = half_at(from, j);
    return;
  }
  const int64_t block = coding.block_of(cols);
  const uint8_t* row_scales = scales + 2 * row * coding.row_scales(cols);
  for (int64_t begin = 0; begin < count; begin += block) {
    const float scale = half_at(row_scales, begin / block);
    for (int64_t j = begin; j < std::min(count, begin + block); ++j)
      to[j] = static_cast<float>(code_at(coding.type, from, j)) * scale;
  }
}

void QuantizedMatrix::decode(float* to) const {
  for (int64_t i = 0; i < rows; ++i) decode_row(i, cols, to + i * cols);
}

QuantizedNumbers quantize(ConstMatrix<float> w, const Coding& coding, std::span<const float> importance) {
  QTF_ASSERT(w.col_stride == 1 && (importance.empty() || static_cast<int64_t>(importance.size()) == w.cols));
  check_range(w);
  const int64_t row_bytes = coding.row_bytes(w.cols), row_scales = coding.row_scales(w.cols);
  QuantizedNumbers result{std::vector<uint8_t>(static_cast<size_t>(w.rows * row_bytes)),
                          std::vector<uint8_t>(static_cast<size_t>(2 * w.rows * row_scales))};
  for (int64_t i = 0; i < w.rows; ++i) {
    const float* row = w.data + i * w.row_stride;
    uint8_t* codes = result.codes.data() + i * row_bytes;
    if (coding.scaled())
      quantize_row(row, w.cols, coding, importance, codes, result.scales.data() + 2 * i * row_scales);
    else
      for (int64_t j = 0; j < w.cols; ++j) put_half(codes, j, row[j]);
  }
  return result;
}

}  // namespace qtf
