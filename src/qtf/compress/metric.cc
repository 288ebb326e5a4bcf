#include "qtf/compress/metric.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "qtf/base/error.h"
#include "qtf/tensor/gemm.h"
#include "qtf/tensor/svd.h"

namespace qtf::compress {

namespace {

AlignedVector<double> copy_of(ConstMatrix<double> w) {
  AlignedVector<double> copy(static_cast<size_t>(w.rows * w.cols));
  for (int64_t i = 0; i < w.rows; ++i)
    for (int64_t j = 0; j < w.cols; ++j) copy[i * w.cols + j] = w(i, j);
  return copy;
}

template <class Factor>
void scale_columns(Matrix<double> w, const Factor& factor) {
  for (int64_t i = 0; i < w.rows; ++i)
    for (int64_t j = 0; j < w.cols; ++j) w(i, j) *= factor(j);
}

template <class Factor>
void scale_rows(Matrix<double> w, const Factor& factor) {
  for (int64_t i = 0; i < w.rows; ++i)
    for (int64_t j = 0; j < w.cols; ++j) w(i, j) *= factor(i);
}

/// w = w·b, through a copy.
void multiply_right(Matrix<double> w, ConstMatrix<double> b) {
  const AlignedVector<double> before = copy_of(w);
  gemm(ConstMatrix<double>(before.data(), w.rows, w.cols), b, w);
}

void multiply_left(ConstMatrix<double> a, Matrix<double> w) {
  const AlignedVector<double> before = copy_of(w);
  gemm(a, ConstMatrix<double>(before.data(), w.rows, w.cols), w);
}

}  // namespace

Metric Metric::from_matrix(ConstMatrix<double> m, double shrinkage) {
  const int64_t n = m.rows;
  Metric metric(n);
  AlignedVector<double> shrunk = copy_of(m);
  double trace = 0;
  for (int64_t i = 0; i < n; ++i) trace += m(i, i);
  if (trace == 0) throw_input_error("calibrate", "the text leaves a layer of width {} at zero", n);
  const double added = shrinkage * trace / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) shrunk[i * n + i] += added;
  if (auto factor = cholesky(ConstMatrix<double>(shrunk.data(), n, n))) {
    metric.root_ = std::move(factor->lower), metric.inverse_ = std::move(factor->inverse);
    return metric;
  }
  // R = Qᵀ·diag(root) with eigenvectors as rows of Q. Moments are sums of fp32 products: no direction
  // counts less than their rounding.
  const SymmetricEigen<double> eigen = symmetric_eigen(m);
  const double rounding = std::numeric_limits<float>::epsilon() * trace;
  metric.root_.resize(shrunk.size()), metric.inverse_.resize(shrunk.size());
  for (int64_t i = 0; i < n; ++i) {
    const double root = std::sqrt(std::max(std::max(eigen.values[i], 0.0) + added, rounding));
    for (int64_t j = 0; j < n; ++j) {
      metric.root_[j * n + i] = root * eigen.vectors[i * n + j];
      metric.inverse_[i * n + j] = eigen.vectors[i * n + j] / root;
    }
  }
  return metric;
}

Metric Metric::from_diagonal(const AlignedVector<double>& values) {
  Metric metric(static_cast<int64_t>(values.size()));
  for (const double value : values) metric.diagonal_.push_back(std::sqrt(value));
  return metric;
}

void Metric::apply_right(Matrix<double> w) const {
  if (!root_.empty()) multiply_right(w, ConstMatrix<double>(root_.data(), size_, size_));
  if (!diagonal_.empty()) scale_columns(w, [&](int64_t j) { return diagonal_[j]; });
}

void Metric::undo_right(Matrix<double> w) const {
  if (!root_.empty()) multiply_right(w, ConstMatrix<double>(inverse_.data(), size_, size_));
  if (!diagonal_.empty()) scale_columns(w, [&](int64_t j) { return 1 / diagonal_[j]; });
}

void Metric::apply_left(Matrix<double> w) const {
  if (!root_.empty()) multiply_left(ConstMatrix<double>(root_.data(), size_, size_).transposed(), w);
  if (!diagonal_.empty()) scale_rows(w, [&](int64_t i) { return diagonal_[i]; });
}

void Metric::undo_left(Matrix<double> w) const {
  if (!root_.empty()) multiply_left(ConstMatrix<double>(inverse_.data(), size_, size_).transposed(), w);
  if (!diagonal_.empty()) scale_rows(w, [&](int64_t i) { return 1 / diagonal_[i]; });
}

void Metric::divide_right(Matrix<double> w) const {
  if (!root_.empty()) {
    multiply_right(w, ConstMatrix<double>(inverse_.data(), size_, size_).transposed());
    multiply_right(w, ConstMatrix<double>(inverse_.data(), size_, size_));
  }
  if (!diagonal_.empty()) scale_columns(w, [&](int64_t j) { return 1 / (diagonal_[j] * diagonal_[j]); });
}

namespace {

/// A = U·V whose shorter factor is orthonormal and whose terms fall in size: eigenvectors of the smaller of
/// AᵀA and AAᵀ. Their sum is A whatever their rounding, and what a cut leaves out is exact to rounding of
/// ‖A‖².
struct Terms {
  AlignedVector<double> losses, u, v;  ///< σ²; [m, rank]; [rank, n]
};

Terms terms_of(ConstMatrix<double> a) {
  const bool tall = a.rows >= a.cols;
  const int64_t rank = std::min(a.rows, a.cols);
  AlignedVector<double> gram(static_cast<size_t>(rank * rank));
  tall ? gemm(a.transposed(), a, Matrix<double>(gram.data(), rank, rank))
       : gemm(a, a.transposed(), Matrix<double>(gram.data(), rank, rank));
  SymmetricEigen<double> eigen = symmetric_eigen(ConstMatrix<double>(gram.data(), rank, rank));
  Terms terms;
  for (const double value : eigen.values) terms.losses.push_back(std::max(value, 0.0));
  const ConstMatrix<double> vectors(eigen.vectors.data(), rank, rank);
  if (tall) {
    terms.u.resize(static_cast<size_t>(a.rows * rank));
    gemm(a, vectors.transposed(), Matrix<double>(terms.u.data(), a.rows, rank));
    terms.v = std::move(eigen.vectors);
  } else {
    terms.v.resize(static_cast<size_t>(rank * a.cols));
    gemm(vectors, a, Matrix<double>(terms.v.data(), rank, a.cols));
    terms.u = copy_of(vectors.transposed());
  }
  return terms;
}

/// Scales every term's factors to equal norms; terms that are nothing beside others become zero.
void balance(Matrix<double> u, Matrix<double> v) {
  for (int64_t r = 0; r < v.rows; ++r) {
    double norm_u = 0, norm_v = 0;
    for (int64_t i = 0; i < u.rows; ++i) norm_u += u(i, r) * u(i, r);
    for (int64_t j = 0; j < v.cols; ++j) norm_v += v(r, j) * v(r, j);
    const double scale = std::sqrt(std::sqrt(norm_v / norm_u));
    const bool zero = !(scale > 0) || !std::isfinite(scale);  // no norm, or one below all normal numbers
    const double ratio = zero ? 0 : scale;
    for (int64_t i = 0; i < u.rows; ++i) u(i, r) *= ratio;
    for (int64_t j = 0; j < v.cols; ++j) v(r, j) *= zero ? 0 : 1 / ratio;
  }
}

}  // namespace

WeightedSvd weighted_svd(ConstMatrix<double> w, const Metric& rows, const Metric& columns) {
  AlignedVector<double> seen = copy_of(w);
  const Matrix<double> view(seen.data(), w.rows, w.cols);
  rows.apply_left(view);
  columns.apply_right(view);
  Terms terms = terms_of(view);
  const auto rank = static_cast<int64_t>(terms.losses.size());
  WeightedSvd result{w.rows, w.cols, rank, std::move(terms.losses), std::move(terms.u), std::move(terms.v)};
  const Matrix<double> u(result.u.data(), w.rows, rank), v(result.v.data(), rank, w.cols);
  rows.undo_left(u);
  columns.undo_right(v);
  balance(u, v);
  return result;
}

AlignedVector<double> weighted_losses(ConstMatrix<double> w, const Metric& rows, const Metric& columns) {
  AlignedVector<double> seen = copy_of(w);
  const Matrix<double> view(seen.data(), w.rows, w.cols);
  rows.apply_left(view);
  columns.apply_right(view);
  return terms_of(view).losses;
}

double weighted_error(ConstMatrix<double> difference, const Metric& rows, const Metric& columns) {
  AlignedVector<double> seen = copy_of(difference);
  const Matrix<double> view(seen.data(), difference.rows, difference.cols);
  rows.apply_left(view);
  columns.apply_right(view);
  double sum = 0;
  for (const double x : seen) sum += x * x;
  return sum;
}

}  // namespace qtf::compress
