// One vector of tokens passing a layered circuit: what the kernels of both ways share. Compiled once an
// instruction set.
#if defined(QTF_KERNELS_CIRCUIT_LAYERS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QTF_KERNELS_CIRCUIT_LAYERS_INL_H_
#undef QTF_KERNELS_CIRCUIT_LAYERS_INL_H_
#else
#define QTF_KERNELS_CIRCUIT_LAYERS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "qtf/kernels/circuit_layers.h"
#include "qtf/kernels/circuit_passes-inl.h"
#include "qtf/kernels/sincos-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Index bits that one pass holds in registers: [first, first + count).
struct BitGroup {
  int first, count;
};

/// A circuit's passes and how its states lie in memory.
struct Passes {
  int num_groups = 0;
  BitGroup groups[8] = {};
  /// Amplitude k lies at place k + (k >> row_bits): groups of far apart amplitudes would otherwise fall into
  /// few sets of the cache. A group is within a row or strides whole ones. 31: no padding.
  int row_bits = 31;

  HWY_INLINE int64_t place(int64_t k) const { return k + (k >> row_bits); }
};

HWY_INLINE Passes plan_passes(int n) {
  Passes passes;
  passes.num_groups = (n + kMaxBits - 1) / kMaxBits;
  int first = 0;
  if (n > 2 * kMaxBits - 1) {
    passes.groups[0] = {0, kMaxBits};
    passes.row_bits = first = kMaxBits;
  }
  for (int g = first > 0 ? 1 : 0; g < passes.num_groups; ++g) {
    const int left = passes.num_groups - g, bits = (n - first + left - 1) / left;
    passes.groups[g] = {first, bits};
    first += bits;
  }
  return passes;
}

/// Calls body with the number of a group's bits as a constant.
template <class Body>
HWY_ATTR HWY_INLINE void with_width(BitGroup group, Body&& body) {
  switch (group.count) {
    case 1:
      return body(std::integral_constant<int, 1>());
    case 2:
      return body(std::integral_constant<int, 2>());
    case 3:
      return body(std::integral_constant<int, 3>());
    default:
      if constexpr (kMaxBits == 4) body(std::integral_constant<int, 4>());
  }
}

/// Numbers of one state, re and im of every amplitude.
template <class T>
HWY_ATTR int64_t state_size(int n) {
  const int64_t amplitudes = int64_t{1} << n;
  return 2 * (plan_passes(n).place(amplitudes - 1) + 1) *
         static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
}

/// The scratch of one call, carved up; what only the way back needs comes last.
template <class T>
struct LayeredScratch {
  Staged<T> x, dy, y, dx;
  T* angles;      // [n][cos, sin]
  T* wires;       // [n][4] re, im of the wire's two amplitudes
  T* high;        // [2^nh][re, im] product state of the first wires
  T* low;         // [2^nl][re, im] of the others
  T* few;         // [2^kMaxBits] within a pass
  T* strings;     // [num_strings] sums
  T* observable;  // [(num_strings + 3) / 4][16] sums of four derivatives, by their signs
  T* states;      // [layers · groups] after each pass (forward: one, or two in turn)
  T* lambda;      // [2] states
  T* d_high;      // gradients of `high`, `low`
  T* d_low;
  T* products;  // [2^kHalf + …] of the first wires of a half
  T* d_products;
  T* sums;  // what layered_gradients lists, a vector each
};

HWY_INLINE int high_wires(int n) {
  return n / 2;
}

template <class T>
HWY_ATTR int64_t carve_layers(const LayeredCircuit<T>& c, bool vjp, T* base, LayeredScratch<T>& s) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  const int n = c.qubits, nh = high_wires(n), nl = n - nh;
  int64_t used = 0;
  const auto take = [&](int64_t count) {
    T* p = base + used;
    used += count;
    return p;
  };
  const int64_t state = state_size<T>(n), half = int64_t{2} << nl;
  const int groups = plan_passes(n).num_groups;
  const auto stage = [&](int64_t columns) { return Staged<T>{take(columns * kCircuitBlock), columns}; };
  s.x = stage(c.inputs);
  s.y = stage(c.num_strings);
  s.angles = take(2 * n * lanes);
  s.wires = take(4 * n * lanes);
  s.high = take((int64_t{2} << nh) * lanes);
  s.low = take(half * lanes);
  s.few = take((1 << kMaxBits) * lanes);
  s.strings = take(std::max(c.num_strings, 1) * lanes);
  s.products = take(2 * half * lanes);
  s.states = take(state * (vjp ? c.num_layers * groups : std::min(c.num_layers, 2)));
  if (!vjp) return used;
  s.dy = stage(c.num_strings);
  s.dx = stage(c.inputs);
  s.observable = take((c.num_strings + 3) / 4 * 16 * lanes);
  s.lambda = take(2 * state);
  s.d_high = take((int64_t{2} << nh) * lanes);
  s.d_low = take(half * lanes);
  s.d_products = take(half * lanes);
  s.sums = take(layered_gradients(c) * lanes);
  return used;
}

/// One vector of tokens passing the circuit.
template <class D>
struct LayeredRun {
  using T = hn::TFromD<D>;
  using V = hn::Vec<D>;

  const LayeredCircuit<T>& c;
  LayeredScratch<T> s;
  D d = {};
  Vectors<D> at = {d};
  Passes passes = plan_passes(c.qubits);
  int n = c.qubits, nh = high_wires(n), nl = n - nh;
  int64_t state = state_size<T>(n);

  // ---- product state ----

  /// Wire states for a vector of tokens. Adds NaN to `check` where an input is not finite.
  HWY_ATTR HWY_INLINE void encode(int64_t token, V& check) const {
    for (int w = 0; w < n; ++w) {
      V angle = at.set(c.input_offset[w]);
      if (c.columns[w] >= 0) {
        const V value = s.x.load(d, token, c.columns[w]);
        check = hn::MulAdd(value, hn::Zero(d), check);
        angle = hn::MulAdd(value, at.set(c.input_scale[w]), angle);
      }
      const auto [sine, cosine] = half_sincos<false>(d, angle);
      at.store(cosine, s.angles, 2 * w);
      at.store(sine, s.angles, 2 * w + 1);
      const T* u = c.wire_states + 8 * w;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        at.store(hn::MulAdd(cosine, at.set(u[i]), hn::Mul(sine, at.set(u[4 + i]))), s.wires, 4 * w + i);
      }
    }
  }

  /// out[2k + b] = in[k]·wire_b for k < size.
  HWY_ATTR HWY_INLINE void extend(const T* in, int64_t size, int w, T* out) const {
    const V r0 = at.load(s.wires, 4 * w), i0 = at.load(s.wires, 4 * w + 1);
    const V r1 = at.load(s.wires, 4 * w + 2), i1 = at.load(s.wires, 4 * w + 3);
    for (int64_t k = 0; k < size; ++k) {
      const V r = at.load(in, 2 * k), i = at.load(in, 2 * k + 1);
      at.store(hn::NegMulAdd(i, i0, hn::Mul(r, r0)), out, 4 * k);
      at.store(hn::MulAdd(i, r0, hn::Mul(r, i0)), out, 4 * k + 1);
      at.store(hn::NegMulAdd(i, i1, hn::Mul(r, r1)), out, 4 * k + 2);
      at.store(hn::MulAdd(i, r1, hn::Mul(r, i1)), out, 4 * k + 3);
    }
  }

  /// Where the product of the first j wires of a half lies: products of 1, 2, … wires one after another, the
  /// last in `out`.
  HWY_ATTR HWY_INLINE T* prefix(int j, int wires, T* out) const {
    return j == wires ? out : s.products + 2 * ((int64_t{1} << j) - 2) * at.lanes;
  }

  /// out = ⊗ of `wires` wires from `first_wire` on; no wire: the number 1.
  HWY_ATTR HWY_INLINE void product(int first_wire, int wires, T* out) const {
    if (wires == 0) {
      at.store(at.set(1), out, 0);
      at.store(at.set(0), out, 1);
      return;
    }
    T* to = prefix(1, wires, out);
    for (int i = 0; i < 4; ++i) at.store(at.load(s.wires, 4 * first_wire + i), to, i);
    for (int j = 1; j < wires; ++j) {
      extend(prefix(j, wires, out), int64_t{1} << j, first_wire + j, prefix(j + 1, wires, out));
    }
  }

  // ---- passes ----

  /// Amplitude `k` of the state that layer `l` reads.
  template <bool kProduct>
  HWY_ATTR HWY_INLINE void fetch(const T* from, int64_t k, V& re, V& im) const {
    if constexpr (kProduct) {
      const int64_t h = k >> nl, l = k & ((int64_t{1} << nl) - 1);
      const V hr = at.load(s.high, 2 * h), hi = at.load(s.high, 2 * h + 1);
      const V lr = at.load(s.low, 2 * l), li = at.load(s.low, 2 * l + 1);
      re = hn::NegMulAdd(hi, li, hn::Mul(hr, lr));
      im = hn::MulAdd(hi, lr, hn::Mul(hr, li));
    } else {
      const int64_t p = passes.place(k);
      re = at.load(from, 2 * p);
      im = at.load(from, 2 * p + 1);
    }
  }

  /// Calls body(k) for the first index of each set of amplitudes that differ in the group's bits only.
  template <class Body>
  HWY_ATTR HWY_INLINE void for_each_set(BitGroup group, Body&& body) const {
    const int64_t upper = int64_t{1} << (n - group.first - group.count), lower = int64_t{1} << group.first;
    for (int64_t u = 0; u < upper; ++u) {
      for (int64_t l = 0; l < lower; ++l) body(u << (group.first + group.count) | l);
    }
  }

  /// Places between amplitudes that differ in the group's lowest bit.
  HWY_INLINE int64_t stride(BitGroup group) const {
    return passes.place(int64_t{1} << group.first);
  }

  /// Permutation, diagonal and the first group's rotations: to ← from, or ← the product state.
  template <int W, bool kProduct>
  HWY_ATTR HWY_NOINLINE void first_pass(const RotationLayer<T>& layer, const T* from, T* to) const {
    constexpr int N = 1 << W;
    for_each_set(passes.groups[0], [&](int64_t base) HWY_ATTR {
      V re[N], im[N];
      T* out = to + 2 * passes.place(base) * at.lanes;
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) {
        V r, i;
        fetch<kProduct>(from, layer.source[base + j], r, i);
        const V dr = at.set(layer.diagonal[2 * (base + j)]), di = at.set(layer.diagonal[2 * (base + j) + 1]);
        re[j] = hn::NegMulAdd(i, di, hn::Mul(r, dr));
        im[j] = hn::MulAdd(i, dr, hn::Mul(r, di));
        if constexpr (W == 4) at.store(im[j], out, 2 * j + 1);  // too many for the registers
      }
      rotate<W, false>(d, re, layer.tangents);
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) {
        at.store(re[j], out, 2 * j);
        if constexpr (W == 4) im[j] = at.load(out, 2 * j + 1);
      }
      rotate<W, false>(d, im, layer.tangents);
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) at.store(im[j], out, 2 * j + 1);
    });
  }

  /// A further group's rotations: to ← from, which may be the same.
  template <int W>
  HWY_ATTR HWY_NOINLINE void further_pass(BitGroup group, const T* tangents, const T* from, T* to) const {
    constexpr int N = 1 << W;
    const int64_t step = 2 * stride(group);
    for_each_set(group, [&](int64_t base) HWY_ATTR {
      const int64_t p = 2 * passes.place(base);
      for (int part = 0; part < 2; ++part) {
        V v[N];
#pragma GCC unroll 16
        for (int j = 0; j < N; ++j) v[j] = at.load(from, p + part + j * step);
        rotate<W, false>(d, v, tangents + group.first);
#pragma GCC unroll 16
        for (int j = 0; j < N; ++j) at.store(v[j], to, p + part + j * step);
      }
    });
  }

  /// Sums of signed probabilities, kRotate: after the last group's rotations (kStore: which go to `to`).
  template <int W, bool kRotate, bool kStore>
  HWY_ATTR HWY_NOINLINE void last_pass(BitGroup group, const T* tangents, const T* from, T* to) const {
    constexpr int N = 1 << W;
    const int64_t step = 2 * stride(group);
    for (int i = 0; i < c.num_strings; ++i) at.store(hn::Zero(d), s.strings, i);
    for_each_set(group, [&](int64_t base) HWY_ATTR {
      const int64_t p = 2 * passes.place(base);
      V v[N], square[N];
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) v[j] = at.load(from, p + j * step);
      if constexpr (kRotate) rotate<W, false>(d, v, tangents + group.first);
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) {
        if constexpr (kStore) at.store(v[j], to, p + j * step);
        square[j] = hn::Mul(v[j], v[j]);
      }
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) v[j] = at.load(from, p + 1 + j * step);
      if constexpr (kRotate) rotate<W, false>(d, v, tangents + group.first);
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) {
        if constexpr (kStore) at.store(v[j], to, p + 1 + j * step);
        square[j] = hn::MulAdd(v[j], v[j], square[j]);
      }
      walsh<W>(d, square);
#pragma GCC unroll 16
      for (int j = 0; j < N; ++j) at.store(square[j], s.few, j);
      for (int i = 0; i < c.num_strings; ++i) {
        const int64_t string = c.strings[i];
        const V sum = at.load(s.few, string >> group.first & (N - 1)), before = at.load(s.strings, i);
        at.store(odd(string & base) ? hn::Sub(before, sum) : hn::Add(before, sum), s.strings, i);
      }
    });
  }

  /// All layers; kKeep: every pass' state stays, in its own place of s.states.
  template <bool kKeep>
  HWY_ATTR void forward(int64_t token, V& check) const {
    encode(token, check);
    // The second half's prefixes overwrite the first's; backward makes them again.
    product(0, nh, s.high);
    product(nh, nl, s.low);
    const int groups = passes.num_groups;
    const T* from = nullptr;
    for (int l = 0; l < c.num_layers; ++l) {
      T* to = s.states + (kKeep ? l * groups : l & 1) * state;
      const RotationLayer<T>& layer = c.layers[l];
      with_width(passes.groups[0], [&](auto width) HWY_ATTR {
        l == 0 ? first_pass<width(), true>(layer, from, to) : first_pass<width(), false>(layer, from, to);
      });
      const bool top = l + 1 == c.num_layers;
      for (int g = 1; g < groups; ++g) {
        const T* before = to;
        if (kKeep) to += state;
        with_width(passes.groups[g], [&](auto width) HWY_ATTR {
          if (top && g + 1 == groups) {
            last_pass<width(), true, kKeep>(passes.groups[g], layer.tangents, before, to);
          } else {
            further_pass<width()>(passes.groups[g], layer.tangents, before, to);
          }
        });
      }
      if (top && groups == 1) {
        with_width(passes.groups[0], [&](auto width) HWY_ATTR {
          last_pass<width(), false, false>(passes.groups[0], nullptr, to, to);
        });
      }
      from = to;
    }
  }

  HWY_ATTR HWY_INLINE void store_strings(int64_t token) const {
    for (int i = 0; i < c.num_strings; ++i) s.y.store(at.load(s.strings, i), d, token, i);
  }
};

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
