#include "qtf/kernels/gemm.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/gemm.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
#include <hwy/cache_control.h>

#include "qtf/kernels/loop-inl.h"

// Shared by the versions for every instruction set.
#ifndef QTF_KERNELS_GEMM_BLOCKS_
#define QTF_KERNELS_GEMM_BLOCKS_
namespace qtf::kernels {
constexpr int64_t kRowTile = 6;  // rows of a register tile: 6 × 4 accumulators of 32 registers, 6 × 2 of 16
constexpr int64_t kDepthBlock = 512;  // k: a panel of this depth stays in L2 while the rows pass
constexpr int64_t kRowBlock = 96;     // m: rows of A that stay in L2 while the panels pass
constexpr int64_t kColBlock = 1024;   // n: columns packed at once
constexpr int64_t kMaxPanel = 64;
constexpr int64_t kL1Bytes = 32 << 10;  // a transposed A within this is read where it lies
constexpr int64_t kUnpackedRows = 4;    // up to this many rows, packing B costs more than it saves

/// Numbers from one of pack_rows' tiles to the next. A cache line more than the tile, lest all tiles write to
/// the same cache sets.
template <class T>
constexpr int64_t tile_stride(int64_t k) {
  return kRowTile * k + 64 / static_cast<int64_t>(sizeof(T));
}

template <class T>
constexpr int64_t row_scratch() {
  return kRowBlock / kRowTile * tile_stride<T>(kDepthBlock);
}
}  // namespace qtf::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kPanelVectors = 4;  // 32 registers
#else
constexpr int kPanelVectors = 2;  // 16 registers
#endif

template <class T>
HWY_ATTR int64_t panel_width() {
  return kPanelVectors * static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
}

template <class T>
struct Tile {
  int64_t k;
  const T* a;
  int64_t a_row, a_col;
  const T* b;
  int64_t b_row;
  T* c;
  int64_t ldc;
  int64_t cols;  // of C that exist; the last vector may be partial
  bool accumulate;
};

/// R rows times V vectors of columns. kMaskB: B's last vector is partial too (B is not padded).
template <int R, int V, bool kMaskB, class T>
HWY_ATTR HWY_INLINE void tile_product(const Tile<T>& t) {
  const hn::ScalableTag<T> d;
  using Vec = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t last = std::min(t.cols - (V - 1) * lanes, lanes);  // columns in the last vector
  const auto mask = hn::FirstN(d, static_cast<size_t>(last));

  // Every loop over `sum` is unrolled: one index that is not a constant would keep it in memory.
  Vec sum[R][V];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const T* c = t.c + r * t.ldc + v * lanes;
      if (!t.accumulate) {
        sum[r][v] = hn::Zero(d);
      } else {
        sum[r][v] = v + 1 == V && last < lanes ? load_first(d, mask, last, c) : hn::LoadU(d, c);
      }
    }
  }
  // The tile below comes next: its part of C is fetched while this one is computed.
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) hwy::Prefetch(t.c + (R + r) * t.ldc + v * lanes);
  }
  const T* HWY_RESTRICT a = t.a;
  const T* HWY_RESTRICT b = t.b;
  for (int64_t p = 0; p < t.k; ++p) {
    Vec row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      row[v] = kMaskB && v + 1 == V ? load_first(d, mask, last, b + v * lanes) : hn::LoadU(d, b + v * lanes);
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Vec scale = hn::Set(d, a[r * t.a_row]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = hn::MulAdd(scale, row[v], sum[r][v]);
    }
    a += t.a_col;
    b += t.b_row;
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      T* c = t.c + r * t.ldc + v * lanes;
      if (v + 1 == V && last < lanes) {
        store_first(sum[r][v], d, mask, last, c);
      } else {
        hn::StoreU(sum[r][v], d, c);
      }
    }
  }
}

template <int R, bool kMaskB, class T>
HWY_ATTR HWY_INLINE void tile_rows(int vectors, const Tile<T>& t) {
  switch (vectors) {
    case 1:
      return tile_product<R, 1, kMaskB>(t);
    case 2:
      return tile_product<R, 2, kMaskB>(t);
    default:
      break;
  }
  if constexpr (kPanelVectors == 4) {
    if (vectors == 3) return tile_product<R, 3, kMaskB>(t);
    tile_product<R, 4, kMaskB>(t);
  }
}

template <bool kMaskB, class T>
HWY_ATTR void tile(int64_t rows, const Tile<T>& t) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const int vectors = static_cast<int>((t.cols + lanes - 1) / lanes);
  switch (rows) {
    case 1:
      return tile_rows<1, kMaskB>(vectors, t);
    case 2:
      return tile_rows<2, kMaskB>(vectors, t);
    case 3:
      return tile_rows<3, kMaskB>(vectors, t);
    case 4:
      return tile_rows<4, kMaskB>(vectors, t);
    case 5:
      return tile_rows<5, kMaskB>(vectors, t);
    default:
      return tile_rows<6, kMaskB>(vectors, t);
  }
}

#if HWY_TARGET == HWY_SCALAR
template <class T>
using Square = hn::CappedTag<T, 1>;

template <class T>
HWY_INLINE void transpose_square(const T* from, int64_t, T* to, int64_t) {
  *to = *from;
}
#else
template <class T>
using Square = hn::FixedTag<T, 16 / sizeof(T)>;

/// to[j][p] = from[p][j] of a square of 16 bytes a side, in registers.
template <class T>
HWY_ATTR HWY_INLINE void transpose_square(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  const Square<T> d;
  const auto load = [&](int64_t i) HWY_ATTR { return hn::LoadU(d, from + i * from_stride); };
  const auto store = [&](int64_t i, auto v) HWY_ATTR { hn::StoreU(v, d, to + i * to_stride); };
  if constexpr (sizeof(T) == 8) {
    const auto r0 = load(0), r1 = load(1);
    store(0, hn::InterleaveLower(d, r0, r1));
    store(1, hn::InterleaveUpper(d, r0, r1));
  } else {
    const auto r0 = load(0), r1 = load(1), r2 = load(2), r3 = load(3);
    const auto low02 = hn::InterleaveLower(d, r0, r2), low13 = hn::InterleaveLower(d, r1, r3);
    const auto high02 = hn::InterleaveUpper(d, r0, r2), high13 = hn::InterleaveUpper(d, r1, r3);
    store(0, hn::InterleaveLower(d, low02, low13));
    store(1, hn::InterleaveUpper(d, low02, low13));
    store(2, hn::InterleaveLower(d, high02, high13));
    store(3, hn::InterleaveUpper(d, high02, high13));
  }
}
#endif

/// One panel of a transposed operand (b contiguous in p), by squares of 16 bytes a side.
template <class T>
HWY_ATTR void pack_transposed(int64_t k, int64_t width, int64_t panel, const T* b, int64_t col_stride,
                              T* out) {
  constexpr int64_t kSide = hn::MaxLanes(Square<T>());
  constexpr int64_t kBlock = 16;  // of k: both sides stay in L1
  const int64_t whole_j = width / kSide * kSide, whole_k = k / kSide * kSide;
  for (int64_t p0 = 0; p0 < k; p0 += kBlock) {
    const int64_t p1 = std::min(k, p0 + kBlock), squares = std::min(p1, whole_k);
    for (int64_t j = 0; j < whole_j; j += kSide) {
      for (int64_t p = p0; p < squares; p += kSide)
        transpose_square(b + p + j * col_stride, col_stride, out + p * panel + j, panel);
      for (int64_t p = std::max(p0, squares); p < p1; ++p) {
        for (int64_t i = j; i < j + kSide; ++i) out[p * panel + i] = b[p + i * col_stride];
      }
    }
    for (int64_t p = p0; p < p1; ++p) {
      for (int64_t j = whole_j; j < width; ++j) out[p * panel + j] = b[p + j * col_stride];
      std::fill(out + p * panel + width, out + (p + 1) * panel, T{0});
    }
  }
}

/// One panel of an operand with any strides.
template <class T>
HWY_ATTR void pack_any(int64_t k, int64_t width, int64_t panel, const T* b, int64_t row_stride,
                       int64_t col_stride, T* out) {
  for (int64_t p = 0; p < k; ++p, out += panel) {
    for (int64_t j = 0; j < width; ++j) out[j] = b[p * row_stride + j * col_stride];
    std::fill(out + width, out + panel, T{0});
  }
}

/// to[0, panel) = from[0, width), then zeros.
template <class T>
HWY_ATTR HWY_INLINE void copy_padded(int64_t width, const T* from, int64_t panel, T* to) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  if (width == panel) {
    for (int v = 0; v < kPanelVectors; ++v) hn::StoreU(hn::LoadU(d, from + v * lanes), d, to + v * lanes);
  } else {
    std::copy_n(from, width, to);
    std::fill(to + width, to + panel, T{0});
  }
}

template <class T>
HWY_ATTR void pack(int64_t k, int64_t n, const T* b, int64_t row_stride, int64_t col_stride, T* panels) {
  const int64_t panel = panel_width<T>();
  for (int64_t j = 0; j < n; j += panel, panels += k * panel) {
    const int64_t width = std::min(panel, n - j);
    if (col_stride == 1) {
      for (int64_t p = 0; p < k; ++p) {
        // The processor's own prefetching stops at the end of a page, which may hold one row.
        for (int64_t v = 0; v < width; v += 64 / static_cast<int64_t>(sizeof(T)))
          hwy::Prefetch(b + (p + 8) * row_stride + j + v);
        copy_padded(width, b + p * row_stride + j, panel, panels + p * panel);
      }
    } else if (row_stride == 1) {
      pack_transposed(k, width, panel, b + j * col_stride, col_stride, panels);
    } else {
      pack_any(k, width, panel, b + j * col_stride, row_stride, col_stride, panels);
    }
  }
}

/// Columns of a row-major operand as tiles [k][kRowTile]; the last tile is as narrow as its rows. Reads along
/// the memory's rows: a block of them is one stretch.
template <class T>
HWY_ATTR void pack_rows(int64_t m, int64_t k, const T* a, int64_t a_col, T* out) {
  constexpr int64_t kCopied = 8;  // one move, of which the next row overwrites what is too much
  const int64_t stride = tile_stride<T>(k), whole = m < kCopied ? 0 : (m - kCopied) / kRowTile + 1;
  for (int64_t p = 0; p < k; ++p, a += a_col) {
    T* to = out + p * kRowTile;
    int64_t i = 0;
    for (; i < whole * kRowTile; i += kRowTile, to += stride) std::memcpy(to, a + i, kCopied * sizeof(T));
    for (; i < m; i += kRowTile) {
      const int64_t rows = std::min(kRowTile, m - i);
      T* tile = out + i / kRowTile * stride + p * rows;
      for (int64_t r = 0; r < rows; ++r) tile[r] = a[i + r];
    }
  }
}

/// Where a block's rows of A are: as they lie, with strides, or in pack_rows' tiles.
template <class T>
struct RowBlock {
  const T* a;
  int64_t a_row, a_col;
  bool tiles = false;
};

/// One block of rows times panels of depth k, `panel_stride` numbers apart.
template <class T>
HWY_ATTR void multiply_block(int64_t m, int64_t n, int64_t k, const RowBlock<T>& block, const T* panels,
                             int64_t panel_stride, T* c, int64_t ldc, bool accumulate) {
  const int64_t panel = panel_width<T>();
  for (int64_t j = 0; j < n; j += panel, panels += panel_stride) {
    for (int64_t i = 0; i < m; i += kRowTile) {
      const int64_t rows = std::min(kRowTile, m - i);
      Tile<T> t{k,   block.a + i * block.a_row, block.a_row, block.a_col, panels, panel, c + i * ldc + j,
                ldc, std::min(panel, n - j),    accumulate};
      if (block.tiles) t.a = block.a + i / kRowTile * tile_stride<T>(k), t.a_row = 1, t.a_col = rows;
      tile<false>(rows, t);
    }
  }
}

template <class T>
HWY_ATTR void packed(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* panels,
                     int64_t packed_k, T* c, int64_t ldc, bool accumulate) {
  const int64_t panel = panel_width<T>();
  for (int64_t p = 0; p < std::max<int64_t>(k, 1); p += kDepthBlock) {
    for (int64_t i = 0; i < m; i += kRowBlock) {
      multiply_block(std::min(kRowBlock, m - i), n, std::min(kDepthBlock, k - p),
                     RowBlock<T>{a + i * lda + p, lda, 1}, panels + p * panel, packed_k * panel, c + i * ldc,
                     ldc, accumulate || p > 0);
    }
  }
}

/// Few rows and contiguous rows of B: B is read where it lies.
template <class T>
HWY_ATTR void unpacked(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
                       int64_t b_row, T* c, int64_t ldc, bool accumulate) {
  const int64_t panel = panel_width<T>();
  for (int64_t j = 0; j < n; j += panel) {
    const int64_t cols = std::min(panel, n - j);
    const Tile<T> t{k, a, a_row, a_col, b + j, b_row, c + j, ldc, cols, accumulate};
    cols == panel ? tile<false>(m, t) : tile<true>(m, t);
  }
}

template <class T>
HWY_ATTR void strided(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
                      int64_t b_row, int64_t b_col, T* c, int64_t ldc, bool accumulate, T* scratch) {
  if (m == 0) return;
  if (m <= kUnpackedRows && b_col == 1) {
    return unpacked(m, n, k, a, a_row, a_col, b, b_row, c, ldc, accumulate);
  }
  T* rows = scratch;
  T* panels = scratch + row_scratch<T>();
  const int64_t panel = panel_width<T>();
  for (int64_t j = 0; j < n; j += kColBlock) {
    const int64_t cols = std::min(kColBlock, n - j);
    for (int64_t p = 0; p < std::max<int64_t>(k, 1); p += kDepthBlock) {
      const int64_t depth = std::min(kDepthBlock, k - p);
      pack(depth, cols, b + p * b_row + j * b_col, b_row, b_col, panels);
      for (int64_t i = 0; i < m; i += kRowBlock) {
        const int64_t height = std::min(kRowBlock, m - i);
        RowBlock<T> block{a + i * a_row + p * a_col, a_row, a_col};
        if (a_row == 1 && a_col != 1 && depth * a_col * static_cast<int64_t>(sizeof(T)) > kL1Bytes) {
          pack_rows(height, depth, block.a, a_col, rows);
          block = {rows, 1, 1, true};
        }
        multiply_block(height, cols, depth, block, panels, depth * panel, c + i * ldc + j, ldc,
                       accumulate || p > 0);
      }
    }
  }
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(panel_width)
QTF_EXPORT(pack)
QTF_EXPORT(packed)
QTF_EXPORT(strided)

template <class T>
int64_t gemm_panel_width() {
  return panel_width_chosen<T>()();
}

template <class T>
int64_t gemm_scratch_size() {
  return row_scratch<T>() + kDepthBlock * (kColBlock + kMaxPanel);
}

template <class T>
int64_t gemm_packed_size(int64_t k, int64_t n) {
  const int64_t panel = gemm_panel_width<T>();
  return (n + panel - 1) / panel * panel * k;
}

template <class T>
void gemm_pack(int64_t k, int64_t n, const T* b, int64_t row_stride, int64_t col_stride, T* panels) {
  pack_chosen<T>()(k, n, b, row_stride, col_stride, panels);
}

template <class T>
void gemm_packed(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* panels, int64_t packed_k,
                 T* c, int64_t ldc, bool accumulate) {
  packed_chosen<T>()(m, n, k, a, lda, panels, packed_k, c, ldc, accumulate);
}

template <class T>
void gemm_strided(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
                  int64_t b_row, int64_t b_col, T* c, int64_t ldc, bool accumulate, T* scratch) {
  strided_chosen<T>()(m, n, k, a, a_row, a_col, b, b_row, b_col, c, ldc, accumulate, scratch);
}

QTF_INSTANTIATE(gemm_panel_width)
QTF_INSTANTIATE(gemm_scratch_size)
QTF_INSTANTIATE(gemm_packed_size)
QTF_INSTANTIATE(gemm_pack)
QTF_INSTANTIATE(gemm_packed)
QTF_INSTANTIATE(gemm_strided)

}  // namespace qtf::kernels
#endif
