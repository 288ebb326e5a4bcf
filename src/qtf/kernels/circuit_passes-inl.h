// What the kernels of simulated circuits share: real rotations and sign sums of a few index bits in
// registers, and moving tokens into and out of lanes. Compiled once an instruction set.
#if defined(QTF_KERNELS_CIRCUIT_PASSES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QTF_KERNELS_CIRCUIT_PASSES_INL_H_
#undef QTF_KERNELS_CIRCUIT_PASSES_INL_H_
#else
#define QTF_KERNELS_CIRCUIT_PASSES_INL_H_
#endif

#include <hwy/highway.h>

#include <bit>
#include <cstdint>

#include "qtf/kernels/circuit_layers.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kMaxBits = 4;  // index bits a pass rotates: 16 amplitudes in 32 registers
#else
constexpr int kMaxBits = 3;  // 8 in 16
#endif

HWY_INLINE bool odd(int64_t bits) {
  return std::popcount(static_cast<uint64_t>(bits)) & 1;
}

/// v ← ⊗ [1 −t; t 1] v over W index bits; kInverse: with −t. Off by the product of the cosines.
template <int W, bool kInverse, class D, class V = hn::Vec<D>>
HWY_ATTR HWY_INLINE void rotate(D d, V* HWY_RESTRICT v, const hn::TFromD<D>* tangents) {
#pragma GCC unroll 4
  for (int b = 0; b < W; ++b) {
    const V t = hn::Set(d, tangents[b]);
#pragma GCC unroll 16
    for (int j = 0; j < 1 << (W - 1); ++j) {
      const int low = ((j >> b) << (b + 1)) | (j & ((1 << b) - 1)), high = low | 1 << b;
      const V a = v[low], c = v[high];
      v[low] = kInverse ? hn::MulAdd(t, c, a) : hn::NegMulAdd(t, c, a);
      v[high] = kInverse ? hn::NegMulAdd(t, a, c) : hn::MulAdd(t, a, c);
    }
  }
}

/// v[m] ← Σ_j (−1)^{|m & j|} v[j] (Walsh and Hadamard).
template <int W, class D, class V = hn::Vec<D>>
HWY_ATTR HWY_INLINE void walsh(D, V* HWY_RESTRICT v) {
#pragma GCC unroll 4
  for (int b = 0; b < W; ++b) {
#pragma GCC unroll 16
    for (int j = 0; j < 1 << (W - 1); ++j) {
      const int low = ((j >> b) << (b + 1)) | (j & ((1 << b) - 1)), high = low | 1 << b;
      const V a = v[low], c = v[high];
      v[low] = hn::Add(a, c);
      v[high] = hn::Sub(a, c);
    }
  }
}

/// Column `column` of `count` tokens from `first` on, zeros in the other lanes.
template <class D, class T = hn::TFromD<D>>
HWY_ATTR HWY_INLINE hn::Vec<D> load_tokens(D d, const TokenMatrix<const T>& m, int64_t first, int64_t count,
                                           int64_t column) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const T* from = m.data + first * m.token_stride + column * m.column_stride;
  if (m.token_stride == 1 && count == lanes) return hn::LoadU(d, from);
  HWY_ALIGN T values[hn::MaxLanes(d)];
  if (count == lanes) {
    for (int64_t i = 0; i < lanes; ++i) values[i] = from[i * m.token_stride];
  } else {
    for (int64_t i = 0; i < lanes; ++i) values[i] = i < count ? from[i * m.token_stride] : T{0};
  }
  return hn::Load(d, values);
}

/// The reverse of load_tokens.
template <class D, class T = hn::TFromD<D>>
HWY_ATTR HWY_INLINE void store_tokens(hn::Vec<D> v, D d, const TokenMatrix<T>& m, int64_t first,
                                      int64_t count, int64_t column) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  T* to = m.data + first * m.token_stride + column * m.column_stride;
  if (m.token_stride == 1 && count == lanes) return hn::StoreU(v, d, to);
  HWY_ALIGN T values[hn::MaxLanes(d)];
  hn::Store(v, d, values);
  for (int64_t i = 0; i < count; ++i) to[i * m.token_stride] = values[i];
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
