#include "qtf/kernels/adamw.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/adamw.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
#include "qtf/kernels/loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_ATTR void adamw_impl(int64_t n, const AdamWStep<T>& step, const T* gradient, T* parameters,
                         T* first_moment, T* second_moment) {
  const hn::ScalableTag<T> d;
  const auto b1 = hn::Set(d, step.beta1), b2 = hn::Set(d, step.beta2);
  const auto c1 = hn::Set(d, T{1} - step.beta1), c2 = hn::Set(d, T{1} - step.beta2);
  const auto rate = hn::Set(d, step.learning_rate * step.correction1), epsilon = hn::Set(d, step.epsilon);
  const auto correction = hn::Set(d, step.correction2), scale = hn::Set(d, step.gradient_scale);
  const auto keep = hn::Set(d, T{1} - step.learning_rate * step.weight_decay);
  for_each_vector(d, n, [&](auto at) HWY_ATTR {
    const auto g = hn::Mul(at.load(gradient), scale);
    const auto m = hn::MulAdd(b1, at.load(first_moment), hn::Mul(c1, g));
    const auto v = hn::MulAdd(b2, at.load(second_moment), hn::Mul(c2, hn::Mul(g, g)));
    const auto move = hn::Div(hn::Mul(rate, m), hn::Add(hn::Sqrt(hn::Mul(v, correction)), epsilon));
    at.store(m, first_moment);
    at.store(v, second_moment);
    at.store(hn::MulSub(keep, at.load(parameters), move), parameters);
  });
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(adamw_impl)

template <class T>
void adamw(int64_t n, const AdamWStep<T>& step, const T* gradient, T* parameters, T* first_moment,
           T* second_moment) {
  adamw_impl_chosen<T>()(n, step, gradient, parameters, first_moment, second_moment);
}

QTF_INSTANTIATE(adamw)

}  // namespace qtf::kernels
#endif
