#include "qtf/kernels/gemm_columns.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/gemm_columns.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
#include "qtf/kernels/loop-inl.h"

// Shared by the versions for every instruction set.
#ifndef QTF_KERNELS_GEMM_COLUMNS_
#define QTF_KERNELS_GEMM_COLUMNS_
namespace qtf::kernels {
constexpr int kTileRows = 6;     // rows of a register tile, as in gemm.cc
constexpr int kTileColumns = 4;  // vectors of columns that are taken through all rows before the next
}  // namespace qtf::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kRegisters = 32;
#else
constexpr int kRegisters = 16;
#endif

/// Vectors of columns in a tile of R rows: as many as the registers hold, since every one is a chain of
/// multiply-adds and hides the others' latency.
template <int R>
constexpr int tile_vectors() {
  return R * kTileColumns + kTileColumns + 2 <= kRegisters ? kTileColumns : kTileColumns / 2;
}

/// A packed B by vectors of columns: vector g lies in panel g / per_panel.
template <class T>
struct Columns {
  const T* panels;
  int64_t panel;         // width
  int64_t panel_stride;  // numbers from a panel to the next
  int64_t lanes;

  const T* vector(int64_t g) const {
    const int64_t column = g * lanes;
    return panels + column / panel * panel_stride + column % panel;
  }
};

/// The left operand's rows and where their products go: column 0 of C.
template <class T>
struct Rows {
  int64_t k;
  const T* a;
  int64_t lda;
  T* c;
  int64_t ldc;
  bool accumulate;
};

/// C[R, columns of vectors first … first + V - 1, up to `end`] = or += A[R, k]·B.
template <int R, int V, class T>
HWY_ATTR HWY_INLINE void tile(const Columns<T>& b, int64_t first, int64_t end, const Rows<T>& rows) {
  const hn::ScalableTag<T> d;
  using Vec = hn::Vec<decltype(d)>;
  const int64_t last = std::min(b.lanes, end - (first + V - 1) * b.lanes);  // columns in the last vector
  const auto mask = hn::FirstN(d, static_cast<size_t>(last));
  const T* column[V];
  Vec sum[R][V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) {
    column[v] = b.vector(first + v);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const T* c = rows.c + r * rows.ldc + (first + v) * b.lanes;
      if (!rows.accumulate) {
        sum[r][v] = hn::Zero(d);
      } else {
        sum[r][v] = v + 1 == V && last < b.lanes ? load_first(d, mask, last, c) : hn::LoadU(d, c);
      }
    }
  }
  for (int64_t p = 0; p < rows.k; ++p) {
    Vec row[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) row[v] = hn::LoadU(d, column[v] + p * b.panel);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const Vec scale = hn::Set(d, rows.a[r * rows.lda + p]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = hn::MulAdd(scale, row[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    T* to = rows.c + r * rows.ldc + first * b.lanes;
    for (int v = 0; v + 1 < V; ++v) hn::StoreU(sum[r][v], d, to + v * b.lanes);
    T* tail = to + (V - 1) * b.lanes;
    if (last < b.lanes) {
      store_first(sum[r][V - 1], d, mask, last, tail);
    } else {
      hn::StoreU(sum[r][V - 1], d, tail);
    }
  }
}

/// R rows times the vectors [first, first + count), count <= kTileColumns.
template <int R, class T>
HWY_ATTR HWY_INLINE void tile_row(const Columns<T>& b, int64_t first, int64_t count, int64_t end,
                                  const Rows<T>& rows) {
  constexpr int V = tile_vectors<R>();
  for (; count >= V; first += V, count -= V) tile<R, V>(b, first, end, rows);
  if constexpr (V > 2) {
    if (count >= 2) tile<R, 2>(b, first, end, rows), first += 2, count -= 2;
  }
  if (count == 1) tile<R, 1>(b, first, end, rows);
}

template <class T>
HWY_ATTR void columns(int64_t m, int64_t begin, int64_t end, int64_t k, const T* a, int64_t lda,
                      const T* panels, int64_t panel, int64_t panel_stride, T* c, int64_t ldc,
                      bool accumulate) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const Columns<T> b{panels, panel, panel_stride, lanes};
  const int64_t last = (end + lanes - 1) / lanes;
  for (int64_t g = begin / lanes; g < last; g += kTileColumns) {
    const int64_t count = std::min<int64_t>(kTileColumns, last - g);
    for (int64_t i = 0; i < m; i += kTileRows) {
      const Rows<T> rows{k, a + i * lda, lda, c + i * ldc, ldc, accumulate};
      switch (std::min<int64_t>(kTileRows, m - i)) {
        case 1:
          tile_row<1>(b, g, count, end, rows);
          break;
        case 2:
          tile_row<2>(b, g, count, end, rows);
          break;
        case 3:
          tile_row<3>(b, g, count, end, rows);
          break;
        case 4:
          tile_row<4>(b, g, count, end, rows);
          break;
        case 5:
          tile_row<5>(b, g, count, end, rows);
          break;
        default:
          tile_row<6>(b, g, count, end, rows);
      }
    }
  }
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(columns)

template <class T>
void gemm_columns(int64_t m, int64_t begin, int64_t end, int64_t k, const T* a, int64_t lda, const T* panels,
                  int64_t packed_k, T* c, int64_t ldc, bool accumulate, int64_t width) {
  if (begin >= end) return;
  columns_chosen<T>()(m, begin, end, k, a, lda, panels, width, packed_k * width, c, ldc, accumulate);
}

QTF_INSTANTIATE(gemm_columns)

}  // namespace qtf::kernels
#endif
