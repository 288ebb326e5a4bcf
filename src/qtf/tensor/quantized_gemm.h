// What gemm() and gemm_columns() call for a PackedMatrix of few bits a number, and how other layouts of codes
// reach the kernels.
#pragma once

#include "qtf/base/thread_pool.h"
#include "qtf/kernels/quantized.h"
#include "qtf/tensor/gemm.h"

namespace qtf {

/// call(kernels' code of a type).
template <class Call>
decltype(auto) with_code(CodeType type, Call&& call) {
  switch (type) {
    case CodeType::f16:
      return call(kernels::Float16());
    case CodeType::int8:
      return call(kernels::Int8());
    default:
      return call(kernels::Int4());
  }
}

/// Bytes of B = Wᵀ in panels, and the panels.
int64_t quantized_panels_size(const QuantizedMatrix& w);
void pack_quantized_panels(const QuantizedMatrix& w, uint8_t* panels);

/// gemm() and gemm_columns() of a quantized B.
void quantized_gemm(ConstMatrix<float> a, const PackedMatrix<float>& b, Matrix<float> c, Into into);
void quantized_gemm_columns(ConstMatrix<float> a, const PackedMatrix<float>& b, Matrix<float> c,
                            Range columns, Into into, int64_t first);

}  // namespace qtf
