#include "qtf/compress/moments.h"

#include <algorithm>

#include "qtf/base/arena.h"
#include "qtf/tensor/gemm.h"

namespace qtf::compress {

namespace {
constexpr int64_t kStripe = 64;  // rows of a sum that one task computes
}

template <class T>
AlignedVector<double> Triangle<T>::matrix(double scale) const {
  AlignedVector<double> full(static_cast<size_t>(size * size));
  const T* from = lower.data();
  for (int64_t i = 0; i < size; ++i)
    for (int64_t j = 0; j <= i; ++j)
      full[i * size + j] = full[j * size + i] = scale * static_cast<double>(*from++);
  return full;
}
template struct Triangle<float>;
template struct Triangle<double>;

MeanMoment mean_of(const SecondMoment& sum, int64_t tokens) {
  MeanMoment mean(sum.size);
  const double scale = 1 / static_cast<double>(tokens);
  for (size_t i = 0; i < mean.lower.size(); ++i) mean.lower[i] = static_cast<float>(sum.lower[i] * scale);
  return mean;
}

void MomentUpdates::split(ConstMatrix<float> a, ConstMatrix<float> b, double* sum, int64_t stride) {
  for (int64_t first = 0; first < a.cols; first += kStripe) {
    const int64_t rows = std::min(kStripe, a.cols - first);
    double* to = sum + (stride ? first * stride : first * (first + 1) / 2);
    tasks_.push_back(
        {a.col_block(first, rows), stride ? b : b.col_block(0, first + rows), to, first, stride});
  }
}

void MomentUpdates::add(ConstMatrix<float> x, SecondMoment& sum) {
  split(x, x, sum.lower.data(), 0);
}

void MomentUpdates::add(ConstMatrix<float> a, ConstMatrix<float> b, CrossMoment& sum) {
  split(a, b, sum.sum.data(), sum.cols);
}

void MomentUpdates::run(const Task& task) {
  const int64_t rows = task.a.cols, cols = task.b.cols;
  thread_local AlignedVector<float> block;
  block.resize(static_cast<size_t>(rows * cols));
  gemm(task.a.transposed(), task.b, Matrix<float>(block.data(), rows, cols));
  double* to = task.sum;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t n = task.stride ? cols : task.first + i + 1;
    for (int64_t j = 0; j < n; ++j) to[j] += static_cast<double>(block[i * cols + j]);
    to += task.stride ? task.stride : n;
  }
}

void MomentUpdates::run(ThreadPool& pool) {
  pool.run([&](int worker) {
    for (size_t i = static_cast<size_t>(worker); i < tasks_.size(); i += static_cast<size_t>(pool.size()))
      run(tasks_[i]);
  });
  tasks_.clear();
}

}  // namespace qtf::compress
