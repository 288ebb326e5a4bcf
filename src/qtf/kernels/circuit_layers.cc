#include "qtf/kernels/circuit_layers.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/circuit_layers.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
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

/// Numbers of one state, re and im of every amplitude.
template <class T>
HWY_ATTR int64_t state_size(int n) {
  const int64_t amplitudes = int64_t{1} << n;
  return 2 * (plan_passes(n).place(amplitudes - 1) + 1) *
         static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
}

/// The scratch of one call, carved up.
template <class T>
struct Scratch {
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
HWY_ATTR int64_t carve(const LayeredCircuit<T>& c, bool vjp, T* base, Scratch<T>& s) {
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

/// Loads and stores of re (part 0) and im (part 1) of the vectors of a state or product.
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

/// One vector of tokens passing the circuit, and its gradient coming back.
template <class D>
struct Run {
  using T = hn::TFromD<D>;
  using V = hn::Vec<D>;

  const LayeredCircuit<T>& c;
  Scratch<T> s;
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

  // ---- forward ----

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

  // ---- backward ----

  /// The observable's diagonal is Σ_i dy_i·(sign of string i): sums of every four terms for all 16 signs.
  HWY_ATTR HWY_INLINE void tabulate_observable() const {
    for (int chunk = 0; 4 * chunk < c.num_strings; ++chunk) {
      const int count = std::min(4, c.num_strings - 4 * chunk);
      T* sums = s.observable + chunk * 16 * at.lanes;
      V all = at.load(s.strings, 4 * chunk);
      for (int i = 1; i < count; ++i) all = hn::Add(all, at.load(s.strings, 4 * chunk + i));
      at.store(all, sums, 0);
      for (int i = 0; i < count; ++i) {
        const V twice = hn::Mul(at.load(s.strings, 4 * chunk + i), at.set(2));
        for (int b = 0; b < 1 << i; ++b) at.store(hn::Sub(at.load(sums, b), twice), sums, b | 1 << i);
      }
    }
  }

  /// The observable's diagonal at index k.
  HWY_ATTR HWY_INLINE V observable(int64_t k) const {
    V sum = at.load(s.observable, c.patterns[k]);
    for (int chunk = 1; 4 * chunk < c.num_strings; ++chunk) {
      sum = hn::Add(sum, at.load(s.observable, 16 * chunk + c.patterns[(int64_t{chunk} << n) + k]));
    }
    return sum;
  }

  /// Takes λ back through one group's rotations and adds the gradients of their angles to `d_angles`. psi:
  /// the state after them. kTop: λ is the observable times ψ, not read. kBottom: it goes back through
  /// diagonal and permutation too.
  template <int W, bool kTop, bool kBottom>
  HWY_ATTR HWY_NOINLINE void backward_pass(BitGroup group, const RotationLayer<T>& layer, const T* psi,
                                           const T* lambda, T* to, T* d_angles) const {
    constexpr int N = 1 << W;
    const int64_t step = 2 * stride(group);
    V gradient[W];
#pragma GCC unroll 4
    for (int b = 0; b < W; ++b) gradient[b] = at.load(d_angles, group.first + b);
    for_each_set(group, [&](int64_t base) HWY_ATTR {
      const int64_t p = 2 * passes.place(base);
      if constexpr (kTop) {
#pragma GCC unroll 16
        for (int j = 0; j < N; ++j) at.store(observable(base | j << group.first), s.few, j);
      }
      V l[N];
#pragma GCC unroll 2
      for (int part = 0; part < 2; ++part) {
        V f[N];
#pragma GCC unroll 16
        for (int j = 0; j < N; ++j) {
          f[j] = at.load(psi, p + part + j * step);
          l[j] = kTop ? hn::Mul(at.load(s.few, j), f[j]) : at.load(lambda, p + part + j * step);
        }
#pragma GCC unroll 4
        for (int b = 0; b < W; ++b) {
#pragma GCC unroll 16
          for (int j = 0; j < N / 2; ++j) {
            const int low = ((j >> b) << (b + 1)) | (j & ((1 << b) - 1)), high = low | 1 << b;
            gradient[b] = hn::MulAdd(l[high], f[low], gradient[b]);
            gradient[b] = hn::NegMulAdd(l[low], f[high], gradient[b]);
          }
        }
        rotate<W, true>(d, l, layer.tangents + group.first);
        if (!kBottom || part == 0) {
#pragma GCC unroll 16
          for (int j = 0; j < N; ++j) {
            if constexpr (kBottom) {
              at.store(l[j], to, 2 * passes.place(layer.source[base + j]));
            } else {
              at.store(l[j], to, p + part + j * step);
            }
          }
        }
      }
      if constexpr (kBottom) {
#pragma GCC unroll 16
        for (int j = 0; j < N; ++j) {
          const int64_t q = 2 * passes.place(layer.source[base + j]);
          const V dr = at.set(layer.diagonal[2 * (base + j)]),
                  di = at.set(layer.diagonal[2 * (base + j) + 1]);
          const V re = at.load(to, q);
          at.store(hn::MulAdd(l[j], di, hn::Mul(re, dr)), to, q);
          at.store(hn::NegMulAdd(re, di, hn::Mul(l[j], dr)), to, q + 1);
        }
      }
    });
#pragma GCC unroll 4
    for (int b = 0; b < W; ++b) at.store(gradient[b], d_angles, group.first + b);
  }

  /// d_phase[k] += Im(conj(λ)·ψ).
  HWY_ATTR HWY_INLINE void phase_pass(const T* psi, const T* lambda, T* d_phase) const {
    for (int64_t k = 0; k < int64_t{1} << n; ++k) {
      const int64_t p = 2 * passes.place(k);
      const V im = hn::MulAdd(at.load(lambda, p), at.load(psi, p + 1), at.load(d_phase, k));
      at.store(hn::NegMulAdd(at.load(lambda, p + 1), at.load(psi, p), im), d_phase, k);
    }
  }

  /// From λ at the product state: gradients of `high` and `low`, and d_phase[k] += Im(conj(λ)·ψ). R rows of
  /// `high` at a time.
  template <int R>
  HWY_ATTR HWY_NOINLINE void product_pass(const T* lambda, T* d_phase) const {
    const int64_t highs = int64_t{1} << nh, lows = int64_t{1} << nl;
    for (int64_t i = 0; i < 2 * lows; ++i) at.store(hn::Zero(d), s.d_low, i);
    for (int64_t h = 0; h < highs; h += R) {
      V hr[R], hi[R], sum_r[R], sum_i[R];
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        hr[r] = at.load(s.high, 2 * (h + r));
        hi[r] = at.load(s.high, 2 * (h + r) + 1);
        sum_r[r] = sum_i[r] = hn::Zero(d);
      }
      for (int64_t l = 0; l < lows; ++l) {
        const V lr = at.load(s.low, 2 * l), li = at.load(s.low, 2 * l + 1);
        V dr = at.load(s.d_low, 2 * l), di = at.load(s.d_low, 2 * l + 1);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
          const int64_t k = (h + r) << nl | l, p = 2 * passes.place(k);
          const V ar = at.load(lambda, p), ai = at.load(lambda, p + 1);
          const V tr = hn::MulAdd(ai, li, hn::Mul(ar, lr)), ti = hn::NegMulAdd(ar, li, hn::Mul(ai, lr));
          sum_r[r] = hn::Add(sum_r[r], tr);
          sum_i[r] = hn::Add(sum_i[r], ti);
          at.store(hn::NegMulAdd(ti, hr[r], hn::MulAdd(tr, hi[r], at.load(d_phase, k))), d_phase, k);
          dr = hn::MulAdd(ai, hi[r], hn::MulAdd(ar, hr[r], dr));
          di = hn::NegMulAdd(ar, hi[r], hn::MulAdd(ai, hr[r], di));
        }
        at.store(dr, s.d_low, 2 * l);
        at.store(di, s.d_low, 2 * l + 1);
      }
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        at.store(sum_r[r], s.d_high, 2 * (h + r));
        at.store(sum_i[r], s.d_high, 2 * (h + r) + 1);
      }
    }
  }

  /// Gradients of the wires of one half from that of their product, which is overwritten: into `wires`'
  /// place.
  HWY_ATTR HWY_INLINE void unextend(int first_wire, int wires, T* out, T* d_out) const {
    for (int j = wires - 1; j >= 1; --j) {
      const int w = first_wire + j;
      const T* before = prefix(j, wires, out);
      const V r0 = at.load(s.wires, 4 * w), i0 = at.load(s.wires, 4 * w + 1);
      const V r1 = at.load(s.wires, 4 * w + 2), i1 = at.load(s.wires, 4 * w + 3);
      V d0r = hn::Zero(d), d0i = d0r, d1r = d0r, d1i = d0r;
      for (int64_t k = 0; k < int64_t{1} << j; ++k) {
        const V pr = at.load(before, 2 * k), pi = at.load(before, 2 * k + 1);
        const V ar = at.load(d_out, 4 * k), ai = at.load(d_out, 4 * k + 1);
        const V br = at.load(d_out, 4 * k + 2), bi = at.load(d_out, 4 * k + 3);
        d0r = hn::MulAdd(ai, pi, hn::MulAdd(ar, pr, d0r));
        d0i = hn::NegMulAdd(ar, pi, hn::MulAdd(ai, pr, d0i));
        d1r = hn::MulAdd(bi, pi, hn::MulAdd(br, pr, d1r));
        d1i = hn::NegMulAdd(br, pi, hn::MulAdd(bi, pr, d1i));
        const V re = hn::MulAdd(bi, i1, hn::MulAdd(br, r1, hn::MulAdd(ai, i0, hn::Mul(ar, r0))));
        const V im = hn::NegMulAdd(br, i1, hn::MulAdd(bi, r1, hn::NegMulAdd(ar, i0, hn::Mul(ai, r0))));
        at.store(re, d_out, 2 * k);
        at.store(im, d_out, 2 * k + 1);
      }
      at.store(d0r, s.wires, 4 * w);
      at.store(d0i, s.wires, 4 * w + 1);
      at.store(d1r, s.wires, 4 * w + 2);
      at.store(d1i, s.wires, 4 * w + 3);
    }
    if (wires == 0) return;
    for (int i = 0; i < 4; ++i) at.store(at.load(d_out, i), s.wires, 4 * first_wire + i);
  }

  /// From the wires' gradients: those of the inputs, and sums for the weights.
  HWY_ATTR HWY_INLINE void decode(int64_t token) const {
    for (int w = 0; w < n; ++w) {
      const V cosine = at.load(s.angles, 2 * w), sine = at.load(s.angles, 2 * w + 1);
      const T* u = c.wire_states + 8 * w;
      V du = hn::Zero(d), dv = hn::Zero(d);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const V m = at.load(s.wires, 4 * w + i);
        du = hn::MulAdd(m, at.set(u[i]), du);
        dv = hn::MulAdd(m, at.set(u[4 + i]), dv);
        at.store(hn::MulAdd(cosine, m, at.load(s.sums, 8 * w + i)), s.sums, 8 * w + i);
        at.store(hn::MulAdd(sine, m, at.load(s.sums, 8 * w + 4 + i)), s.sums, 8 * w + 4 + i);
      }
      if (c.columns[w] < 0) continue;
      const V angle = hn::NegMulAdd(sine, du, hn::Mul(cosine, dv));
      s.dx.store(hn::Mul(angle, at.set(c.input_scale[w])), d, token, c.columns[w]);
    }
  }

  // ---- whole circuit ----

  template <bool kProduct>
  HWY_ATTR void first(const RotationLayer<T>& layer, const T* from, T* to) const {
    switch (passes.groups[0].count) {
      case 1:
        return first_pass<1, kProduct>(layer, from, to);
      case 2:
        return first_pass<2, kProduct>(layer, from, to);
      case 3:
        return first_pass<3, kProduct>(layer, from, to);
      default:
        if constexpr (kMaxBits == 4) first_pass<4, kProduct>(layer, from, to);
    }
  }

  HWY_ATTR void further(BitGroup group, const T* tangents, const T* from, T* to) const {
    switch (group.count) {
      case 1:
        return further_pass<1>(group, tangents, from, to);
      case 2:
        return further_pass<2>(group, tangents, from, to);
      case 3:
        return further_pass<3>(group, tangents, from, to);
      default:
        if constexpr (kMaxBits == 4) further_pass<4>(group, tangents, from, to);
    }
  }

  template <bool kRotate, bool kStore>
  HWY_ATTR void last(BitGroup group, const T* tangents, const T* from, T* to) const {
    switch (group.count) {
      case 1:
        return last_pass<1, kRotate, kStore>(group, tangents, from, to);
      case 2:
        return last_pass<2, kRotate, kStore>(group, tangents, from, to);
      case 3:
        return last_pass<3, kRotate, kStore>(group, tangents, from, to);
      default:
        if constexpr (kMaxBits == 4) last_pass<4, kRotate, kStore>(group, tangents, from, to);
    }
  }

  template <bool kTop, bool kBottom>
  HWY_ATTR void backward(BitGroup group, const RotationLayer<T>& layer, const T* psi, const T* lambda, T* to,
                         T* d_angles) const {
    switch (group.count) {
      case 1:
        return backward_pass<1, kTop, kBottom>(group, layer, psi, lambda, to, d_angles);
      case 2:
        return backward_pass<2, kTop, kBottom>(group, layer, psi, lambda, to, d_angles);
      case 3:
        return backward_pass<3, kTop, kBottom>(group, layer, psi, lambda, to, d_angles);
      default:
        if constexpr (kMaxBits == 4) backward_pass<4, kTop, kBottom>(group, layer, psi, lambda, to, d_angles);
    }
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
      l == 0 ? first<true>(c.layers[l], from, to) : first<false>(c.layers[l], from, to);
      const bool top = l + 1 == c.num_layers;
      for (int g = 1; g < groups; ++g) {
        const T* before = to;
        if (kKeep) to += state;
        if (top && g + 1 == groups) {
          last<true, kKeep>(passes.groups[g], c.layers[l].tangents, before, to);
        } else {
          further(passes.groups[g], c.layers[l].tangents, before, to);
        }
      }
      if (top && groups == 1) last<false, false>(passes.groups[0], nullptr, to, to);
      from = to;
    }
  }

  /// The reverse of forward<true>, from the derivatives of the strings' values in s.strings.
  HWY_ATTR void back(int64_t token) const {
    const int groups = passes.num_groups;
    const int64_t per_layer = n + (int64_t{1} << n);
    tabulate_observable();
    T *lambda = s.lambda, *other = s.lambda + state;
    for (int l = c.num_layers - 1; l >= 0; --l) {
      const RotationLayer<T>& layer = c.layers[l];
      T* sums = s.sums + (8 * n + l * per_layer) * at.lanes;
      for (int g = groups - 1; g >= 0; --g) {
        const T* psi = s.states + (l * groups + g) * state;
        const bool top = l + 1 == c.num_layers && g + 1 == groups;
        T* to = g == 0 ? other : lambda;
        if (top) {
          g == 0 ? backward<true, true>(passes.groups[g], layer, psi, lambda, to, sums)
                 : backward<true, false>(passes.groups[g], layer, psi, lambda, to, sums);
        } else {
          g == 0 ? backward<false, true>(passes.groups[g], layer, psi, lambda, to, sums)
                 : backward<false, false>(passes.groups[g], layer, psi, lambda, to, sums);
        }
      }
      std::swap(lambda, other);
      T* d_phase = sums + n * at.lanes;
      if (l > 0) {
        phase_pass(s.states + (l * groups - 1) * state, lambda, d_phase);
      } else {
        nh > 0 ? product_pass<2>(lambda, d_phase) : product_pass<1>(lambda, d_phase);
      }
    }
    unextend(nh, nl, s.low, s.d_low);
    product(0, nh, s.high);
    unextend(0, nh, s.high, s.d_high);
    decode(token);
  }

  HWY_ATTR HWY_INLINE void store_strings(int64_t token) const {
    for (int i = 0; i < c.num_strings; ++i) s.y.store(at.load(s.strings, i), d, token, i);
  }

  /// The derivatives of the strings' values, into `strings`.
  HWY_ATTR HWY_INLINE void load_derivatives(int64_t token, V& check) const {
    for (int i = 0; i < c.num_strings; ++i) {
      const V derivative = s.dy.load(d, token, i);
      check = hn::MulAdd(derivative, hn::Zero(d), check);
      at.store(derivative, s.strings, i);
    }
  }
};

template <class T>
HWY_ATTR int64_t layered_scratch_impl(const LayeredCircuit<T>& circuit, bool vjp) {
  Scratch<T> scratch;
  T none;
  return carve(circuit, vjp, &none, scratch);
}

template <class T>
HWY_ATTR bool layered_forward_impl(const LayeredCircuit<T>& circuit, int64_t tokens, TokenMatrix<const T> x,
                                   TokenMatrix<T> y, T* scratch) {
  using D = hn::ScalableTag<T>;
  Run<D> run{circuit, {}};
  carve(circuit, false, scratch, run.s);
  auto check = hn::Zero(run.d);
  for (int64_t first = 0; first < tokens; first += kCircuitBlock) {
    const int64_t count = std::min(kCircuitBlock, tokens - first);
    run.s.x.read(x, first, count);
    for (int64_t token = 0; token < count; token += run.at.lanes) {
      run.template forward<false>(token, check);
      run.store_strings(token);
    }
    run.s.y.write(y, first, count);
  }
  return hn::AllTrue(run.d, hn::Eq(check, check));
}

template <class T>
HWY_ATTR bool layered_vjp_impl(const LayeredCircuit<T>& circuit, int64_t tokens, TokenMatrix<const T> x,
                               TokenMatrix<const T> dy, TokenMatrix<T> y, TokenMatrix<T> dx,
                               double* gradients, T* scratch) {
  using D = hn::ScalableTag<T>;
  Run<D> run{circuit, {}};
  carve(circuit, true, scratch, run.s);
  auto check = hn::Zero(run.d);
  const int64_t sums = layered_gradients(circuit);
  for (int64_t i = 0; i < sums; ++i) run.at.store(hn::Zero(run.d), run.s.sums, i);
  run.s.x.read(x, 0, tokens);
  run.s.dy.read(dy, 0, tokens);
  std::fill_n(run.s.dx.data, run.s.dx.columns * kCircuitBlock, T{0});
  for (int64_t token = 0; token < tokens; token += run.at.lanes) {
    run.template forward<true>(token, check);
    run.store_strings(token);
    run.load_derivatives(token, check);
    run.back(token);
  }
  if (y.data != nullptr) run.s.y.write(y, 0, tokens);
  run.s.dx.write(dx, 0, tokens);
  for (int64_t i = 0; i < sums; ++i) {
    gradients[i] = static_cast<double>(hn::GetLane(hn::SumOfLanes(run.d, run.at.load(run.s.sums, i))));
  }
  return hn::AllTrue(run.d, hn::Eq(check, check));
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(layered_scratch_impl)
QTF_EXPORT(layered_forward_impl)
QTF_EXPORT(layered_vjp_impl)

template <class T>
int64_t layered_gradients(const LayeredCircuit<T>& c) {
  return 8 * c.qubits + c.num_layers * (c.qubits + (int64_t{1} << c.qubits));
}

template <class T>
int64_t layered_scratch(const LayeredCircuit<T>& circuit, bool vjp) {
  return layered_scratch_impl_chosen<T>()(circuit, vjp);
}

template <class T>
bool layered_forward(const LayeredCircuit<T>& circuit, int64_t tokens, TokenMatrix<const T> x,
                     TokenMatrix<T> y, T* scratch) {
  return layered_forward_impl_chosen<T>()(circuit, tokens, x, y, scratch);
}

template <class T>
bool layered_vjp(const LayeredCircuit<T>& circuit, int64_t tokens, TokenMatrix<const T> x,
                 TokenMatrix<const T> dy, TokenMatrix<T> y, TokenMatrix<T> dx, double* gradients,
                 T* scratch) {
  return layered_vjp_impl_chosen<T>()(circuit, tokens, x, dy, y, dx, gradients, scratch);
}

QTF_INSTANTIATE(layered_gradients)
QTF_INSTANTIATE(layered_scratch)
QTF_INSTANTIATE(layered_forward)
QTF_INSTANTIATE(layered_vjp)

}  // namespace qtf::kernels
#endif
