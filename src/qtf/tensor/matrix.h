// Views of matrices in memory: what products take and give.
#pragma once

#include <cstdint>

namespace qtf {

/// A read-only rows × cols matrix with any strides (in elements), not owned.
template <class T>
struct ConstMatrix {
  const T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;
  int64_t col_stride = 1;

  ConstMatrix() = default;
  /// Row-major with leading dimension `stride` (0: cols).
  ConstMatrix(const T* data_, int64_t rows_, int64_t cols_, int64_t stride = 0)
      : data(data_), rows(rows_), cols(cols_), row_stride(stride ? stride : cols_) {}

  const T& operator()(int64_t i, int64_t j) const { return data[i * row_stride + j * col_stride]; }

  ConstMatrix transposed() const {
    ConstMatrix t;
    t.data = data, t.rows = cols, t.cols = rows, t.row_stride = col_stride, t.col_stride = row_stride;
    return t;
  }
  /// The `n` rows from `first`.
  ConstMatrix row_block(int64_t first, int64_t n) const {
    ConstMatrix b = *this;
    b.data += first * row_stride, b.rows = n;
    return b;
  }
  /// The `n` columns from `first`.
  ConstMatrix col_block(int64_t first, int64_t n) const {
    ConstMatrix b = *this;
    b.data += first * col_stride, b.cols = n;
    return b;
  }
};

/// A writable row-major rows × cols matrix, not owned.
template <class T>
struct Matrix {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;

  Matrix() = default;
  Matrix(T* data_, int64_t rows_, int64_t cols_, int64_t stride = 0)
      : data(data_), rows(rows_), cols(cols_), row_stride(stride ? stride : cols_) {}

  T& operator()(int64_t i, int64_t j) const { return data[i * row_stride + j]; }
  T* row(int64_t i) const { return data + i * row_stride; }
  operator ConstMatrix<T>() const { return {data, rows, cols, row_stride}; }
  ConstMatrix<T> transposed() const { return ConstMatrix<T>(*this).transposed(); }
  Matrix row_block(int64_t first, int64_t n) const { return {row(first), n, cols, row_stride}; }
  Matrix col_block(int64_t first, int64_t n) const { return {data + first, rows, n, row_stride}; }
};

}  // namespace qtf
