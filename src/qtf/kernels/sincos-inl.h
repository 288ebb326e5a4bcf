// Sine and cosine of half angles for simulated circuits, compiled once an instruction set.
#if defined(QTF_KERNELS_SINCOS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QTF_KERNELS_SINCOS_INL_H_
#undef QTF_KERNELS_SINCOS_INL_H_
#else
#define QTF_KERNELS_SINCOS_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>
#include <span>
#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class V>
struct SinCos {
  V sin, cos;
};

/// Both of angle/2, for |angle| up to kMaxReduced<T>. Without kSigned both may come out negated together: a
/// global sign of the state, which no expectation value sees. Absolute error about an epsilon of T (the
/// reduced angle's Taylor series, cut where its next term is below that).
template <bool kSigned, class D, class V = hn::Vec<D>>
HWY_ATTR HWY_INLINE SinCos<V> half_sincos_reduced(D d, V angle) {
  using T = hn::TFromD<D>;
  // y = angle/2 - k·π with |y| <= π/2; π is subtracted in parts whose product with k is exact.
  const V half = hn::Mul(angle, hn::Set(d, T(0.5)));
  const V k = hn::Round(hn::Mul(half, hn::Set(d, T(0.31830988618379067154))));
  V y;
  if constexpr (std::is_same_v<T, float>) {
    y = hn::NegMulAdd(k, hn::Set(d, 3.140625F), half);
    y = hn::NegMulAdd(k, hn::Set(d, 0.0009675025939941406F), y);
    y = hn::NegMulAdd(k, hn::Set(d, 1.5099580252808664e-07F), y);
  } else {
    y = hn::NegMulAdd(k, hn::Set(d, 3.1415926534682512), half);
    y = hn::NegMulAdd(k, hn::Set(d, 1.2154201012607932e-10), y);
    y = hn::NegMulAdd(k, hn::Set(d, 4.044532497591901e-21), y);
  }
  const V z = hn::Mul(y, y);
  const auto c = [&](double value) HWY_ATTR { return hn::Set(d, static_cast<T>(value)); };
  V s, e;
  if constexpr (std::is_same_v<T, float>) {
    s = hn::MulAdd(z, c(-2.5052108385e-8), c(2.7557319224e-6));
    s = hn::MulAdd(z, s, c(-1.9841269841e-4));
    s = hn::MulAdd(z, s, c(8.3333333333e-3));
    s = hn::MulAdd(z, s, c(-1.6666666667e-1));
    e = hn::MulAdd(z, c(2.0876756988e-9), c(-2.7557319224e-7));
    e = hn::MulAdd(z, e, c(2.4801587302e-5));
    e = hn::MulAdd(z, e, c(-1.3888888889e-3));
    e = hn::MulAdd(z, e, c(4.1666666667e-2));
    e = hn::MulAdd(z, e, c(-0.5));
  } else {
    // 1/3!, 1/5! ... and 1/2!, 1/4! ..., highest first.
    constexpr double kSine[] = {1.9572941063391263e-20, -8.22063524662433e-18,  2.8114572543455206e-15,
                                -7.647163731819816e-13, 1.6059043836821613e-10, -2.505210838544172e-08,
                                2.7557319223985893e-06, -0.0001984126984126984, 0.008333333333333333,
                                -0.16666666666666666};
    constexpr double kCosine[] = {-8.896791392450574e-22,
                                  4.110317623312165e-19,
                                  -1.5619206968586225e-16,
                                  4.779477332387385e-14,
                                  -1.1470745597729725e-11,
                                  2.08767569878681e-09,
                                  -2.755731922398589e-07,
                                  2.48015873015873e-05,
                                  -0.001388888888888889,
                                  0.041666666666666664,
                                  -0.5};
    s = c(kSine[0]);
    e = c(kCosine[0]);
    for (double term : std::span(kSine).subspan(1)) s = hn::MulAdd(z, s, c(term));
    for (double term : std::span(kCosine).subspan(1)) e = hn::MulAdd(z, e, c(term));
  }
  const SinCos<V> both{hn::MulAdd(hn::Mul(z, y), s, y), hn::MulAdd(z, e, hn::Set(d, T{1}))};
  if constexpr (!kSigned) return both;
  const V pairs = hn::Mul(k, hn::Set(d, T(0.5)));
  const auto odd = hn::Ne(pairs, hn::Round(pairs));
  return {hn::IfThenElse(odd, hn::Neg(both.sin), both.sin), hn::IfThenElse(odd, hn::Neg(both.cos), both.cos)};
}

/// Angles beyond this are reduced one by one.
template <class T>
constexpr T kMaxReduced = std::is_same_v<T, float> ? T(3000) : T(1e5);

template <bool kSigned, class D, class V = hn::Vec<D>>
HWY_ATTR HWY_INLINE SinCos<V> half_sincos(D d, V angle) {
  using T = hn::TFromD<D>;
  if (HWY_LIKELY(hn::AllTrue(d, hn::Le(hn::Abs(angle), hn::Set(d, kMaxReduced<T>))))) {
    return half_sincos_reduced<kSigned>(d, angle);
  }
  HWY_ALIGN T lanes[hn::MaxLanes(d)];
  HWY_ALIGN T sines[hn::MaxLanes(d)];
  hn::Store(angle, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) {
    const double half = 0.5 * static_cast<double>(lanes[i]);
    sines[i] = static_cast<T>(std::sin(half)), lanes[i] = static_cast<T>(std::cos(half));
  }
  return {hn::Load(d, sines), hn::Load(d, lanes)};
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
