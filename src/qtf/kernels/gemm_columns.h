// The packed product for few rows, some columns of it: what one of several threads does when they share the
// products of a decoded token. Same order of sums as kernels/gemm.h, so the same bits.
#pragma once

#include <cstdint>

#include "qtf/kernels/gemm.h"

namespace qtf::kernels {

/// Columns are dealt out in multiples of this: a cache line of float, and whole vectors on every processor.
inline constexpr int64_t kColumnGrain = 16;

/// C[m, begin:end) = A[m, k]·B[:k, begin:end) (accumulate: +=) for B as gemm_pack() laid it out with packed_k
/// >= k rows. `c` is column 0 of C; `begin` is a multiple of kColumnGrain unless begin = end. Any m; made for
/// m <= 16, where reading B bounds the time, so B is read once. width: of B's panels, a multiple of
/// kColumnGrain in files that lie packed for any processor (edge/).
template <class T>
void gemm_columns(int64_t m, int64_t begin, int64_t end, int64_t k, const T* a, int64_t lda, const T* panels,
                  int64_t packed_k, T* c, int64_t ldc, bool accumulate,
                  int64_t width = gemm_panel_width<T>());

}  // namespace qtf::kernels
