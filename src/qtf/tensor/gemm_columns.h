// Products of few rows that several threads share by columns.
#pragma once

#include "qtf/base/thread_pool.h"
#include "qtf/kernels/gemm_columns.h"
#include "qtf/tensor/gemm.h"

namespace qtf {

using kernels::kColumnGrain;

/// The columns [columns.begin, columns.end) of C[m, n] = or += A[m, k]·B[first:first + k, :n], with the bits
/// of gemm(). The other columns stay as they are. columns.begin: a multiple of kColumnGrain.
template <class T>
void gemm_columns(ConstMatrix<T> a, const PackedMatrix<T>& b, Matrix<T> c, Range columns,
                  Into into = Into::overwrite, int64_t first = 0);

}  // namespace qtf
