// The output head with its losses, in chunks of tokens, so that no more than kHeadChunk rows of logits exist.
#pragma once

#include <span>

#include "qtf/base/arena.h"
#include "qtf/nn/linear.h"

namespace qtf::nn {

/// What a pass over the head is asked for.
template <class T>
struct HeadTask {
  std::span<const int32_t> targets;  ///< [M]; a negative target is left out of the loss
  /// Loss per token: cross-entropy with the targets or, where `teacher` is given, KL(teacher ‖ this), in
  /// nats.
  ConstMatrix<T> teacher;  ///< [M, D] hidden states whose logits at teacher_level are the teacher's
  int teacher_level = 0;
  T* token_nats = nullptr;  ///< [M], overwritten, or null
  T gradient_scale = 0;     ///< the loss is Σ nats · gradient_scale
  Matrix<T> dhidden;        ///< [M, D], overwritten; null: no gradients
  T* gradients = nullptr;   ///< the head's are added here
};

/// Logits = hidden[M, D]·Wᵀ and what `task` asks; returns Σ nats.
template <class T>
double head_loss(const Linear<T>& head, ConstMatrix<T> hidden, const HeadTask<T>& task, int level,
                 Arena& scratch);

}  // namespace qtf::nn
