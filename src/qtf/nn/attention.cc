#include "qtf/nn/attention.h"

#include <algorithm>
#include <cmath>

#include "qtf/kernels/softmax.h"
#include "qtf/nn/attention_entropy.h"
#include "qtf/tensor/gemm.h"

namespace qtf::nn {

namespace {

constexpr int64_t kQueryBlock = 32;  // rows of scores that stay in L1, and little of the triangle wasted
constexpr int64_t kPackedFrom = 8;   // fewer queries (decoding) read keys and values where they lie

/// Probabilities of a block of queries, kept log-sum-exps, entropies (unless null) and output. Keys and
/// values: matrices or packed.
template <class T, class Operand>
void attend_block(ConstMatrix<T> q, const Operand& keys_t, const Operand& values, int64_t first, T scale,
                  Matrix<T> out, T* log_sum_exp, T* entropy, Arena& scratch) {
  const ArenaScope scope(scratch);
  const int64_t seen = first + q.rows;
  const Matrix<T> p(scratch.allocate<T>(q.rows * seen), q.rows, seen);
  gemm<T>(q, keys_t, p);
  kernels::softmax_causal<T>(q.rows, seen, first, scale, p.data, seen, log_sum_exp, entropy);
  gemm<T>(p, values, out);
}

}  // namespace

template <class T>
void attention_forward(ConstMatrix<T> q, ConstMatrix<T> keys_t, ConstMatrix<T> values, int64_t first, T scale,
                       Matrix<T> out, T* log_sum_exp, T* entropy, Arena& scratch) {
  if (q.rows < kPackedFrom) {
    return attend_block<T, ConstMatrix<T>>(q, keys_t, values, first, scale, out, log_sum_exp, entropy,
                                           scratch);
  }
  const ArenaScope scope(scratch);
  const PackedView<T> packed_keys_t = pack(keys_t, scratch), packed_values = pack(values, scratch);
  for (int64_t i = 0; i < q.rows; i += kQueryBlock) {
    const int64_t rows = std::min(kQueryBlock, q.rows - i);
    attend_block<T>(q.row_block(i, rows), packed_keys_t, packed_values, first + i, scale,
                    out.row_block(i, rows), log_sum_exp + i, entropy ? entropy + i : nullptr, scratch);
  }
}

template <class T>
T attention_entropy(const T* heads, int64_t count, int64_t stride, int64_t position) {
  T sum = 0;
  for (int64_t h = 0; h < count; ++h) sum += heads[h * stride];
  return attention_entropy(sum, count, position);
}

template <class T>
void attention_backward(ConstMatrix<T> q, ConstMatrix<T> keys, ConstMatrix<T> values, T scale,
                        const T* log_sum_exp, ConstMatrix<T> dout, Matrix<T> dq, Matrix<T> dk, Matrix<T> dv,
                        Arena& scratch) {
  const ArenaScope scope(scratch);
  const PackedView<T> keys_t = pack(keys.transposed(), scratch),
                      values_t = pack(values.transposed(), scratch), packed_keys = pack(keys, scratch);
  for (int64_t i = 0; i < q.rows; i += kQueryBlock) {
    const ArenaScope block(scratch);
    const int64_t rows = std::min(kQueryBlock, q.rows - i);
    const int64_t seen = i + rows;
    const auto q_block = q.row_block(i, rows), dout_block = dout.row_block(i, rows);
    const Matrix<T> p(scratch.allocate<T>(rows * seen), rows, seen);
    const Matrix<T> dp(scratch.allocate<T>(rows * seen), rows, seen);

    gemm<T>(q_block, keys_t, p);
    kernels::softmax_causal_again<T>(rows, seen, i, scale, p.data, seen, log_sum_exp + i);
    gemm(p.transposed(), dout_block, dv.row_block(0, seen), Into::accumulate);
    gemm<T>(dout_block, values_t, dp);
    kernels::softmax_backward<T>(rows, seen, scale, p.data, dp.data, seen);
    gemm<T>(dp, packed_keys, dq.row_block(i, rows));
    gemm(dp.transposed(), q_block, dk.row_block(0, seen), Into::accumulate);
  }
}

#define QTF_INSTANTIATE_ATTENTION(T)                                                                        \
  template void attention_forward<T>(ConstMatrix<T>, ConstMatrix<T>, ConstMatrix<T>, int64_t, T, Matrix<T>, \
                                     T*, T*, Arena&);                                                       \
  template T attention_entropy<T>(const T*, int64_t, int64_t, int64_t);                                     \
  template void attention_backward<T>(ConstMatrix<T>, ConstMatrix<T>, ConstMatrix<T>, T, const T*,          \
                                      ConstMatrix<T>, Matrix<T>, Matrix<T>, Matrix<T>, Arena&);
QTF_INSTANTIATE_ATTENTION(float)
QTF_INSTANTIATE_ATTENTION(double)
#undef QTF_INSTANTIATE_ATTENTION

}  // namespace qtf::nn
