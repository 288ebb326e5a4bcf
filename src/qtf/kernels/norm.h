// Row normalisation, forward and backward. Rows are contiguous, `n` long. float and double.
#pragma once

#include <cstdint>

namespace qtf::kernels {

/// y = x / rms(x) · weight, rms(x) = sqrt(mean(x²) + epsilon); inverse_rms[rows] is kept for backward
/// (Zhang and Sennrich 2019).
template <class T>
void rms_norm(int64_t rows, int64_t n, const T* x, const T* weight, T epsilon, T* y, T* inverse_rms);

/// dx and dweight are accumulated into.
template <class T>
void rms_norm_backward(int64_t rows, int64_t n, const T* x, const T* weight, const T* inverse_rms,
                       const T* dy, T* dx, T* dweight);

/// y = (x - mean) / sqrt(variance + epsilon) · weight + bias; stats[rows, 2] keeps mean and inverse deviation
/// (Ba, Kiros and Hinton 2016).
template <class T>
void layer_norm(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, T epsilon, T* y,
                T* stats);

/// dx, dweight and dbias are accumulated into.
template <class T>
void layer_norm_backward(int64_t rows, int64_t n, const T* x, const T* weight, const T* stats, const T* dy,
                         T* dx, T* dweight, T* dbias);

}  // namespace qtf::kernels
