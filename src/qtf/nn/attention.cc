#include "qtf/nn/attention.h"

#include <algorithm>

#include "qtf/kernels/softmax.h"
#include "qtf/tensor/gemm.h"

namespace qtf::nn {

namespace {
constexpr int64_t kQueryBlock = 64;
}  // namespace

template <class T>
void attention_forward(ConstMatrix<T> q, ConstMatrix<T> keys_t, ConstMatrix<T> values, int64_t first, T scale,
                       Matrix<T> out, T* log_sum_exp, Arena& scratch) {
  for (int64_t i = 0; i < q.rows; i += kQueryBlock) {
    const ArenaScope scope(scratch);
    const int64_t rows = std::min(kQueryBlock, q.rows - i);
    const int64_t seen = first + i + rows;
    const Matrix<T> p(scratch.allocate<T>(rows * seen), rows, seen);
    gemm(q.row_block(i, rows), keys_t.col_block(0, seen), p);
    kernels::softmax_causal<T>(rows, seen, first + i, scale, p.data, seen, log_sum_exp + i);
    gemm<T>(p, values.row_block(0, seen), out.row_block(i, rows));
  }
}

template <class T>
void attention_backward(ConstMatrix<T> q, ConstMatrix<T> keys, ConstMatrix<T> values, T scale,
                        const T* log_sum_exp, ConstMatrix<T> dout, Matrix<T> dq, Matrix<T> dk, Matrix<T> dv,
                        Arena& scratch) {
  for (int64_t i = 0; i < q.rows; i += kQueryBlock) {
    const ArenaScope scope(scratch);
    const int64_t rows = std::min(kQueryBlock, q.rows - i);
    const int64_t seen = i + rows;
    const auto q_block = q.row_block(i, rows), dout_block = dout.row_block(i, rows);
    const auto keys_seen = keys.row_block(0, seen), values_seen = values.row_block(0, seen);
    const Matrix<T> p(scratch.allocate<T>(rows * seen), rows, seen);
    const Matrix<T> dp(scratch.allocate<T>(rows * seen), rows, seen);

    gemm(q_block, keys_seen.transposed(), p);
    kernels::softmax_causal_again<T>(rows, seen, i, scale, p.data, seen, log_sum_exp + i);
    gemm(p.transposed(), dout_block, dv.row_block(0, seen), Into::accumulate);
    gemm(dout_block, values_seen.transposed(), dp);
    kernels::softmax_backward<T>(rows, seen, scale, p.data, dp.data, seen);
    gemm<T>(dp, keys_seen, dq.row_block(i, rows));
    gemm(dp.transposed(), q_block, dk.row_block(0, seen), Into::accumulate);
  }
}

#define QTF_INSTANTIATE_ATTENTION(T)                                                                        \
  template void attention_forward<T>(ConstMatrix<T>, ConstMatrix<T>, ConstMatrix<T>, int64_t, T, Matrix<T>, \
                                     T*, Arena&);                                                           \
  template void attention_backward<T>(ConstMatrix<T>, ConstMatrix<T>, ConstMatrix<T>, T, const T*,          \
                                      ConstMatrix<T>, Matrix<T>, Matrix<T>, Matrix<T>, Arena&);
QTF_INSTANTIATE_ATTENTION(float)
QTF_INSTANTIATE_ATTENTION(double)
#undef QTF_INSTANTIATE_ATTENTION

}  // namespace qtf::nn
