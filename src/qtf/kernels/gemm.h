// Packed matrix product: C[m, n] = or += A[m, k] · B[k, n]. tensor/gemm.h is the interface for the rest of
// qtf.
//
// B is laid out in column panels of gemm_panel_width() columns, k rows each, zero-padded; a register tile of
// rows of A times one panel is accumulated over k in order. Every element of C is thus the same chain of
// multiply-adds whatever m, n and the tiling. After Goto and van de Geijn, "Anatomy of high-performance
// matrix multiplication", 2008.
#pragma once

#include <cstdint>

namespace qtf::kernels {

/// Columns of a panel on this processor.
template <class T>
int64_t gemm_panel_width();

/// Rows of B in a panel that the caller may hand to gemm_strided as scratch: see gemm_scratch_size().
template <class T>
int64_t gemm_scratch_size();

/// Numbers that a packed B[k, n] takes.
template <class T>
int64_t gemm_packed_size(int64_t k, int64_t n);

/// Packs B[k, n], element (p, j) at b[p * row_stride + j * col_stride], into `panels`.
template <class T>
void gemm_pack(int64_t k, int64_t n, const T* b, int64_t row_stride, int64_t col_stride, T* panels);

/// C = A·B (accumulate: C += A·B) for a packed B of `packed_k` >= k rows. A has row stride `lda`, column
/// stride 1.
template <class T>
void gemm_packed(int64_t m, int64_t n, int64_t k, const T* a, int64_t lda, const T* panels, int64_t packed_k,
                 T* c, int64_t ldc, bool accumulate);

/// The same for A and B with any strides. scratch: gemm_scratch_size() numbers.
template <class T>
void gemm_strided(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_col, const T* b,
                  int64_t b_row, int64_t b_col, T* c, int64_t ldc, bool accumulate, T* scratch);

}  // namespace qtf::kernels
