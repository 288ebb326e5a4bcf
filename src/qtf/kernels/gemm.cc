#include "qtf/kernels/gemm.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/gemm.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
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
constexpr int64_t kUnpackedRows = 4;  // up to this many rows, packing B costs more than it saves
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

  Vec sum[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) {
      const T* c = t.c + r * t.ldc + v * lanes;
      if (!t.accumulate) {
        sum[r][v] = hn::Zero(d);
      } else {
        sum[r][v] = v + 1 == V && last < lanes ? load_first(d, mask, last, c) : hn::LoadU(d, c);
      }
    }
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
  for (int r = 0; r < R; ++r) {
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

/// Copies a transposed operand (rows of b contiguous in p) in square blocks, so that both sides stay in L1.
template <class T>
HWY_ATTR void pack_transposed(int64_t k, int64_t width, int64_t panel, const T* b, int64_t row_stride,
                              int64_t col_stride, T* out) {
  constexpr int64_t kBlock = 16;
  for (int64_t p0 = 0; p0 < k; p0 += kBlock) {
    const int64_t p1 = std::min(k, p0 + kBlock);
    for (int64_t j = 0; j < width; ++j) {
      for (int64_t p = p0; p < p1; ++p) out[p * panel + j] = b[p * row_stride + j * col_stride];
    }
    for (int64_t p = p0; p < p1; ++p) std::fill(out + p * panel + width, out + (p + 1) * panel, T{0});
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
    if (col_stride != 1) {
      pack_transposed(k, width, panel, b + j * col_stride, row_stride, col_stride, panels);
      continue;
    }
    for (int64_t p = 0; p < k; ++p) copy_padded(width, b + p * row_stride + j, panel, panels + p * panel);
  }
}

/// Rows of A as tiles [k][kRowTile]; the last tile is as narrow as its rows.
template <class T>
HWY_ATTR void pack_rows(int64_t m, int64_t k, const T* a, int64_t a_row, int64_t a_col, T* out) {
  for (int64_t i = 0; i < m; i += kRowTile) {
    const int64_t rows = std::min(kRowTile, m - i);
    const T* from = a + i * a_row;
    if (rows == kRowTile && a_row == 1) {
      // memcpy of a constant size is two moves; std::copy_n here is a call.
      for (int64_t p = 0; p < k; ++p) std::memcpy(out + p * kRowTile, from + p * a_col, kRowTile * sizeof(T));
    } else {
      for (int64_t p = 0; p < k; ++p) {
        for (int64_t r = 0; r < rows; ++r) out[p * rows + r] = from[r * a_row + p * a_col];
      }
    }
    out += rows * k;
  }
}

/// One block of rows times panels of depth k, `panel_stride` numbers apart.
template <class T>
HWY_ATTR void multiply_block(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, bool a_packed,
                             const T* panels, int64_t panel_stride, T* c, int64_t ldc, bool accumulate) {
  const int64_t panel = panel_width<T>();
  for (int64_t j = 0; j < n; j += panel, panels += panel_stride) {
    for (int64_t i = 0; i < m; i += kRowTile) {
      const int64_t rows = std::min(kRowTile, m - i);
      Tile<T> t{k,   a + i * a_row,          a_row,     1, panels, panel, c + i * ldc + j,
                ldc, std::min(panel, n - j), accumulate};
      if (a_packed) t.a = a + i * k, t.a_row = 1, t.a_col = rows;
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
      multiply_block(std::min(kRowBlock, m - i), n, std::min(kDepthBlock, k - p), a + i * lda + p, lda, false,
                     panels + p * panel, packed_k * panel, c + i * ldc, ldc, accumulate || p > 0);
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
  T* panels = scratch + kRowBlock * kDepthBlock;
  const int64_t panel = panel_width<T>();
  for (int64_t j = 0; j < n; j += kColBlock) {
    const int64_t cols = std::min(kColBlock, n - j);
    for (int64_t p = 0; p < std::max<int64_t>(k, 1); p += kDepthBlock) {
      const int64_t depth = std::min(kDepthBlock, k - p);
      pack(depth, cols, b + p * b_row + j * b_col, b_row, b_col, panels);
      for (int64_t i = 0; i < m; i += kRowBlock) {
        const int64_t height = std::min(kRowBlock, m - i);
        const T* from = a + i * a_row + p * a_col;
        if (a_col != 1) pack_rows(height, depth, from, a_row, a_col, rows);
        multiply_block(height, cols, depth, a_col != 1 ? rows : from, a_row, a_col != 1, panels,
                       depth * panel, c + i * ldc + j, ldc, accumulate || p > 0);
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
  return kRowBlock * kDepthBlock + kDepthBlock * (kColBlock + kMaxPanel);
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
