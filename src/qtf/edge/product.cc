#include "qtf/edge/product.h"

#include <type_traits>

#include "qtf/kernels/gemm_columns.h"
#include "qtf/kernels/quantized.h"
#include "qtf/kernels/vector.h"

namespace qtf::edge {

namespace {

static_assert(kPanelWidth == kernels::kColumnGrain);

/// Rows and columns of a product within its matrix: C[rows, columns] from A[rows, depth].
struct Sizes {
  int64_t rows, columns, depth;
};

/// f(Code()) of how a matrix' numbers are coded; f(float()) of those that are not.
template <class F>
void by_type(NumberType type, const F& f) {
  switch (type) {
    case NumberType::f32:
      return f(float());
    case NumberType::f16:
      return f(kernels::Float16());
    case NumberType::int8:
      return f(kernels::Int8());
    case NumberType::int4:
      return f(kernels::Int4());
  }
}

kernels::QuantizedPanels panels_of(const File& file, const Matrix& b) {
  return {.panels = file.at<uint8_t>(b.bytes),
          .packed_k = b.rows,
          .block = b.block,
          .first = 0,
          .width = kPanelWidth};
}

/// C = A·B[:depth, :columns], or C += …
void multiply(const File& file, const Matrix& b, const Sizes& n, const float* a, int64_t lda, float* c,
              int64_t ldc, bool accumulate) {
  by_type(b.type, [&]<class Code>(Code) {
    if constexpr (std::is_same_v<Code, float>)
      kernels::gemm_columns<float>(n.rows, 0, n.columns, n.depth, a, lda, file.at<float>(b.bytes), b.rows, c,
                                   ldc, accumulate, kPanelWidth);
    else
      kernels::quantized_columns<Code>(n.rows, 0, n.columns, n.depth, a, lda, panels_of(file, b), c, ldc,
                                       accumulate);
  });
}

/// to[depth] = B[:depth, column].
void read_column(const File& file, const Matrix& b, int64_t column, int64_t depth, float* to) {
  by_type(b.type, [&]<class Code>(Code) {
    if constexpr (std::is_same_v<Code, float>) {
      const float* from =
          file.at<float>(b.bytes) + column / kPanelWidth * kPanelWidth * b.rows + column % kPanelWidth;
      for (int64_t p = 0; p < depth; ++p) to[p] = from[p * kPanelWidth];
    } else {
      kernels::quantized_column<Code>(column, depth, panels_of(file, b), to);
    }
  });
}

/// The first product of a chain with pivots, z[rows, rank] = x·Vᵀ: block after block, the pivots' inputs
/// first, then what the others add.
void multiply_beside_pivots(const File& file, const Map& map, const Sizes& n, const float* x, int64_t ldx,
                            float* z, float* others) {
  const auto *ends = file.at<uint32_t>(map.block_ends), *pivots = file.at<uint32_t>(map.pivots);
  uint32_t begin = 0;
  for (uint32_t b = 0; begin < n.columns; begin = ends[b], ++b) {
    const uint32_t size = ends[b] - begin;
    const int64_t left = map.in - size;
    for (int64_t i = 0; i < n.rows; ++i) {
      const float* from = x + i * ldx;
      float* to = others + i * left;
      uint32_t next = 0;
      for (uint32_t j = 0; j < map.in; ++j) {
        if (next < size && pivots[begin + next] == j)
          z[i * n.columns + begin + next++] = from[j];
        else
          *to++ = from[j];
      }
    }
    multiply(file, file.matrix(map.first + 1 + b), {n.rows, size, left}, others, left, z + begin, n.columns,
             true);
  }
}

}  // namespace

int64_t scratch_size(const File& file, const Map& map, int64_t rows) {
  if (!map.block_ends.count) return 0;
  return rows * (file.rank(map, 0) + (map.pivots.count ? map.in : 0));
}

void apply(const File& file, const Map& map, uint32_t level, int64_t rows, const float* x, int64_t ldx,
           float* y, int64_t ldy, float* scratch) {
  const Matrix& first = file.matrix(map.first);
  if (!map.block_ends.count) {
    multiply(file, first, {rows, map.out, map.in}, x, ldx, y, ldy, false);
  } else {
    const int64_t rank = file.rank(map, level);
    if (map.pivots.count)
      multiply_beside_pivots(file, map, {rows, rank, map.in}, x, ldx, scratch, scratch + rows * rank);
    else
      multiply(file, file.matrix(map.first + 1), {rows, rank, map.in}, x, ldx, scratch, rank, false);
    multiply(file, first, {rows, map.out, rank}, scratch, rank, y, ldy, false);
  }
  if (const auto* bias = file.at<float>(map.bias))
    for (int64_t i = 0; i < rows; ++i) kernels::add<float>(map.out, bias, y + i * ldy);
}

void gather(const File& file, const Map& map, uint32_t level, uint32_t token, float* x, float* scratch) {
  if (!map.block_ends.count) return read_column(file, file.matrix(map.first), token, map.in, x);
  const int64_t rank = file.rank(map, level);
  read_column(file, file.matrix(map.first), token, rank, scratch);
  multiply(file, file.matrix(map.gathers), {1, map.in, rank}, scratch, rank, x, map.in, false);
}

}  // namespace qtf::edge
