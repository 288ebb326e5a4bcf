// The output head with its losses, in chunks of tokens, so that no more than kHeadChunk rows of logits exist.
#pragma once

#include <span>

#include "qtf/base/arena.h"
#include "qtf/nn/linear.h"

namespace qtf::nn {

/// Another head's hidden states, whose next-token distribution this one learns beside the text, or instead.
template <class T>
struct HeadTeacher {
  const Linear<T>* head = nullptr;  ///< null: no teacher, or one whose probabilities are there already
  ConstMatrix<T> hidden;            ///< [M, the teacher's width]
  int level = 0;
  T weight = 1;       ///< w in (0, 1]
  T temperature = 1;  ///< τ: both sides' logits are divided by it
  /// In place of head and hidden: what HeadTask::probabilities gave. The loss is then the cross-entropy with
  /// them (the divergence and a constant), w and τ are 1.
  ConstMatrix<T> probabilities = {};
  std::span<const int64_t> rows = {};  ///< [M], of `probabilities`
};

/// What a pass over the head is asked for. A token's loss is its cross-entropy with the target or, with a
/// teacher, (1 − w)·cross-entropy + w·τ²·KL(teacher ‖ this) (Hinton et al. 2015).
template <class T>
struct HeadTask {
  std::span<const int32_t> targets;  ///< [M]; a negative target is left out of the loss
  HeadTeacher<T> teacher;
  /// [M], overwritten, or null: the cross-entropies; where the teacher's weight is 1, τ²·KL.
  T* token_nats = nullptr;
  Matrix<T> probabilities;  ///< [M, V], overwritten with the softmax of the logits; null: not wanted
  T gradient_scale = 0;     ///< gradients are of Σ loss · gradient_scale
  Matrix<T> dhidden;        ///< [M, D], overwritten; null: no gradients
  T* gradients = nullptr;   ///< the head's are added here
};

/// Logits = hidden[M, D]·Wᵀ and what `task` asks; returns Σ token_nats.
template <class T>
double head_loss(const Linear<T>& head, ConstMatrix<T> hidden, const HeadTask<T>& task, int level,
                 Arena& scratch);

}  // namespace qtf::nn
