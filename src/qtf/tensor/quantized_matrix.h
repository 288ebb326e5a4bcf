// Matrices of 16, 8 or 4 bits a number, as model files hold them, and how floats become such.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "qtf/tensor/matrix.h"

namespace qtf {

enum class CodeType { f16, int8, int4 };

/// "f16", "int8", "int4".
std::string_view name(CodeType type);
std::optional<CodeType> code_type_named(std::string_view name);

/// How numbers are coded. With integers a run of `block` numbers of a row shares a scale, a half float; the
/// number is float(code) · float(scale), rounded once.
struct Coding {
  CodeType type = CodeType::int8;
  int64_t block = 32;  ///< even; kWholeRow: one scale a row; unused with f16

  static constexpr int64_t kWholeRow = 0;
  bool operator==(const Coding&) const = default;

  bool scaled() const { return type != CodeType::f16; }
  /// Of a row of `cols` numbers.
  int64_t block_of(int64_t cols) const;
  int64_t row_bytes(int64_t cols) const;
  int64_t row_scales(int64_t cols) const;
};

/// W[rows, cols], not owned. codes[rows][row_bytes]: halves (f16), bytes of two's complement (int8), or pairs
/// of them in 4 bits, the even column in the low half (int4; a last column without a partner leaves the high
/// half 0). scales[rows][row_scales] as halves. Little-endian, of any alignment.
struct QuantizedMatrix {
  Coding coding;
  int64_t rows = 0;
  int64_t cols = 0;
  const uint8_t* codes = nullptr;
  const uint8_t* scales = nullptr;

  /// to[count] = the first numbers of a row.
  void decode_row(int64_t row, int64_t count, float* to) const;
  /// to[rows, cols], end to end.
  void decode(float* to) const;
};

/// What a QuantizedMatrix points to.
struct QuantizedNumbers {
  /// All zero.
  QuantizedNumbers(const Coding& coding_, int64_t rows_, int64_t cols_)
      : coding(coding_),
        rows(rows_),
        cols(cols_),
        codes(static_cast<size_t>(rows_ * coding_.row_bytes(cols_))),
        scales(static_cast<size_t>(2 * rows_ * coding_.row_scales(cols_))) {}

  QuantizedMatrix view() const { return {coding, rows, cols, codes.data(), scales.data()}; }

  Coding coding;
  int64_t rows, cols;
  std::vector<uint8_t> codes;
  std::vector<uint8_t> scales;
};

/// Integer codes and their scales being chosen one by one.
class CodeWriter {
 public:
  /// Of a matrix [rows, cols]; all zero at first.
  CodeWriter(const Coding& coding, int64_t rows, int64_t cols) : numbers_(coding, rows, cols) {}
  /// Gives a row's block the scale that codes these numbers, the block's, best: Σ importance·error² is least
  /// among candidates (importance empty: all 1).
  void fit_scale(int64_t row, int64_t block, std::span<const float> numbers,
                 std::span<const float> importance);
  /// Stores the code nearest to a number at the scale of its block; returns what it stands for.
  float put(int64_t row, int64_t col, float number);
  QuantizedNumbers take() { return std::move(numbers_); }

 private:
  QuantizedNumbers numbers_;
};

/// Throws InputError for a number beyond half floats, which scales are.
void check_codes_hold(ConstMatrix<float> w);

/// The nearest codes, with scales that minimise Σ importance[col]·error² of each block among candidates
/// (importance empty: all 1). Throws InputError for a number beyond half floats.
QuantizedNumbers quantize(ConstMatrix<float> w, const Coding& coding, std::span<const float> importance = {});

}  // namespace qtf
