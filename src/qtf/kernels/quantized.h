// Matrix products with weights of 16, 8 or 4 bits. A weight's value is one float, code · scale rounded once,
// and every element of a product is the same chain of fused multiply-adds over k as in kernels/gemm.h. So a
// product has the bits of gemm's with the weights written out as floats, whatever the number of rows.
//
// B[k, n] lies in column panels, of gemm_panel_width<float>() columns where no other `width` is said (files
// that lie packed for any processor say kColumnGrain). A panel holds one block of k after the other: a half
// float of scale a column, then the codes, a row of columns for each k (4 bits: for each pair of k, the even
// one in the low half of each byte).
#pragma once

#include <cstdint>

#include "qtf/kernels/gemm.h"

namespace qtf::kernels {

/// How a weight is coded. kBits: of a code. kRows: rows of B that share a row of bytes. kScaled: whether
/// blocks of `block` rows have a scale each.
struct Float16 {
  static constexpr int kBits = 16;
  static constexpr int64_t kRows = 1;
  static constexpr bool kScaled = false;
};
struct Int8 {
  static constexpr int kBits = 8;
  static constexpr int64_t kRows = 1;
  static constexpr bool kScaled = true;
};
struct Int4 {
  static constexpr int kBits = 4;
  static constexpr int64_t kRows = 2;
  static constexpr bool kScaled = true;
};

/// A packed B and the rows of it that a product takes.
struct QuantizedPanels {
  const uint8_t* panels = nullptr;
  int64_t packed_k = 0;  ///< rows of B
  int64_t block = 0;     ///< rows a scale, even; with Float16 unused
  int64_t first = 0;     ///< row of B that meets column 0 of A
  int64_t width = gemm_panel_width<float>();
};

/// Bytes of a packed B[k, n].
template <class Code>
int64_t quantized_size(int64_t k, int64_t n, int64_t block, int64_t width = gemm_panel_width<float>());

/// Packs B[k, n] whose columns lie end to end: codes[n][ceil(k / Code::kRows)] and
/// scales[n][ceil(k / block)] (halves; unused with Float16), both row-major and of any alignment.
template <class Code>
void quantized_pack(int64_t k, int64_t n, int64_t block, const uint8_t* codes, const uint8_t* scales,
                    uint8_t* panels, int64_t width = gemm_panel_width<float>());

/// Codes numbers[k] as a column of a packed B, each block by the half float nearest to its largest magnitude
/// over the largest code; numbers beyond what halves hold become the largest that they do.
template <class Code>
void quantized_put_column(int64_t column, int64_t k, const float* numbers, const QuantizedPanels& b,
                          uint8_t* panels);

/// Codes numbers[n] as a row of a packed B whose own scales are to be 1 (a block's first row makes them so).
/// Returns the row's scale: what its codes are to be multiplied by, 1 with Float16. Rows may be put by
/// several threads at once if one of them puts each block's first.
template <class Code>
float quantized_put_row(int64_t row, int64_t n, const float* numbers, const QuantizedPanels& b,
                        uint8_t* panels);

/// C[m, begin:end) = A[m, k]·B[first:first + k, begin:end) (accumulate: +=). `c` is column 0 of C; `begin` is
/// a multiple of kColumnGrain unless begin = end. Any m; made for m <= 16: B is read once, but decoded for
/// every six rows.
template <class Code>
void quantized_columns(int64_t m, int64_t begin, int64_t end, int64_t k, const float* a, int64_t lda,
                       const QuantizedPanels& b, float* c, int64_t ldc, bool accumulate);

/// The rows [first, first + k) of `count` panels, the first of them `panel`, as gemm_pack() would lay them
/// out: for products of many rows.
template <class Code>
void quantized_unpack(int64_t panel, int64_t count, int64_t k, const QuantizedPanels& b, float* panels);

/// to[k] = the rows [first, first + k) of one column: a row of an embedding.
template <class Code>
void quantized_column(int64_t column, int64_t k, const QuantizedPanels& b, float* to);

}  // namespace qtf::kernels
