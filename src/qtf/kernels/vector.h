// Loops over vectors: sums, scaling, activations and their derivatives. float and double.
// Sums run over fixed lanes, so that a result depends on the operands only.
#pragma once

#include <cstdint>

namespace qtf::kernels {

/// y += x.
template <class T>
void add(int64_t n, const T* x, T* y);

/// y += alpha · x.
template <class T>
void axpy(int64_t n, T alpha, const T* x, T* y);

/// y *= x.
template <class T>
void multiply(int64_t n, const T* x, T* y);

/// x *= alpha.
template <class T>
void scale(int64_t n, T alpha, T* x);

/// Σ x·y.
template <class T>
T dot(int64_t n, const T* x, const T* y);

/// Σ x², in double.
template <class T>
double sum_squares(int64_t n, const T* x);

/// columns[j] += Σ_i x[i, j] for a rows × n matrix with row stride ld (a bias' gradient).
template <class T>
void add_column_sums(int64_t rows, int64_t n, const T* x, int64_t ld, T* columns);

/// out = silu(gate) · up, silu(g) = g / (1 + e^-g) (SwiGLU; Shazeer 2020).
template <class T>
void silu_mul(int64_t n, const T* gate, const T* up, T* out);

/// Overwrites dgate and dup with the derivatives of silu_mul times dout.
template <class T>
void silu_mul_backward(int64_t n, const T* gate, const T* up, const T* dout, T* dgate, T* dup);

/// y = gelu(x), the tanh form that GPT-2 uses (Hendrycks and Gimpel 2016).
template <class T>
void gelu(int64_t n, const T* x, T* y);

/// dx = gelu'(x) · dy. dx may be dy.
template <class T>
void gelu_backward(int64_t n, const T* x, const T* dy, T* dx);

/// y = x where a hash of (key, first + i) lets it pass, scaled by 1 / (1 - drop), else 0. x may be y. The
/// same arguments drop the same places, so that backward is this function on the gradient.
template <class T>
void dropout(int64_t n, uint64_t key, uint64_t first, T drop, const T* x, T* y);

}  // namespace qtf::kernels
