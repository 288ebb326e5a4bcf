#include "qtf/kernels/rope.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/rope.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
#include "qtf/kernels/loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_ATTR void rope_impl(int64_t heads, int64_t head_dim, const T* cosines, const T* sines, T direction,
                        T* x) {
  const hn::ScalableTag<T> d;
  const auto sign = hn::Set(d, direction);
  const int64_t half = head_dim / 2;
  for (int64_t h = 0; h < heads; ++h, x += head_dim) {
    T* y = x + half;
    for_each_vector(d, half, [&](auto at) HWY_ATTR {
      const auto a = at.load(x), b = at.load(y), c = at.load(cosines), s = hn::Mul(sign, at.load(sines));
      at.store(hn::NegMulAdd(b, s, hn::Mul(a, c)), x);
      at.store(hn::MulAdd(a, s, hn::Mul(b, c)), y);
    });
  }
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(rope_impl)

template <class T>
void rope(int64_t heads, int64_t head_dim, const T* cosines, const T* sines, T direction, T* x) {
  rope_impl_chosen<T>()(heads, head_dim, cosines, sines, direction, x);
}

QTF_INSTANTIATE(rope)

}  // namespace qtf::kernels
#endif
