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

void CodeWriter::fit_scale(int64_t row, int64_t block, std::span<const float> numbers,
                           std::span<const float> importance) {
  const Coding& coding = numbers_.coding;
  put_half(numbers_.scales.data() + 2 * row * coding.row_scales(numbers_.cols), block,
           best_scale(numbers, importance, coding.type));
}

float CodeWriter::put(int64_t row, int64_t col, float number) {
  const Coding& coding = numbers_.coding;
  const uint8_t* scales = numbers_.scales.data() + 2 * row * coding.row_scales(numbers_.cols);
  const float scale = half_at(scales, col / coding.block_of(numbers_.cols));
  const int code = nearest_code(number, scale, range_of(coding.type));
  put_code(coding.type, numbers_.codes.data() + row * coding.row_bytes(numbers_.cols), col, code);
  return static_cast<float>(code) * scale;
}

void check_codes_hold(ConstMatrix<float> w) {
  constexpr float kLargest = 65504;
  for (int64_t i = 0; i < w.rows; ++i)
    for (int64_t j = 0; j < w.cols; ++j)
      if (!(std::abs(w(i, j)) <= kLargest))
        throw_input_error("quantize", "a weight is {}; half floats, which scales are, end at {}", w(i, j),
                          kLargest);
}

QuantizedNumbers quantize(ConstMatrix<float> w, const Coding& coding, std::span<const float> importance) {
  QTF_ASSERT(w.col_stride == 1 && (importance.empty() || static_cast<int64_t>(importance.size()) == w.cols));
  check_codes_hold(w);
  if (!coding.scaled()) {
    QuantizedNumbers halves(coding, w.rows, w.cols);
    for (int64_t i = 0; i < w.rows; ++i)
      for (int64_t j = 0; j < w.cols; ++j) put_half(halves.codes.data(), i * w.cols + j, w(i, j));
    return halves;
  }
  CodeWriter writer(coding, w.rows, w.cols);
  const int64_t block = coding.block_of(w.cols);
  for (int64_t i = 0; i < w.rows; ++i)
    for (int64_t begin = 0; begin < w.cols; begin += block) {
      const auto size = static_cast<size_t>(std::min(block, w.cols - begin));
      const std::span<const float> numbers(&w(i, begin), size);
      writer.fit_scale(
          i, begin / block, numbers,
          importance.empty() ? importance : importance.subspan(static_cast<size_t>(begin), size));
      for (size_t j = 0; j < size; ++j) writer.put(i, begin + static_cast<int64_t>(j), numbers[j]);
    }
  return writer.take();
}

}  // namespace qtf
