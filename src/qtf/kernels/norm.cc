#include "qtf/kernels/norm.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/norm.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
#include "qtf/kernels/loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_ATTR void rms_norm_impl(int64_t rows, int64_t n, const T* x, const T* weight, T epsilon, T* y,
                            T* inverse_rms) {
  const hn::ScalableTag<T> d;
  for (int64_t i = 0; i < rows; ++i, x += n, y += n) {
    auto sum = hn::Zero(d);
    for_each_vector(d, n, [&](auto at) HWY_ATTR { sum = hn::MulAdd(at.load(x), at.load(x), sum); });
    const T inverse = T{1} / std::sqrt(hn::GetLane(hn::SumOfLanes(d, sum)) / static_cast<T>(n) + epsilon);
    const auto r = hn::Set(d, inverse);
    for_each_vector(d, n,
                    [&](auto at) HWY_ATTR { at.store(hn::Mul(hn::Mul(at.load(x), r), at.load(weight)), y); });
    inverse_rms[i] = inverse;
  }
}

template <class T>
HWY_ATTR void rms_norm_backward_impl(int64_t rows, int64_t n, const T* x, const T* weight,
                                     const T* inverse_rms, const T* dy, T* dx, T* dweight) {
  const hn::ScalableTag<T> d;
  for (int64_t i = 0; i < rows; ++i, x += n, dy += n, dx += n) {
    const T inverse = inverse_rms[i];
    const auto r = hn::Set(d, inverse);
    auto sum = hn::Zero(d);
    for_each_vector(d, n, [&](auto at) HWY_ATTR {
      const auto product = hn::Mul(at.load(dy), at.load(x));
      sum = hn::MulAdd(product, at.load(weight), sum);
      at.store(hn::MulAdd(product, r, at.load(dweight)), dweight);
    });
    const T mean = hn::GetLane(hn::SumOfLanes(d, sum)) / static_cast<T>(n);
    const auto pull = hn::Set(d, -mean * inverse * inverse);
    for_each_vector(d, n, [&](auto at) HWY_ATTR {
      const auto g = hn::MulAdd(at.load(x), pull, hn::Mul(at.load(dy), at.load(weight)));
      at.store(hn::MulAdd(g, r, at.load(dx)), dx);
    });
  }
}

template <class T>
HWY_ATTR void layer_norm_impl(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, T epsilon,
                              T* y, T* stats) {
  const hn::ScalableTag<T> d;
  for (int64_t i = 0; i < rows; ++i, x += n, y += n) {
    auto sum = hn::Zero(d);
    for_each_vector(d, n, [&](auto at) HWY_ATTR { sum = hn::Add(at.load(x), sum); });
    const T mean = hn::GetLane(hn::SumOfLanes(d, sum)) / static_cast<T>(n);
    const auto m = hn::Set(d, mean);
    auto squares = hn::Zero(d);
    for_each_vector(d, n, [&](auto at) HWY_ATTR {
      const auto centred = at.valid(hn::Sub(at.load(x), m), hn::Zero(d));
      squares = hn::MulAdd(centred, centred, squares);
    });
    const T inverse = T{1} / std::sqrt(hn::GetLane(hn::SumOfLanes(d, squares)) / static_cast<T>(n) + epsilon);
    const auto r = hn::Set(d, inverse);
    for_each_vector(d, n, [&](auto at) HWY_ATTR {
      at.store(hn::MulAdd(hn::Mul(hn::Sub(at.load(x), m), r), at.load(weight), at.load(bias)), y);
    });
    stats[2 * i] = mean;
    stats[2 * i + 1] = inverse;
  }
}

template <class T>
HWY_ATTR void layer_norm_backward_impl(int64_t rows, int64_t n, const T* x, const T* weight, const T* stats,
                                       const T* dy, T* dx, T* dweight, T* dbias) {
  const hn::ScalableTag<T> d;
  for (int64_t i = 0; i < rows; ++i, x += n, dy += n, dx += n) {
    const auto m = hn::Set(d, stats[2 * i]), r = hn::Set(d, stats[2 * i + 1]);
    auto sum = hn::Zero(d), sum_hat = hn::Zero(d);
    for_each_vector(d, n, [&](auto at) HWY_ATTR {
      const auto hat = hn::Mul(hn::Sub(at.load(x), m), r), g = at.load(dy);
      const auto weighted = hn::Mul(g, at.load(weight));
      sum = hn::Add(sum, weighted);
      sum_hat = hn::MulAdd(weighted, hat, sum_hat);
      at.store(hn::MulAdd(g, hat, at.load(dweight)), dweight);
      at.store(hn::Add(g, at.load(dbias)), dbias);
    });
    const auto mean = hn::Set(d, hn::GetLane(hn::SumOfLanes(d, sum)) / static_cast<T>(n));
    const auto mean_hat = hn::Set(d, hn::GetLane(hn::SumOfLanes(d, sum_hat)) / static_cast<T>(n));
    for_each_vector(d, n, [&](auto at) HWY_ATTR {
      const auto hat = hn::Mul(hn::Sub(at.load(x), m), r);
      const auto g = hn::Sub(hn::Mul(at.load(dy), at.load(weight)), hn::MulAdd(hat, mean_hat, mean));
      at.store(hn::MulAdd(g, r, at.load(dx)), dx);
    });
  }
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(rms_norm_impl)
QTF_EXPORT(rms_norm_backward_impl)
QTF_EXPORT(layer_norm_impl)
QTF_EXPORT(layer_norm_backward_impl)

template <class T>
void rms_norm(int64_t rows, int64_t n, const T* x, const T* weight, T epsilon, T* y, T* inverse_rms) {
  rms_norm_impl_chosen<T>()(rows, n, x, weight, epsilon, y, inverse_rms);
}

template <class T>
void rms_norm_backward(int64_t rows, int64_t n, const T* x, const T* weight, const T* inverse_rms,
                       const T* dy, T* dx, T* dweight) {
  rms_norm_backward_impl_chosen<T>()(rows, n, x, weight, inverse_rms, dy, dx, dweight);
}

template <class T>
void layer_norm(int64_t rows, int64_t n, const T* x, const T* weight, const T* bias, T epsilon, T* y,
                T* stats) {
  layer_norm_impl_chosen<T>()(rows, n, x, weight, bias, epsilon, y, stats);
}

template <class T>
void layer_norm_backward(int64_t rows, int64_t n, const T* x, const T* weight, const T* stats, const T* dy,
                         T* dx, T* dweight, T* dbias) {
  layer_norm_backward_impl_chosen<T>()(rows, n, x, weight, stats, dy, dx, dweight, dbias);
}

QTF_INSTANTIATE(rms_norm)
QTF_INSTANTIATE(rms_norm_backward)
QTF_INSTANTIATE(layer_norm)
QTF_INSTANTIATE(layer_norm_backward)

}  // namespace qtf::kernels
#endif
