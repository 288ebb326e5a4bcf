#include "qtf/nn/attention.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "qtf/kernels/softmax.h"
#include "qtf/nn/attention_entropy.h"
#include "qtf/tensor/gemm.h"

namespace qtf::nn {

namespace {

constexpr int64_t kQueryBlock = 32;  // rows of scores that stay in L1, and little of the triangle wasted
constexpr int64_t kPackedFrom = 8;   // fewer queries (decoding) read keys and values where they lie

/// Keys and values as matrices, Operand = ConstMatrix<T>, or packed, PackedView<T>.
template <class T, class Operand>
struct Numbers {
  Operand keys_t, values;
  void scores(ConstMatrix<T> q, Matrix<T> p) const { gemm<T>(q, keys_t, p); }
  void weigh(Matrix<T> p, Matrix<T> out) const { gemm<T>(p, values, out); }
};

/// What a call of attention_forward() leaves, a row a query.
template <class T>
struct Attended {
  Matrix<T> out;
  T* log_sum_exp;
  T* entropy;  ///< null: not computed

  Attended rows(int64_t first, int64_t count) const {
    return {out.row_block(first, count), log_sum_exp + first, entropy ? entropy + first : nullptr};
  }
};

/// A block of queries at positions first …; tokens: what has scores() of queries and weigh() by
/// probabilities.
template <class T, class Tokens>
void attend_block(ConstMatrix<T> q, const Tokens& tokens, int64_t first, T scale, const Attended<T>& to,
                  Arena& scratch) {
  const ArenaScope scope(scratch);
  const int64_t seen = first + q.rows;
  const Matrix<T> p(scratch.allocate<T>(q.rows * seen), q.rows, seen);
  tokens.scores(q, p);
  kernels::softmax_causal<T>(q.rows, seen, first, scale, p.data, seen, to.log_sum_exp, to.entropy);
  tokens.weigh(p, to.out);
}

/// Queries in blocks.
template <class T, class Tokens>
void attend_blocks(ConstMatrix<T> q, const Tokens& tokens, int64_t first, T scale, const Attended<T>& to,
                   Arena& scratch) {
  for (int64_t i = 0; i < q.rows; i += kQueryBlock) {
    const int64_t rows = std::min(kQueryBlock, q.rows - i);
    attend_block<T>(q.row_block(i, rows), tokens, first + i, scale, to.rows(i, rows), scratch);
  }
}

}  // namespace

template <class T>
void attention_forward(ConstMatrix<T> q, ConstMatrix<T> keys_t, ConstMatrix<T> values, int64_t first, T scale,
                       Matrix<T> out, T* log_sum_exp, T* entropy, Arena& scratch) {
  const Attended<T> to{out, log_sum_exp, entropy};
  if (q.rows < kPackedFrom)
    return attend_block<T>(q, Numbers<T, ConstMatrix<T>>{keys_t, values}, first, scale, to, scratch);
  const ArenaScope scope(scratch);
  const Numbers<T, PackedView<T>> packed{pack(keys_t, scratch), pack(values, scratch)};
  attend_blocks<T>(q, packed, first, scale, to, scratch);
}

template <class T>
void cached_attention_forward(ConstMatrix<T> q, const KvCache<T>& cache, int64_t layer, int64_t kv_head,
                              int64_t first, T scale, Matrix<T> out, T* log_sum_exp, T* entropy,
                              Arena& scratch) {
  const int64_t seen = first + q.rows;
  if constexpr (std::is_same_v<T, float>) {
    if (cache.codes()) {
      const CodedHead head = cache.coded(layer, kv_head);
      const Attended<T> to{out, log_sum_exp, entropy};
      if (q.rows < kPackedFrom) return attend_block<T>(q, head, first, scale, to, scratch);
      const ArenaScope scope(scratch);
      return attend_blocks<T>(q, UnpackedHead(head, q.cols, seen, scratch), first, scale, to, scratch);
    }
  }
  attention_forward<T>(q, cache.keys_t(layer, kv_head, seen), cache.values(layer, kv_head, seen), first,
                       scale, out, log_sum_exp, entropy, scratch);
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

#define QTF_INSTANTIATE_ATTENTION(T)                                                                         \
  template void attention_forward<T>(ConstMatrix<T>, ConstMatrix<T>, ConstMatrix<T>, int64_t, T, Matrix<T>,  \
                                     T*, T*, Arena&);                                                        \
  template void cached_attention_forward<T>(ConstMatrix<T>, const KvCache<T>&, int64_t, int64_t, int64_t, T, \
                                            Matrix<T>, T*, T*, Arena&);                                      \
  template T attention_entropy<T>(const T*, int64_t, int64_t, int64_t);                                      \
  template void attention_backward<T>(ConstMatrix<T>, ConstMatrix<T>, ConstMatrix<T>, T, const T*,           \
                                      ConstMatrix<T>, Matrix<T>, Matrix<T>, Matrix<T>, Arena&);
QTF_INSTANTIATE_ATTENTION(float)
QTF_INSTANTIATE_ATTENTION(double)
#undef QTF_INSTANTIATE_ATTENTION

}  // namespace qtf::nn
