// The AdamW update (Loshchilov and Hutter 2019) of a contiguous run of parameters.
#pragma once

#include <cstdint>

namespace qtf::kernels {

/// Numbers of one update, the same for a whole run of parameters.
template <class T>
struct AdamWStep {
  T learning_rate;
  T beta1;
  T beta2;
  T epsilon;
  T weight_decay;    ///< decoupled: parameters shrink by learning_rate · weight_decay
  T correction1;     ///< 1 / (1 - beta1^step)
  T correction2;     ///< 1 / (1 - beta2^step)
  T gradient_scale;  ///< multiplies the gradient first (clipping)
};

/// Updates parameters and both moments in place. float and double.
template <class T>
void adamw(int64_t n, const AdamWStep<T>& step, const T* gradient, T* parameters, T* first_moment,
           T* second_moment);

}  // namespace qtf::kernels
