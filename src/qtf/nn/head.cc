#include "qtf/nn/head.h"

#include <algorithm>

#include "qtf/base/profile.h"
#include "qtf/kernels/softmax.h"
#include "qtf/kernels/vector.h"

namespace qtf::nn {

namespace {

constexpr int64_t kHeadChunk = 256;
constexpr const char* kSoftmax = "softmax and loss";
// Rows of logits a power of two apart would share their cache sets.
constexpr int64_t kRowPadding = 16;

template <class T>
Matrix<T> allocate_logits(int64_t rows, int64_t vocabulary, Arena& scratch) {
  const int64_t stride = vocabulary + kRowPadding;
  return {scratch.allocate<T>(rows * stride), rows, vocabulary, stride};
}

/// Turns logits into their gradient by cross-entropy, row by row; writes each row's loss.
template <class T>
void cross_entropy(std::span<const int32_t> targets, Matrix<T> logits, T scale, bool gradient, T* nats) {
  const ProfileScope profile(kSoftmax);
  for (int64_t i = 0; i < logits.rows; ++i) {
    T* row = logits.row(i);
    const int32_t target = targets[static_cast<size_t>(i)];
    if (target < 0) {
      nats[i] = 0;
      if (gradient) std::fill_n(row, logits.cols, T{0});
      continue;
    }
    const T logit = row[target];
    if (!gradient) {
      nats[i] = kernels::log_sum_exp<T>(logits.cols, row) - logit;
    } else {
      nats[i] = kernels::softmax_scaled<T>(logits.cols, scale, row) - logit;
      row[target] -= scale;
    }
  }
}

/// The same with a teacher, whose logits are overwritten.
template <class T>
void distillation(std::span<const int32_t> targets, const HeadTeacher<T>& teacher, Matrix<T> others,
                  Matrix<T> logits, T scale, bool gradient, T* nats, Arena& scratch) {
  const ProfileScope profile(kSoftmax);
  const ArenaScope scope(scratch);
  const int64_t n = logits.cols;
  const bool mixed = teacher.weight < 1;
  const T sharpness = 1 / teacher.temperature, factor = scale * teacher.weight * teacher.temperature;
  T* copy = mixed ? scratch.allocate<T>(n) : nullptr;
  for (int64_t i = 0; i < logits.rows; ++i) {
    T* row = logits.row(i);
    T* other = others.row(i);
    if (targets[static_cast<size_t>(i)] < 0) {
      nats[i] = 0;
      if (gradient) std::fill_n(row, n, T{0});
      continue;
    }
    T* soft = mixed ? copy : row;
    if (mixed) std::copy_n(row, n, soft);
    if (sharpness != 1) kernels::scale<T>(n, sharpness, soft), kernels::scale<T>(n, sharpness, other);
    const T lse = kernels::log_sum_exp<T>(n, soft), other_lse = kernels::log_sum_exp<T>(n, other);
    if (!mixed) {
      const T square = teacher.temperature * teacher.temperature;
      nats[i] = square * kernels::kl_divergence<T>(n, other, other_lse, soft, lse);
    }
    if (gradient) kernels::exp_difference<T>(n, soft, lse, other, other_lse, factor, soft);
    if (!mixed) continue;
    cross_entropy<T>(targets.subspan(static_cast<size_t>(i), 1), logits.row_block(i, 1),
                     scale * (1 - teacher.weight), gradient, nats + i);
    if (gradient) kernels::add<T>(n, soft, row);
  }
}

/// Turns logits into their gradient by cross-entropy with the teacher's probabilities.
template <class T>
void soft_cross_entropy(std::span<const int32_t> targets, const HeadTeacher<T>& teacher, int64_t first,
                        Matrix<T> logits, T scale, bool gradient, T* nats) {
  const ProfileScope profile(kSoftmax);
  const int64_t n = logits.cols;
  for (int64_t i = 0; i < logits.rows; ++i) {
    T* row = logits.row(i);
    if (targets[static_cast<size_t>(i)] < 0) {
      nats[i] = 0;
      if (gradient) std::fill_n(row, n, T{0});
      continue;
    }
    const T* p = teacher.probabilities.data +
                 teacher.rows[static_cast<size_t>(first + i)] * teacher.probabilities.row_stride;
    const T expected = kernels::dot<T>(n, p, row);
    if (!gradient) {
      nats[i] = kernels::log_sum_exp<T>(n, row) - expected;
    } else {
      nats[i] = kernels::softmax_scaled<T>(n, scale, row) - expected;
      kernels::axpy<T>(n, -scale, p, row);
    }
  }
}

template <class T>
void copy_softmax(ConstMatrix<T> logits, Matrix<T> probabilities) {
  const ProfileScope profile(kSoftmax);
  for (int64_t i = 0; i < logits.rows; ++i) {
    std::copy_n(logits.data + i * logits.row_stride, logits.cols, probabilities.row(i));
    kernels::softmax_scaled<T>(logits.cols, T{1}, probabilities.row(i));
  }
}

}  // namespace

template <class T>
double head_loss(const Linear<T>& head, ConstMatrix<T> hidden, const HeadTask<T>& task, int level,
                 Arena& scratch) {
  const ProfileScope profile("head");
  const bool gradient = task.dhidden.data != nullptr;
  double total = 0;
  for (int64_t i = 0; i < hidden.rows; i += kHeadChunk) {
    const ArenaScope scope(scratch);
    const int64_t rows = std::min(kHeadChunk, hidden.rows - i);
    const auto chunk = hidden.row_block(i, rows);
    const auto targets = task.targets.subspan(static_cast<size_t>(i), static_cast<size_t>(rows));
    const Matrix<T> logits = allocate_logits<T>(rows, head.out(), scratch);
    T* saved = gradient ? scratch.allocate<T>(head.map->saved_size(rows)) : nullptr;
    T* nats = scratch.allocate<T>(rows);
    linear_forward<T>(head, chunk, logits, saved, level, scratch);
    if (task.probabilities.data) copy_softmax<T>(logits, task.probabilities.row_block(i, rows));
    if (task.teacher.probabilities.data) {
      soft_cross_entropy<T>(targets, task.teacher, i, logits, task.gradient_scale, gradient, nats);
    } else if (task.teacher.head) {
      const Matrix<T> others = allocate_logits<T>(rows, head.out(), scratch);
      linear_forward<T>(*task.teacher.head, task.teacher.hidden.row_block(i, rows), others, nullptr,
                        task.teacher.level, scratch);
      distillation<T>(targets, task.teacher, others, logits, task.gradient_scale, gradient, nats, scratch);
    } else {
      cross_entropy<T>(targets, logits, task.gradient_scale, gradient, nats);
    }
    if (gradient) {
      linear_backward<T>(head, logits, chunk, saved, task.dhidden.row_block(i, rows), Into::overwrite,
                         task.gradients, level, scratch);
    }
    for (int64_t r = 0; r < rows; ++r) total += static_cast<double>(nats[r]);
    if (task.token_nats) std::copy_n(nats, rows, task.token_nats + i);
  }
  return total;
}

template double head_loss<float>(const Linear<float>&, ConstMatrix<float>, const HeadTask<float>&, int,
                                 Arena&);
template double head_loss<double>(const Linear<double>&, ConstMatrix<double>, const HeadTask<double>&, int,
                                  Arena&);

}  // namespace qtf::nn
