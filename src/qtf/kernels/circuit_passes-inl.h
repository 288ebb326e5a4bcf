// What the kernels of simulated circuits share: real rotations and sign sums of a few index bits in
// registers, moving tokens into and out of lanes, and the loop over blocks of tokens. Compiled once an
// instruction set.
#if defined(QTF_KERNELS_CIRCUIT_PASSES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QTF_KERNELS_CIRCUIT_PASSES_INL_H_
#undef QTF_KERNELS_CIRCUIT_PASSES_INL_H_
#else
#define QTF_KERNELS_CIRCUIT_PASSES_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
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

#if HWY_TARGET != HWY_SCALAR
/// Four rows of four numbers from rows `from_stride` apart, transposed, to rows `to_stride` apart.
HWY_ATTR HWY_INLINE void transpose_four(const float* from, int64_t from_stride, float* to,
                                        int64_t to_stride) {
  const hn::FixedTag<float, 4> d;
  const auto a = hn::LoadU(d, from), b = hn::LoadU(d, from + from_stride);
  const auto c = hn::LoadU(d, from + 2 * from_stride), e = hn::LoadU(d, from + 3 * from_stride);
  const auto ac_low = hn::InterleaveLower(d, a, c), ac_high = hn::InterleaveUpper(d, a, c);
  const auto be_low = hn::InterleaveLower(d, b, e), be_high = hn::InterleaveUpper(d, b, e);
  hn::StoreU(hn::InterleaveLower(d, ac_low, be_low), d, to);
  hn::StoreU(hn::InterleaveUpper(d, ac_low, be_low), d, to + to_stride);
  hn::StoreU(hn::InterleaveLower(d, ac_high, be_high), d, to + 2 * to_stride);
  hn::StoreU(hn::InterleaveUpper(d, ac_high, be_high), d, to + 3 * to_stride);
}
#endif

/// to[c, r] = from[r, c] for a rows × columns matrix by rows.
template <class T>
HWY_ATTR void transpose(int64_t rows, int64_t columns, const T* from, int64_t from_stride, T* to,
                        int64_t to_stride) {
  int64_t c = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (sizeof(T) == 4) {
    for (; c + 4 <= columns; c += 4) {
      int64_t r = 0;
      for (; r + 4 <= rows; r += 4)
        transpose_four(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
      for (; r < rows; ++r) {
        for (int64_t i = c; i < c + 4; ++i) to[i * to_stride + r] = from[r * from_stride + i];
      }
    }
  }
#endif
  for (; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

/// The numbers of up to kCircuitBlock tokens by columns, each padded to whole vectors. Moved in bulk: a
/// vector made of numbers stored one by one would wait for the last of them.
template <class T>
struct Staged {
  T* data;  // [columns][kCircuitBlock]
  int64_t columns;

  /// Reads tokens [first, first + count); zeros behind them.
  HWY_ATTR void read(const TokenMatrix<const T>& m, int64_t first, int64_t count) const {
    const T* from = m.data + first * m.token_stride;
    if (m.column_stride == 1) {
      transpose(count, columns, from, m.token_stride, data, kCircuitBlock);
    } else {
      for (int64_t c = 0; c < columns; ++c) {
        for (int64_t t = 0; t < count; ++t) {
          data[c * kCircuitBlock + t] = from[t * m.token_stride + c * m.column_stride];
        }
      }
    }
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
    const int64_t end = (count + lanes - 1) / lanes * lanes;
    for (int64_t c = 0; c < columns; ++c)
      std::fill(data + c * kCircuitBlock + count, data + c * kCircuitBlock + end, T{0});
  }

  /// The reverse of read.
  HWY_ATTR void write(const TokenMatrix<T>& m, int64_t first, int64_t count) const {
    T* to = m.data + first * m.token_stride;
    if (m.column_stride == 1) return transpose(columns, count, data, kCircuitBlock, to, m.token_stride);
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t t = 0; t < count; ++t)
        to[t * m.token_stride + c * m.column_stride] = data[c * kCircuitBlock + t];
    }
  }

  template <class D>
  HWY_ATTR HWY_INLINE hn::Vec<D> load(D d, int64_t token, int64_t column) const {
    return hn::Load(d, data + column * kCircuitBlock + token);
  }
  template <class D>
  HWY_ATTR HWY_INLINE void store(hn::Vec<D> v, D d, int64_t token, int64_t column) const {
    hn::Store(v, d, data + column * kCircuitBlock + token);
  }
};

/// Loads and stores of the i-th vector at a place.
template <class D>
struct Vectors {
  using T = hn::TFromD<D>;
  D d;
  int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ATTR HWY_INLINE hn::Vec<D> load(const T* p, int64_t i) const { return hn::Load(d, p + i * lanes); }
  HWY_ATTR HWY_INLINE void store(hn::Vec<D> v, T* p, int64_t i) const { hn::Store(v, d, p + i * lanes); }
  HWY_ATTR HWY_INLINE void add(hn::Vec<D> v, T* p, int64_t i) const { store(hn::Add(load(p, i), v), p, i); }
  HWY_ATTR HWY_INLINE hn::Vec<D> set(T value) const { return hn::Set(d, value); }
};
/// Passes all tokens in blocks: body(first, token, count, check) takes the vector of `count` tokens at
/// `token` of the block that begins at token `first`, from run.s.x to run.s.y. False if it left NaN in
/// `check`.
template <class Run, class T, class Body>
HWY_ATTR HWY_INLINE bool forward_blocks(const Run& run, int64_t tokens, TokenMatrix<const T> x,
                                        TokenMatrix<T> y, Body&& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(run.d));
  auto check = hn::Zero(run.d);
  for (int64_t first = 0; first < tokens; first += kCircuitBlock) {
    const int64_t count = std::min(kCircuitBlock, tokens - first);
    run.s.x.read(x, first, count);
    for (int64_t token = 0; token < count; token += lanes) {
      body(first, token, std::min(lanes, count - token), check);
    }
    if (y.data != nullptr) run.s.y.write(y, first, count);
  }
  return hn::AllTrue(run.d, hn::Eq(check, check));
}

/// One block there and back: body(token, count, check) also adds to the vectors run.s.sums, whose lanes'
/// sums are the gradients.
template <class Run, class T, class Body>
HWY_ATTR HWY_INLINE bool vjp_block(const Run& run, int64_t tokens, TokenMatrix<const T> x, TokenMatrix<T> y,
                                   TokenMatrix<T> dx, double* gradients, int64_t num_gradients, Body&& body) {
  const Vectors<decltype(run.d)> at{run.d};
  auto check = hn::Zero(run.d);
  for (int64_t i = 0; i < num_gradients; ++i) at.store(hn::Zero(run.d), run.s.sums, i);
  run.s.x.read(x, 0, tokens);
  for (int64_t token = 0; token < tokens; token += at.lanes) {
    body(token, std::min(at.lanes, tokens - token), check);
  }
  if (y.data != nullptr) run.s.y.write(y, 0, tokens);
  run.s.dx.write(dx, 0, tokens);
  for (int64_t i = 0; i < num_gradients; ++i) {
    gradients[i] = static_cast<double>(hn::GetLane(hn::SumOfLanes(run.d, at.load(run.s.sums, i))));
  }
  return hn::AllTrue(run.d, hn::Eq(check, check));
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
