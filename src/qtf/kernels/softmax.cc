#include "qtf/kernels/softmax.h"

#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/softmax.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
#include <hwy/contrib/math/math-inl.h>

#include "qtf/kernels/loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_ATTR HWY_INLINE T max_of(int64_t n, const T* x) {
  const hn::ScalableTag<T> d;
  const auto lowest = hn::Set(d, -std::numeric_limits<T>::infinity());
  auto top = lowest;
  for_each_vector(d, n, [&](auto at) HWY_ATTR { top = hn::Max(top, at.valid(at.load(x), lowest)); });
  return hn::GetLane(hn::MaxOfLanes(d, top));
}

/// y = exp(scale·x - shift); returns the sum.
template <class T>
HWY_ATTR HWY_INLINE T exp_sum(int64_t n, const T* x, T scale, T shift, T* y) {
  const hn::ScalableTag<T> d;
  const auto s = hn::Set(d, scale), m = hn::Set(d, shift), zero = hn::Zero(d);
  auto sum = zero;
  for_each_vector(d, n, [&](auto at) HWY_ATTR {
    const auto e = at.valid(hn::Exp(d, hn::MulSub(at.load(x), s, m)), zero);
    if (y) at.store(e, y);
    sum = hn::Add(sum, e);
  });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

template <class T>
struct WeightedSums {
  T sum, weighted;
};

/// As exp_sum, and the sum of e·ln e, e = exp(scale·x - shift), which an entropy is made of.
template <class T>
HWY_ATTR HWY_INLINE WeightedSums<T> exp_sums(int64_t n, const T* x, T scale, T shift, T* y) {
  const hn::ScalableTag<T> d;
  const auto s = hn::Set(d, scale), m = hn::Set(d, shift), zero = hn::Zero(d);
  auto sum = zero, weighted = zero;
  for_each_vector(d, n, [&](auto at) HWY_ATTR {
    const auto log_e = hn::MulSub(at.load(x), s, m);
    const auto e = at.valid(hn::Exp(d, log_e), zero);
    at.store(e, y);
    sum = hn::Add(sum, e);
    weighted = hn::MulAdd(e, log_e, weighted);
  });
  return {hn::GetLane(hn::SumOfLanes(d, sum)), hn::GetLane(hn::SumOfLanes(d, weighted))};
}

template <class T>
HWY_ATTR void softmax_causal_impl(int64_t rows, int64_t width, int64_t first, T scale, T* scores, int64_t ld,
                                  T* lse, T* entropy) {
  const hn::ScalableTag<T> d;
  for (int64_t i = 0; i < rows; ++i, scores += ld) {
    const int64_t length = std::min(width, first + i + 1);
    const T top = scale * max_of(length, scores);
    const auto [sum, weighted] = entropy ? exp_sums(length, scores, scale, top, scores)
                                         : WeightedSums<T>{exp_sum(length, scores, scale, top, scores), 0};
    const auto inverse = hn::Set(d, T{1} / sum);
    for_each_vector(d, length,
                    [&](auto at) HWY_ATTR { at.store(hn::Mul(at.load(scores), inverse), scores); });
    std::fill(scores + length, scores + width, T{0});
    const T log_sum = std::log(sum);
    lse[i] = top + log_sum;
    if (entropy) entropy[i] = log_sum - weighted / sum;
  }
}

template <class T>
HWY_ATTR void softmax_causal_again_impl(int64_t rows, int64_t width, int64_t first, T scale, T* scores,
                                        int64_t ld, const T* lse) {
  for (int64_t i = 0; i < rows; ++i, scores += ld) {
    const int64_t length = std::min(width, first + i + 1);
    exp_sum(length, scores, scale, lse[i], scores);
    std::fill(scores + length, scores + width, T{0});
  }
}

template <class T>
HWY_ATTR void softmax_backward_impl(int64_t rows, int64_t width, T scale, const T* p, T* dp, int64_t ld) {
  const hn::ScalableTag<T> d;
  const auto s = hn::Set(d, scale);
  for (int64_t i = 0; i < rows; ++i, p += ld, dp += ld) {
    auto sum = hn::Zero(d);
    for_each_vector(d, width, [&](auto at) HWY_ATTR { sum = hn::MulAdd(at.load(p), at.load(dp), sum); });
    const auto mean = hn::Set(d, hn::GetLane(hn::SumOfLanes(d, sum)));
    for_each_vector(d, width, [&](auto at) HWY_ATTR {
      at.store(hn::Mul(hn::Mul(s, at.load(p)), hn::Sub(at.load(dp), mean)), dp);
    });
  }
}

template <class T>
HWY_ATTR T log_sum_exp_impl(int64_t n, const T* x) {
  const T top = max_of(n, x);
  return top + std::log(exp_sum<T>(n, x, T{1}, top, nullptr));
}

template <class T>
HWY_ATTR T softmax_scaled_impl(int64_t n, T factor, T* x) {
  const hn::ScalableTag<T> d;
  const T top = max_of(n, x);
  const T sum = exp_sum(n, x, T{1}, top, x);
  const auto f = hn::Set(d, factor / sum);
  for_each_vector(d, n, [&](auto at) HWY_ATTR { at.store(hn::Mul(at.load(x), f), x); });
  return top + std::log(sum);
}

template <class T>
HWY_ATTR void exp_shifted_impl(int64_t n, const T* x, T shift, T factor, T* y) {
  const hn::ScalableTag<T> d;
  const auto m = hn::Set(d, shift), f = hn::Set(d, factor);
  for_each_vector(d, n,
                  [&](auto at) HWY_ATTR { at.store(hn::Mul(f, hn::Exp(d, hn::Sub(at.load(x), m))), y); });
}

template <class T>
HWY_ATTR void exp_difference_impl(int64_t n, const T* x, T x_shift, const T* t, T t_shift, T factor, T* y) {
  const hn::ScalableTag<T> d;
  const auto mx = hn::Set(d, x_shift), mt = hn::Set(d, t_shift), f = hn::Set(d, factor);
  for_each_vector(d, n, [&](auto at) HWY_ATTR {
    const auto px = hn::Exp(d, hn::Sub(at.load(x), mx)), pt = hn::Exp(d, hn::Sub(at.load(t), mt));
    at.store(hn::Mul(f, hn::Sub(px, pt)), y);
  });
}

template <class T>
HWY_ATTR T kl_divergence_impl(int64_t n, const T* t, T t_shift, const T* x, T x_shift) {
  const hn::ScalableTag<T> d;
  const auto mx = hn::Set(d, x_shift), mt = hn::Set(d, t_shift), zero = hn::Zero(d);
  auto sum = zero;
  for_each_vector(d, n, [&](auto at) HWY_ATTR {
    const auto log_t = hn::Sub(at.load(t), mt), log_x = hn::Sub(at.load(x), mx);
    sum = hn::Add(sum, at.valid(hn::Mul(hn::Exp(d, log_t), hn::Sub(log_t, log_x)), zero));
  });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

template <class T>
HWY_ATTR int64_t argmax_impl(int64_t n, const T* x) {
  return std::find(x, x + n, max_of(n, x)) - x;
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(softmax_causal_impl)
QTF_EXPORT(softmax_causal_again_impl)
QTF_EXPORT(softmax_backward_impl)
QTF_EXPORT(log_sum_exp_impl)
QTF_EXPORT(softmax_scaled_impl)
QTF_EXPORT(exp_shifted_impl)
QTF_EXPORT(exp_difference_impl)
QTF_EXPORT(kl_divergence_impl)
QTF_EXPORT(argmax_impl)

template <class T>
void softmax_causal(int64_t rows, int64_t width, int64_t first, T scale, T* scores, int64_t ld,
                    T* log_sum_exp, T* entropy) {
  softmax_causal_impl_chosen<T>()(rows, width, first, scale, scores, ld, log_sum_exp, entropy);
}

template <class T>
void softmax_causal_again(int64_t rows, int64_t width, int64_t first, T scale, T* scores, int64_t ld,
                          const T* log_sum_exp) {
  softmax_causal_again_impl_chosen<T>()(rows, width, first, scale, scores, ld, log_sum_exp);
}

template <class T>
void softmax_backward(int64_t rows, int64_t width, T scale, const T* p, T* dp, int64_t ld) {
  softmax_backward_impl_chosen<T>()(rows, width, scale, p, dp, ld);
}

template <class T>
T log_sum_exp(int64_t n, const T* x) {
  return log_sum_exp_impl_chosen<T>()(n, x);
}

template <class T>
T softmax_scaled(int64_t n, T factor, T* x) {
  return softmax_scaled_impl_chosen<T>()(n, factor, x);
}

template <class T>
void exp_shifted(int64_t n, const T* x, T shift, T factor, T* y) {
  exp_shifted_impl_chosen<T>()(n, x, shift, factor, y);
}

template <class T>
void exp_difference(int64_t n, const T* x, T x_shift, const T* t, T t_shift, T factor, T* y) {
  exp_difference_impl_chosen<T>()(n, x, x_shift, t, t_shift, factor, y);
}

template <class T>
T kl_divergence(int64_t n, const T* t, T t_shift, const T* x, T x_shift) {
  return kl_divergence_impl_chosen<T>()(n, t, t_shift, x, x_shift);
}

template <class T>
int64_t argmax(int64_t n, const T* x) {
  return argmax_impl_chosen<T>()(n, x);
}

QTF_INSTANTIATE(softmax_causal)
QTF_INSTANTIATE(softmax_causal_again)
QTF_INSTANTIATE(softmax_backward)
QTF_INSTANTIATE(log_sum_exp)
QTF_INSTANTIATE(softmax_scaled)
QTF_INSTANTIATE(exp_shifted)
QTF_INSTANTIATE(exp_difference)
QTF_INSTANTIATE(kl_divergence)
QTF_INSTANTIATE(argmax)

}  // namespace qtf::kernels
#endif
