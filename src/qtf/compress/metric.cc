#include "qtf/compress/metric.h"

#include <algorithm>
#include <cmath>

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
  SymmetricEigen<double> eigen = symmetric_eigen(m);
  Metric metric(m.rows);
  double trace = 0;
  for (double& value : eigen.values) trace += value = std::max(value, 0.0);
  if (!(trace > 0)) throw_input_error("calibrate", "the text leaves a layer of width {} at zero", m.rows);
  const double added = shrinkage * trace / static_cast<double>(m.rows);
  metric.vectors_ = std::move(eigen.vectors);
  for (const double value : eigen.values) metric.roots_.push_back(std::sqrt(value + added));
  return metric;
}

Metric Metric::from_diagonal(const AlignedVector<double>& values) {
  Metric metric(static_cast<int64_t>(values.size()));
  for (const double value : values) metric.roots_.push_back(std::sqrt(value));
  return metric;
}

void Metric::apply_right(Matrix<double> w) const {
  if (!vectors_.empty()) multiply_right(w, ConstMatrix<double>(vectors_.data(), size_, size_).transposed());
  if (!roots_.empty()) scale_columns(w, [&](int64_t j) { return roots_[j]; });
}

void Metric::undo_right(Matrix<double> w) const {
  if (!roots_.empty()) scale_columns(w, [&](int64_t j) { return 1 / roots_[j]; });
  if (!vectors_.empty()) multiply_right(w, ConstMatrix<double>(vectors_.data(), size_, size_));
}

void Metric::apply_left(Matrix<double> w) const {
  if (!vectors_.empty()) multiply_left(ConstMatrix<double>(vectors_.data(), size_, size_), w);
  if (!roots_.empty()) scale_rows(w, [&](int64_t i) { return roots_[i]; });
}

void Metric::undo_left(Matrix<double> w) const {
  if (!roots_.empty()) scale_rows(w, [&](int64_t i) { return 1 / roots_[i]; });
  if (!vectors_.empty()) multiply_left(ConstMatrix<double>(vectors_.data(), size_, size_).transposed(), w);
}

void Metric::divide_right(Matrix<double> w) const {
  const ConstMatrix<double> vectors(vectors_.data(), size_, size_);
  if (!vectors_.empty()) multiply_right(w, vectors.transposed());
  if (!roots_.empty()) scale_columns(w, [&](int64_t j) { return 1 / (roots_[j] * roots_[j]); });
  if (!vectors_.empty()) multiply_right(w, vectors);
}

WeightedSvd weighted_svd(ConstMatrix<double> w, const Metric& rows, const Metric& columns) {
  AlignedVector<double> seen = copy_of(w);
  const Matrix<double> view(seen.data(), w.rows, w.cols);
  rows.apply_left(view);
  columns.apply_right(view);
  Svd<double> svd = truncated_svd<double>(view);
  WeightedSvd result;
  result.out = w.rows, result.in = w.cols, result.rank = static_cast<int64_t>(svd.s.size());
  result.u = std::move(svd.u), result.v = std::move(svd.v);
  const Matrix<double> u(result.u.data(), w.rows, result.rank), v(result.v.data(), result.rank, w.cols);
  rows.undo_left(u);
  columns.undo_right(v);
  for (int64_t r = 0; r < result.rank; ++r) {
    const double s = svd.s[r];
    result.losses.push_back(s * s);
    double norm_u = 0, norm_v = 0;
    for (int64_t i = 0; i < w.rows; ++i) norm_u += u(i, r) * u(i, r);
    for (int64_t j = 0; j < w.cols; ++j) norm_v += v(r, j) * v(r, j);
    const double ratio = std::sqrt(std::sqrt(norm_v / norm_u)), root = std::sqrt(s);
    for (int64_t i = 0; i < w.rows; ++i) u(i, r) *= root * ratio;
    for (int64_t j = 0; j < w.cols; ++j) v(r, j) *= root / ratio;
  }
  return result;
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
