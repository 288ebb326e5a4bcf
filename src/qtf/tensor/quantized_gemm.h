// What gemm() and gemm_columns() call for a PackedMatrix of few bits a number.
#pragma once

#include "qtf/base/thread_pool.h"
#include "qtf/tensor/gemm.h"

namespace qtf {

/// Bytes of B = Wᵀ in panels, and the panels.
int64_t quantized_panels_size(const QuantizedMatrix& w);
void pack_quantized_panels(const QuantizedMatrix& w, uint8_t* panels);

/// gemm() and gemm_columns() of a quantized B.
void quantized_gemm(ConstMatrix<float> a, const PackedMatrix<float>& b, Matrix<float> c, Into into);
void quantized_gemm_columns(ConstMatrix<float> a, const PackedMatrix<float>& b, Matrix<float> c,
                            Range columns, Into into, int64_t first);

}  // namespace qtf
