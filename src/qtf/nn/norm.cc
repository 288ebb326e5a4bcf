#include "qtf/nn/norm.h"

#include "qtf/base/profile.h"
#include "qtf/kernels/norm.h"

namespace qtf::nn {

namespace {
constexpr const char* kName = "norms";
}

template <class T>
void norm_forward(const Norm<T>& norm, ConstMatrix<T> x, Matrix<T> y, T* stats) {
  const ProfileScope profile(kName);
  if (norm.kind == NormKind::rms) {
    kernels::rms_norm<T>(x.rows, x.cols, x.data, norm.weight, norm.epsilon, y.data, stats);
  } else {
    kernels::layer_norm<T>(x.rows, x.cols, x.data, norm.weight, norm.bias, norm.epsilon, y.data, stats);
  }
}

template <class T>
void norm_backward(const Norm<T>& norm, ConstMatrix<T> dy, ConstMatrix<T> x, const T* stats, Matrix<T> dx,
                   T* gradients) {
  const ProfileScope profile(kName);
  T* dweight = gradients + norm.weight_gradient;
  if (norm.kind == NormKind::rms) {
    kernels::rms_norm_backward<T>(x.rows, x.cols, x.data, norm.weight, stats, dy.data, dx.data, dweight);
  } else {
    kernels::layer_norm_backward<T>(x.rows, x.cols, x.data, norm.weight, stats, dy.data, dx.data, dweight,
                                    gradients + norm.bias_gradient);
  }
}

#define QTF_INSTANTIATE_NORM(T)                                                 \
  template void norm_forward<T>(const Norm<T>&, ConstMatrix<T>, Matrix<T>, T*); \
  template void norm_backward<T>(const Norm<T>&, ConstMatrix<T>, ConstMatrix<T>, const T*, Matrix<T>, T*);
QTF_INSTANTIATE_NORM(float)
QTF_INSTANTIATE_NORM(double)
#undef QTF_INSTANTIATE_NORM

}  // namespace qtf::nn
