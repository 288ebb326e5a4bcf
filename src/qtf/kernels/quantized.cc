#include "qtf/kernels/quantized.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "qtf/base/float16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/quantized.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
#include <hwy/cache_control.h>

#include "qtf/kernels/loop-inl.h"

// Shared by the versions for every instruction set.
#ifndef QTF_KERNELS_QUANTIZED_
#define QTF_KERNELS_QUANTIZED_
namespace qtf::kernels {
constexpr int kQuantizedRows = 6;     // rows of a register tile, as in gemm_columns.cc
constexpr int kQuantizedVectors = 4;  // vectors of columns that are taken through all rows before the next
constexpr int64_t kScaleBytes = 2;    // a half float
constexpr int64_t kPrefetchBytes = 1024;  // ahead of the codes being read

/// Where things lie in a panel of `width` columns.
template <class Code>
struct PanelLayout {
  int64_t width;
  int64_t block;  ///< rows of B, those of the last block included whether or not they exist

  PanelLayout(int64_t panel_width, int64_t k, int64_t rows_a_scale)
      : width(panel_width), block(Code::kScaled ? rows_a_scale : (k + 1) / 2 * 2) {}

  int64_t row_bytes() const { return width * Code::kRows * Code::kBits / 8; }
  int64_t scale_bytes() const { return Code::kScaled ? width * kScaleBytes : 0; }
  int64_t block_bytes() const { return scale_bytes() + block / Code::kRows * row_bytes(); }
  int64_t blocks(int64_t k) const { return block ? (k + block - 1) / block : 0; }
  int64_t panel_bytes(int64_t k) const { return blocks(k) * block_bytes(); }
};
}  // namespace qtf::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kVectorRegisters = 32;
#else
constexpr int kVectorRegisters = 16;
#endif

using FloatTag = hn::ScalableTag<float>;
using Floats = hn::Vec<FloatTag>;

HWY_ATTR HWY_INLINE Floats load_halves(const uint8_t* from) {
  const hn::Rebind<hwy::float16_t, FloatTag> halves;
  return hn::PromoteTo(FloatTag(), hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(from)));
}

HWY_ATTR HWY_INLINE auto load_bytes(const uint8_t* from) {
  const hn::Rebind<int8_t, FloatTag> bytes;
  const hn::Rebind<int32_t, FloatTag> integers;
  return hn::PromoteTo(integers, hn::LoadU(bytes, reinterpret_cast<const int8_t*>(from)));
}

/// The weights of a row of bytes: call(half, weights) for each of Code::kRows rows of B.
template <class Code, class Call>
HWY_ATTR HWY_INLINE void decode(const uint8_t* from, [[maybe_unused]] Floats scale, Call&& call) {
  const FloatTag d;
  if constexpr (Code::kBits == 16) {
    call(0, load_halves(from));
  } else if constexpr (Code::kBits == 8) {
    call(0, hn::Mul(hn::ConvertTo(d, load_bytes(from)), scale));
  } else {
    const auto both = load_bytes(from);
    call(0, hn::Mul(hn::ConvertTo(d, hn::ShiftRight<28>(hn::ShiftLeft<28>(both))), scale));
    call(1, hn::Mul(hn::ConvertTo(d, hn::ShiftRight<4>(both)), scale));
  }
}

/// One row of B only: `half` of its row of bytes.
template <class Code>
HWY_ATTR HWY_INLINE Floats decode_half(const uint8_t* from, Floats scale, int64_t half) {
  Floats weights = hn::Zero(FloatTag());
  decode<Code>(from, scale, [&](int64_t which, Floats w) HWY_ATTR {
    if (which == half) weights = w;
  });
  return weights;
}

/// A packed B by vectors of columns.
template <class Code>
struct QuantizedColumns {
  PanelLayout<Code> layout;
  QuantizedPanels b;
  int64_t lanes;

  /// Where the vector's columns begin in a block of its panel.
  const uint8_t* scales(int64_t vector, int64_t block) const {
    const int64_t column = vector * lanes;
    return panel(column) + block * layout.block_bytes() + column % layout.width * kScaleBytes;
  }
  const uint8_t* codes(int64_t vector, int64_t block) const {
    const int64_t column = vector * lanes;
    return panel(column) + block * layout.block_bytes() + layout.scale_bytes() +
           column % layout.width * Code::kRows * Code::kBits / 8;
  }

 private:
  const uint8_t* panel(int64_t column) const {
    return b.panels + column / layout.width * layout.panel_bytes(b.packed_k);
  }
};

/// The left operand's rows and where their products go: column 0 of C.
struct QuantizedRows {
  int64_t k;
  const float* a;
  int64_t lda;
  float* c;
  int64_t ldc;
  bool accumulate;
};

/// C[R, columns of vectors first … first + V - 1, up to `end`] = or += A[R, k]·B.
template <int R, int V, class Code>
HWY_ATTR HWY_INLINE void quantized_tile(const QuantizedColumns<Code>& b, int64_t first, int64_t end,
                                        const QuantizedRows& rows) {
  const FloatTag d;
  const int64_t last = std::min(b.lanes, end - (first + V - 1) * b.lanes);  // columns in the last vector
  const auto mask = hn::FirstN(d, static_cast<size_t>(last));
  Floats sum[R][V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const float* c = rows.c + r * rows.ldc + (first + v) * b.lanes;
      if (!rows.accumulate) {
        sum[r][v] = hn::Zero(d);
      } else {
        sum[r][v] = v + 1 == V && last < b.lanes ? load_first(d, mask, last, c) : hn::LoadU(d, c);
      }
    }
  }
  const int64_t row_bytes = b.layout.row_bytes(), stop = b.b.first + rows.k;
  for (int64_t p = b.b.first; p < stop;) {
    const int64_t block = p / b.layout.block, block_begin = block * b.layout.block;
    const int64_t block_end = std::min(stop, block_begin + b.layout.block);
    const uint8_t* codes[V];
    Floats scale[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      codes[v] = b.codes(first + v, block);
      scale[v] = Code::kScaled ? load_halves(b.scales(first + v, block)) : hn::Zero(d);
      hwy::Prefetch(codes[v] + kPrefetchBytes);
    }
    const float* a = rows.a - b.b.first;
    const auto add = [&](int v, int64_t row, Floats weights) HWY_ATTR {
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r)
        sum[r][v] = hn::MulAdd(hn::Set(d, a[r * rows.lda + row]), weights, sum[r][v]);
    };
    if constexpr (Code::kRows == 2) {
      if (p % 2 == 1) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
          add(v, p, decode_half<Code>(codes[v] + (p - block_begin) / 2 * row_bytes, scale[v], 1));
        ++p;
      }
    }
    for (; p + Code::kRows <= block_end; p += Code::kRows) {
      const int64_t at = (p - block_begin) / Code::kRows * row_bytes;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v)
        decode<Code>(codes[v] + at, scale[v], [&](int64_t half, Floats w) HWY_ATTR { add(v, p + half, w); });
    }
    if (p < block_end) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v)
        add(v, p, decode_half<Code>(codes[v] + (p - block_begin) / Code::kRows * row_bytes, scale[v], 0));
      ++p;
    }
  }
  for (int r = 0; r < R; ++r) {
    float* to = rows.c + r * rows.ldc + first * b.lanes;
    for (int v = 0; v + 1 < V; ++v) hn::StoreU(sum[r][v], d, to + v * b.lanes);
    float* tail = to + (V - 1) * b.lanes;
    if (last < b.lanes) {
      store_first(sum[r][V - 1], d, mask, last, tail);
    } else {
      hn::StoreU(sum[r][V - 1], d, tail);
    }
  }
}

/// R rows times the vectors [first, first + count), count <= kQuantizedVectors.
template <int R, class Code>
HWY_ATTR HWY_INLINE void quantized_tile_row(const QuantizedColumns<Code>& b, int64_t first, int64_t count,
                                            int64_t end, const QuantizedRows& rows) {
  constexpr int kWhole = kQuantizedVectors;
  constexpr int V = R * kWhole + 2 * kWhole + 2 <= kVectorRegisters ? kWhole : kWhole / 2;
  for (; count >= V; first += V, count -= V) quantized_tile<R, V>(b, first, end, rows);
  if constexpr (V > 2) {
    if (count >= 2) quantized_tile<R, 2>(b, first, end, rows), first += 2, count -= 2;
  }
  if (count == 1) quantized_tile<R, 1>(b, first, end, rows);
}

template <class Code>
HWY_ATTR void columns_of(int64_t m, int64_t begin, int64_t end, int64_t k, const float* a, int64_t lda,
                         const QuantizedPanels& panels, float* c, int64_t ldc, bool accumulate) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(FloatTag()));
  const QuantizedColumns<Code> b{PanelLayout<Code>(panels.width, panels.packed_k, panels.block), panels,
                                 lanes};
  const int64_t last = (end + lanes - 1) / lanes;
  for (int64_t g = begin / lanes; g < last; g += kQuantizedVectors) {
    const int64_t count = std::min<int64_t>(kQuantizedVectors, last - g);
    for (int64_t i = 0; i < m; i += kQuantizedRows) {
      const QuantizedRows rows{k, a + i * lda, lda, c + i * ldc, ldc, accumulate};
      switch (std::min<int64_t>(kQuantizedRows, m - i)) {
        case 1:
          quantized_tile_row<1>(b, g, count, end, rows);
          break;
        case 2:
          quantized_tile_row<2>(b, g, count, end, rows);
          break;
        case 3:
          quantized_tile_row<3>(b, g, count, end, rows);
          break;
        case 4:
          quantized_tile_row<4>(b, g, count, end, rows);
          break;
        case 5:
          quantized_tile_row<5>(b, g, count, end, rows);
          break;
        default:
          quantized_tile_row<6>(b, g, count, end, rows);
      }
    }
  }
}

template <class Code>
HWY_ATTR void unpack_of(int64_t panel, int64_t count, int64_t k, const QuantizedPanels& panels, float* to) {
  const FloatTag d;
  const int64_t width = panels.width;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const QuantizedColumns<Code> b{PanelLayout<Code>(width, panels.packed_k, panels.block), panels, lanes};
  const int64_t row_bytes = b.layout.row_bytes(), stop = panels.first + k;
  for (int64_t i = 0; i < count; ++i, to += k * width) {
    for (int64_t g = 0; g < width / lanes; ++g) {
      float* column = to + g * lanes;
      for (int64_t p = panels.first; p < stop;) {
        const int64_t block = p / b.layout.block, block_begin = block * b.layout.block;
        const int64_t block_end = std::min(stop, block_begin + b.layout.block);
        const int64_t vector = (panel + i) * (width / lanes) + g;
        const uint8_t* codes = b.codes(vector, block);
        const Floats scale = Code::kScaled ? load_halves(b.scales(vector, block)) : hn::Zero(d);
        const auto store = [&](int64_t row, Floats w)
                               HWY_ATTR { hn::StoreU(w, d, column + (row - panels.first) * width); };
        while (p < block_end) {
          const uint8_t* from = codes + (p - block_begin) / Code::kRows * row_bytes;
          if (p % Code::kRows == 0 && p + Code::kRows <= block_end) {
            decode<Code>(from, scale, [&](int64_t half, Floats w) HWY_ATTR { store(p + half, w); });
            p += Code::kRows;
          } else {
            store(p, decode_half<Code>(from, scale, p % Code::kRows));
            ++p;
          }
        }
      }
    }
  }
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(columns_of)
QTF_EXPORT(unpack_of)

template <class Code>
int64_t quantized_size(int64_t k, int64_t n, int64_t block, int64_t width) {
  return (n + width - 1) / width * PanelLayout<Code>(width, k, block).panel_bytes(k);
}

// Once a model, and bound by memory: plain loops.
template <class Code>
void quantized_pack(int64_t k, int64_t n, int64_t block, const uint8_t* codes, const uint8_t* scales,
                    uint8_t* panels, int64_t width) {
  const PanelLayout<Code> layout(width, k, block);
  constexpr int64_t kBytes = Code::kRows * Code::kBits / 8;  // of a column in a row of bytes
  const int64_t code_bytes = (k + Code::kRows - 1) / Code::kRows * kBytes, blocks = layout.blocks(k);
  std::fill_n(panels, quantized_size<Code>(k, n, block, width), uint8_t{0});
  for (int64_t j = 0; j < n; ++j) {
    uint8_t* panel = panels + j / width * layout.panel_bytes(k);
    const uint8_t* from = codes + j * code_bytes;
    for (int64_t b = 0; b < blocks; ++b, panel += layout.block_bytes()) {
      if constexpr (Code::kScaled)
        std::memcpy(panel + j % width * kScaleBytes, scales + (j * blocks + b) * kScaleBytes, kScaleBytes);
      uint8_t* to = panel + layout.scale_bytes() + j % width * kBytes;
      const int64_t rows = (std::min(layout.block, k - b * layout.block) + Code::kRows - 1) / Code::kRows;
      for (int64_t p = 0; p < rows; ++p, to += layout.row_bytes(), from += kBytes)
        std::memcpy(to, from, static_cast<size_t>(kBytes));
    }
  }
}

namespace {

void put_half(float number, uint8_t* to) {
  constexpr float kLargestHalf = 65504;
  const uint16_t bits = half_from_float(std::clamp(number, -kLargestHalf, kLargestHalf));
  std::memcpy(to, &bits, sizeof bits);
}

float half_at(const uint8_t* from) {
  uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return float_from_half(bits);
}

template <class Code>
constexpr float kLargestCode = Code::kBits == 8 ? 127 : 7;

template <class Code>
float scale_of(int64_t count, const float* numbers) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(numbers[i]));
  return largest / kLargestCode<Code>;
}

/// 1 / scale; 0 for scales so small that codes of 0 are as good.
float inverse_of(float scale) {
  return scale > 0x1p-100F ? 1 / scale : 0;
}

/// The code nearest to number / scale, ties to even. Not a number: the largest.
template <class Code>
int nearest_code(float number, float inverse) {
  constexpr float kRounder = 0x1.8p23F;  // added to a small number it leaves no bits of a fraction
  const float bounded = std::max(-kLargestCode<Code>, std::min(kLargestCode<Code>, number * inverse));
  return static_cast<int>(bounded + kRounder - kRounder);
}

/// Replaces the lower or the upper half of a byte, whose other half another thread may be replacing.
void put_half_byte(int code, bool upper, uint8_t& byte) {
  const auto bits = static_cast<uint8_t>(upper ? code << 4 : code & 0xF);
  const std::atomic_ref<uint8_t> both(byte);
  both.fetch_and(upper ? 0xF : 0xF0, std::memory_order_relaxed);
  both.fetch_or(bits, std::memory_order_relaxed);
}

/// An element of a packed B: where its row of bytes has the column's.
template <class Code>
int64_t place_of(const PanelLayout<Code>& layout, int64_t packed_k, int64_t row, int64_t column) {
  return column / layout.width * layout.panel_bytes(packed_k) + row / layout.block * layout.block_bytes() +
         layout.scale_bytes() + row % layout.block / Code::kRows * layout.row_bytes() +
         column % layout.width * Code::kRows * Code::kBits / 8;
}

/// And where its block has the column's scale.
template <class Code>
int64_t scale_place_of(const PanelLayout<Code>& layout, int64_t packed_k, int64_t row, int64_t column) {
  return column / layout.width * layout.panel_bytes(packed_k) + row / layout.block * layout.block_bytes() +
         column % layout.width * kScaleBytes;
}

}  // namespace

template <class Code>
void quantized_put_column(int64_t column, int64_t k, const float* numbers, const QuantizedPanels& b,
                          uint8_t* panels) {
  const PanelLayout<Code> layout(b.width, b.packed_k, b.block);
  for (int64_t begin = 0; begin < k; begin += layout.block) {
    const int64_t rows = std::min(layout.block, k - begin), row_bytes = layout.row_bytes();
    uint8_t* to = panels + place_of(layout, b.packed_k, begin, column);
    if constexpr (!Code::kScaled) {
      for (int64_t p = 0; p < rows; ++p, to += row_bytes) put_half(numbers[begin + p], to);
    } else {
      uint8_t* const scale_at = panels + scale_place_of(layout, b.packed_k, begin, column);
      put_half(scale_of<Code>(rows, numbers + begin), scale_at);
      const float inverse = inverse_of(half_at(scale_at));
      const auto code = [&](int64_t p) {
        return p < rows ? nearest_code<Code>(numbers[begin + p], inverse) : 0;
      };
      for (int64_t p = 0; p < rows; p += Code::kRows, to += row_bytes)
        *to = static_cast<uint8_t>(Code::kRows == 1 ? code(p) : (code(p + 1) << 4) | (code(p) & 0xF));
    }
  }
}

template <class Code>
float quantized_put_row(int64_t row, int64_t n, const float* numbers, const QuantizedPanels& b,
                        uint8_t* panels) {
  const PanelLayout<Code> layout(b.width, b.packed_k, b.block);
  const float scale = Code::kScaled ? scale_of<Code>(n, numbers) : 1;
  const float inverse = inverse_of(scale);
  for (int64_t begin = 0; begin < n; begin += layout.width) {
    uint8_t* to = panels + place_of(layout, b.packed_k, row, begin);
    uint8_t* const scales = panels + scale_place_of(layout, b.packed_k, row, begin);
    for (int64_t j = 0; j < std::min(layout.width, n - begin); ++j) {
      const float number = numbers[begin + j];
      if constexpr (!Code::kScaled) {
        put_half(number, to + kScaleBytes * j);
      } else {
        if (row % layout.block == 0) put_half(1, scales + kScaleBytes * j);
        const int code = nearest_code<Code>(number, inverse);
        if constexpr (Code::kRows == 1)
          to[j] = static_cast<uint8_t>(code);
        else
          put_half_byte(code, row % 2 == 1, to[j]);
      }
    }
  }
  return scale;
}

template <class Code>
void quantized_columns(int64_t m, int64_t begin, int64_t end, int64_t k, const float* a, int64_t lda,
                       const QuantizedPanels& b, float* c, int64_t ldc, bool accumulate) {
  if (begin >= end) return;
  columns_of_chosen<Code>()(m, begin, end, k, a, lda, b, c, ldc, accumulate);
}

template <class Code>
void quantized_unpack(int64_t panel, int64_t count, int64_t k, const QuantizedPanels& b, float* panels) {
  unpack_of_chosen<Code>()(panel, count, k, b, panels);
}

// A row of an embedding for a token: plain loops.
template <class Code>
void quantized_column(int64_t column, int64_t k, const QuantizedPanels& b, float* to) {
  const PanelLayout<Code> layout(b.width, b.packed_k, b.block);
  for (int64_t p = b.first; p < b.first + k; ++p) {
    const uint8_t* code = b.panels + place_of(layout, b.packed_k, p, column);
    const auto byte = static_cast<int8_t>(*code);
    if constexpr (Code::kBits == 16) {
      *to++ = half_at(code);
    } else {
      const int number = Code::kBits == 8 ? byte
                         : p % 2 == 0     ? static_cast<int8_t>(byte << 4) >> 4
                                          : byte >> 4;
      *to++ = static_cast<float>(number) * half_at(b.panels + scale_place_of(layout, b.packed_k, p, column));
    }
  }
}

#define QTF_INSTANTIATE_CODE(Code)                                                                          \
  template int64_t quantized_size<Code>(int64_t, int64_t, int64_t, int64_t);                                \
  template void quantized_pack<Code>(int64_t, int64_t, int64_t, const uint8_t*, const uint8_t*, uint8_t*,   \
                                     int64_t);                                                              \
  template void quantized_put_column<Code>(int64_t, int64_t, const float*, const QuantizedPanels&,          \
                                           uint8_t*);                                                       \
  template float quantized_put_row<Code>(int64_t, int64_t, const float*, const QuantizedPanels&, uint8_t*); \
  template void quantized_columns<Code>(int64_t, int64_t, int64_t, int64_t, const float*, int64_t,          \
                                        const QuantizedPanels&, float*, int64_t, bool);                     \
  template void quantized_unpack<Code>(int64_t, int64_t, int64_t, const QuantizedPanels&, float*);          \
  template void quantized_column<Code>(int64_t, int64_t, const QuantizedPanels&, float*);
QTF_INSTANTIATE_CODE(Float16)
QTF_INSTANTIATE_CODE(Int8)
QTF_INSTANTIATE_CODE(Int4)
#undef QTF_INSTANTIATE_CODE

}  // namespace qtf::kernels
#endif
