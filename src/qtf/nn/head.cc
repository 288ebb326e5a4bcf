#include "qtf/nn/head.h"

#include <algorithm>

#include "qtf/kernels/softmax.h"

namespace qtf::nn {

namespace {

constexpr int64_t kHeadChunk = 256;

/// Turns logits into their gradient by cross-entropy, row by row; writes each row's loss.
template <class T>
void cross_entropy(std::span<const int32_t> targets, Matrix<T> logits, T scale, bool gradient, T* nats) {
  for (int64_t i = 0; i < logits.rows; ++i) {
    T* row = logits.row(i);
    const int32_t target = targets[static_cast<size_t>(i)];
    if (target < 0) {
      nats[i] = 0;
      if (gradient) std::fill_n(row, logits.cols, T{0});
      continue;
    }
    const T lse = kernels::log_sum_exp<T>(logits.cols, row);
    nats[i] = lse - row[target];
    if (!gradient) continue;
    kernels::exp_shifted<T>(logits.cols, row, lse, scale, row);
    row[target] -= scale;
  }
}

/// The same for KL(teacher ‖ student).
template <class T>
void distillation(std::span<const int32_t> targets, ConstMatrix<T> teacher, Matrix<T> logits, T scale,
                  bool gradient, T* nats) {
  for (int64_t i = 0; i < logits.rows; ++i) {
    T* row = logits.row(i);
    const T* other = teacher.data + i * teacher.row_stride;
    if (targets[static_cast<size_t>(i)] < 0) {
      nats[i] = 0;
      if (gradient) std::fill_n(row, logits.cols, T{0});
      continue;
    }
    const T lse = kernels::log_sum_exp<T>(logits.cols, row),
            other_lse = kernels::log_sum_exp<T>(logits.cols, other);
    nats[i] = kernels::kl_divergence<T>(logits.cols, other, other_lse, row, lse);
    if (gradient) kernels::exp_difference<T>(logits.cols, row, lse, other, other_lse, scale, row);
  }
}

}  // namespace

template <class T>
double head_loss(const Linear<T>& head, ConstMatrix<T> hidden, const HeadTask<T>& task, int level,
                 Arena& scratch) {
  const bool gradient = task.dhidden.data != nullptr;
  double total = 0;
  for (int64_t i = 0; i < hidden.rows; i += kHeadChunk) {
    const ArenaScope scope(scratch);
    const int64_t rows = std::min(kHeadChunk, hidden.rows - i);
    const auto chunk = hidden.row_block(i, rows);
    const auto targets = task.targets.subspan(static_cast<size_t>(i), static_cast<size_t>(rows));
    const Matrix<T> logits(scratch.allocate<T>(rows * head.out()), rows, head.out());
    T* saved = gradient ? scratch.allocate<T>(head.map->saved_size(rows)) : nullptr;
    T* nats = scratch.allocate<T>(rows);
    linear_forward<T>(head, chunk, logits, saved, level, scratch);
    if (task.teacher.data) {
      const Matrix<T> teacher(scratch.allocate<T>(rows * head.out()), rows, head.out());
      linear_forward<T>(head, task.teacher.row_block(i, rows), teacher, nullptr, task.teacher_level, scratch);
      distillation<T>(targets, teacher, logits, task.gradient_scale, gradient, nats);
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
