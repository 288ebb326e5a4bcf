// Normalisation of each token's vector: RMSNorm (Llama family) or LayerNorm (GPT-2 family).
#pragma once

#include <cstdint>

#include "qtf/tensor/matrix.h"

namespace qtf::nn {

enum class NormKind { rms, layer };

template <class T>
struct Norm {
  NormKind kind = NormKind::rms;
  const T* weight = nullptr;  ///< [D]
  const T* bias = nullptr;    ///< [D], LayerNorm only
  int64_t weight_gradient = -1;
  int64_t bias_gradient = -1;
  T epsilon = T{1e-5};

  /// Numbers that forward keeps for backward.
  int64_t stats_size(int64_t rows) const { return kind == NormKind::rms ? rows : 2 * rows; }
};

/// y = norm(x); x and y are contiguous [M, D].
template <class T>
void norm_forward(const Norm<T>& norm, ConstMatrix<T> x, Matrix<T> y, T* stats);

/// dx += the gradient (the residual stream's gradient is already there); weights' gradients are added too.
template <class T>
void norm_backward(const Norm<T>& norm, ConstMatrix<T> dy, ConstMatrix<T> x, const T* stats, Matrix<T> dx,
                   T* gradients);

}  // namespace qtf::nn
