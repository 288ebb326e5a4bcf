#include "qtf/kernels/vector.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/vector.cc"
#include "qtf/kernels/dispatch.h"
// math-inl.h needs the target to be set
#include <hwy/contrib/math/math-inl.h>

#include "qtf/kernels/loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_ATTR void add_impl(int64_t n, const T* x, T* y) {
  const hn::ScalableTag<T> d;
  for_each_vector(d, n, [&](auto at) HWY_ATTR { at.store(hn::Add(at.load(x), at.load(y)), y); });
}

template <class T>
HWY_ATTR void axpy_impl(int64_t n, T alpha, const T* x, T* y) {
  const hn::ScalableTag<T> d;
  const auto a = hn::Set(d, alpha);
  for_each_vector(d, n, [&](auto at) HWY_ATTR { at.store(hn::MulAdd(a, at.load(x), at.load(y)), y); });
}

template <class T>
HWY_ATTR void multiply_impl(int64_t n, const T* x, T* y) {
  const hn::ScalableTag<T> d;
  for_each_vector(d, n, [&](auto at) HWY_ATTR { at.store(hn::Mul(at.load(x), at.load(y)), y); });
}

template <class T>
HWY_ATTR void scale_impl(int64_t n, T alpha, T* x) {
  const hn::ScalableTag<T> d;
  const auto a = hn::Set(d, alpha);
  for_each_vector(d, n, [&](auto at) HWY_ATTR { at.store(hn::Mul(a, at.load(x)), x); });
}

template <class T>
HWY_ATTR T dot_impl(int64_t n, const T* x, const T* y) {
  const hn::ScalableTag<T> d;
  auto sum = hn::Zero(d);
  for_each_vector(d, n, [&](auto at) HWY_ATTR { sum = hn::MulAdd(at.load(x), at.load(y), sum); });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

template <class T>
HWY_ATTR double sum_squares_impl(int64_t n, const T* x) {
  constexpr int64_t kBlock = 4096;  // short enough for float to lose nothing that matters
  double total = 0;
  for (int64_t i = 0; i < n; i += kBlock) {
    total += static_cast<double>(dot_impl(std::min(kBlock, n - i), x + i, x + i));
  }
  return total;
}

template <class T>
HWY_ATTR void add_column_sums_impl(int64_t rows, int64_t n, const T* x, int64_t ld, T* columns) {
  for (int64_t i = 0; i < rows; ++i) add_impl(n, x + i * ld, columns);
}

/// 1 / (1 + e^-x). Beyond the clamp e^-x is infinite, or as good as, and hn::Exp is undefined.
template <class D, class V>
HWY_ATTR HWY_INLINE V sigmoid(D d, V x) {
  using T = hn::TFromD<D>;
  const auto one = hn::Set(d, T{1}), limit = hn::Set(d, static_cast<T>(sizeof(T) == 4 ? 104 : 706));
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(x), limit))));
}

template <class T>
HWY_ATTR void silu_mul_impl(int64_t n, const T* gate, const T* up, T* out) {
  const hn::ScalableTag<T> d;
  for_each_vector(d, n, [&](auto at) HWY_ATTR {
    const auto g = at.load(gate);
    at.store(hn::Mul(hn::Mul(g, sigmoid(d, g)), at.load(up)), out);
  });
}

template <class T>
HWY_ATTR void silu_mul_backward_impl(int64_t n, const T* gate, const T* up, const T* dout, T* dgate, T* dup) {
  const hn::ScalableTag<T> d;
  const auto one = hn::Set(d, T{1});
  for_each_vector(d, n, [&](auto at) HWY_ATTR {
    const auto g = at.load(gate), u = at.load(up), dy = at.load(dout);
    const auto s = sigmoid(d, g);
    const auto slope = hn::Mul(s, hn::MulAdd(g, hn::Sub(one, s), one));
    at.store(hn::Mul(dy, hn::Mul(u, slope)), dgate);
    at.store(hn::Mul(dy, hn::Mul(g, s)), dup);
  });
}

// gelu(x) = x·σ(2u), u = sqrt(2/π)·(x + 0.044715·x³), since (1 + tanh u)/2 = σ(2u).
constexpr double kGeluScale = 2 * 0.7978845608028654;
constexpr double kGeluCubic = 0.044715;

template <class T>
HWY_ATTR void gelu_impl(int64_t n, const T* x, T* y) {
  const hn::ScalableTag<T> d;
  const auto c1 = hn::Set(d, static_cast<T>(kGeluScale)),
             c3 = hn::Set(d, static_cast<T>(kGeluScale * kGeluCubic));
  for_each_vector(d, n, [&](auto at) HWY_ATTR {
    const auto v = at.load(x);
    at.store(hn::Mul(v, sigmoid(d, hn::Mul(v, hn::MulAdd(c3, hn::Mul(v, v), c1)))), y);
  });
}

template <class T>
HWY_ATTR void gelu_backward_impl(int64_t n, const T* x, const T* dy, T* dx) {
  const hn::ScalableTag<T> d;
  const auto c1 = hn::Set(d, static_cast<T>(kGeluScale)),
             c3 = hn::Set(d, static_cast<T>(kGeluScale * kGeluCubic));
  const auto c3x3 = hn::Set(d, static_cast<T>(3 * kGeluScale * kGeluCubic)), one = hn::Set(d, T{1});
  for_each_vector(d, n, [&](auto at) HWY_ATTR {
    const auto v = at.load(x);
    const auto v2 = hn::Mul(v, v);
    const auto s = sigmoid(d, hn::Mul(v, hn::MulAdd(c3, v2, c1)));
    const auto inner = hn::Mul(v, hn::MulAdd(c3x3, v2, c1));
    const auto slope = hn::Mul(s, hn::MulAdd(hn::Sub(one, s), inner, one));
    at.store(hn::Mul(at.load(dy), slope), dx);
  });
}

/// 32 well-mixed bits of a counter (the finaliser of MurmurHash3, Appleby).
HWY_INLINE uint32_t mix(uint32_t h) {
  h ^= h >> 16;
  h *= 0x85EBCA6BU;
  h ^= h >> 13;
  h *= 0xC2B2AE35U;
  return h ^ (h >> 16);
}

/// All of first … first + n - 1 have the same upper 32 bits.
template <class T>
HWY_ATTR void dropout_run(int64_t n, uint64_t key, uint64_t first, T drop, const T* x, T* y) {
  const auto limit = static_cast<uint32_t>(static_cast<double>(drop) * 4294967296.0);
  const T keep_scale = T{1} / (T{1} - drop);
  const auto key_low = static_cast<uint32_t>(key), key_high = static_cast<uint32_t>(key >> 32);
  const auto start = static_cast<uint32_t>(first);
  const uint32_t salt = mix(static_cast<uint32_t>(first >> 32) ^ key_high);
  // A plain loop: the compiler vectorises it for each instruction set.
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t h = mix(mix((start + static_cast<uint32_t>(i)) ^ key_low) + salt);
    y[i] = h < limit ? T{0} : x[i] * keep_scale;
  }
}

template <class T>
HWY_ATTR void dropout_impl(int64_t n, uint64_t key, uint64_t first, T drop, const T* x, T* y) {
  constexpr uint64_t kSpan = uint64_t{1} << 32;
  while (n > 0) {
    const int64_t run = std::min(n, static_cast<int64_t>(kSpan - first % kSpan));
    dropout_run(run, key, first, drop, x, y);
    n -= run, first += static_cast<uint64_t>(run), x += run, y += run;
  }
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(add_impl)
QTF_EXPORT(axpy_impl)
QTF_EXPORT(multiply_impl)
QTF_EXPORT(scale_impl)
QTF_EXPORT(dot_impl)
QTF_EXPORT(sum_squares_impl)
QTF_EXPORT(add_column_sums_impl)
QTF_EXPORT(silu_mul_impl)
QTF_EXPORT(silu_mul_backward_impl)
QTF_EXPORT(gelu_impl)
QTF_EXPORT(gelu_backward_impl)
QTF_EXPORT(dropout_impl)

template <class T>
void add(int64_t n, const T* x, T* y) {
  add_impl_chosen<T>()(n, x, y);
}

template <class T>
void axpy(int64_t n, T alpha, const T* x, T* y) {
  axpy_impl_chosen<T>()(n, alpha, x, y);
}

template <class T>
void multiply(int64_t n, const T* x, T* y) {
  multiply_impl_chosen<T>()(n, x, y);
}

template <class T>
void scale(int64_t n, T alpha, T* x) {
  scale_impl_chosen<T>()(n, alpha, x);
}

template <class T>
T dot(int64_t n, const T* x, const T* y) {
  return dot_impl_chosen<T>()(n, x, y);
}

template <class T>
double sum_squares(int64_t n, const T* x) {
  return sum_squares_impl_chosen<T>()(n, x);
}

template <class T>
void add_column_sums(int64_t rows, int64_t n, const T* x, int64_t ld, T* columns) {
  add_column_sums_impl_chosen<T>()(rows, n, x, ld, columns);
}

template <class T>
void silu_mul(int64_t n, const T* gate, const T* up, T* out) {
  silu_mul_impl_chosen<T>()(n, gate, up, out);
}

template <class T>
void silu_mul_backward(int64_t n, const T* gate, const T* up, const T* dout, T* dgate, T* dup) {
  silu_mul_backward_impl_chosen<T>()(n, gate, up, dout, dgate, dup);
}

template <class T>
void gelu(int64_t n, const T* x, T* y) {
  gelu_impl_chosen<T>()(n, x, y);
}

template <class T>
void gelu_backward(int64_t n, const T* x, const T* dy, T* dx) {
  gelu_backward_impl_chosen<T>()(n, x, dy, dx);
}

template <class T>
void dropout(int64_t n, uint64_t key, uint64_t first, T drop, const T* x, T* y) {
  dropout_impl_chosen<T>()(n, key, first, drop, x, y);
}

QTF_INSTANTIATE(add)
QTF_INSTANTIATE(axpy)
QTF_INSTANTIATE(multiply)
QTF_INSTANTIATE(scale)
QTF_INSTANTIATE(dot)
QTF_INSTANTIATE(sum_squares)
QTF_INSTANTIATE(add_column_sums)
QTF_INSTANTIATE(silu_mul)
QTF_INSTANTIATE(silu_mul_backward)
QTF_INSTANTIATE(gelu)
QTF_INSTANTIATE(gelu_backward)
QTF_INSTANTIATE(dropout)

}  // namespace qtf::kernels
#endif
