// Causal softmax attention of one head over one sequence, forward and backward. Blocks of queries bound the
// memory to kQueryBlock rows of scores, and backward makes the probabilities again from the kept log-sum-exp
// (Dao et al. 2022). Training and inference call the same function; keys and values come from the activations
// or from a cache.
#pragma once

#include "qtf/base/arena.h"
#include "qtf/nn/kv_cache.h"
#include "qtf/tensor/matrix.h"

namespace qtf::nn {

/// out[n, head_dim] = softmax(scale · q·Kᵀ, causal)·V. q[n, head_dim] are the tokens at positions first …
/// first + n - 1; keys_t[head_dim, t] and values[t, head_dim] cover positions 0 … t - 1, t = first + n.
/// log_sum_exp[n] is kept for backward. entropy[n]: of each row's probabilities, in nats; null: not computed.
/// A row's result depends on its own and earlier positions only, bit for bit.
template <class T>
void attention_forward(ConstMatrix<T> q, ConstMatrix<T> keys_t, ConstMatrix<T> values, int64_t first, T scale,
                       Matrix<T> out, T* log_sum_exp, T* entropy, Arena& scratch);

/// The same with the keys and values of a layer and key head that a cache holds, those of q's tokens
/// included.
template <class T>
void cached_attention_forward(ConstMatrix<T> q, const KvCache<T>& cache, int64_t layer, int64_t kv_head,
                              int64_t first, T scale, Matrix<T> out, T* log_sum_exp, T* entropy,
                              Arena& scratch);

/// A token's attention entropy (nn/attention_entropy.h) of its heads' in nats, heads[h·stride] for h = 0 …
/// count - 1.
template <class T>
T attention_entropy(const T* heads, int64_t count, int64_t stride, int64_t position);

/// For a whole sequence (first = 0): dq is overwritten; dk[t, head_dim] and dv[t, head_dim] are added to,
/// since several query heads may share one key head.
template <class T>
void attention_backward(ConstMatrix<T> q, ConstMatrix<T> keys, ConstMatrix<T> values, T scale,
                        const T* log_sum_exp, ConstMatrix<T> dout, Matrix<T> dq, Matrix<T> dk, Matrix<T> dv,
                        Arena& scratch);

}  // namespace qtf::nn
