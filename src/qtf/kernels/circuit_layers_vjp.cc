// The way back of circuit_layers.h.
#include <algorithm>

#include "qtf/kernels/circuit_layers.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/circuit_layers_vjp.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
#include "qtf/kernels/circuit_layers-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The gradient of a vector of tokens coming back, after forward<true>.
template <class D>
struct LayeredVjp : LayeredRun<D> {
  using Base = LayeredRun<D>;
  using Base::c, Base::s, Base::d, Base::at, Base::passes, Base::n, Base::nh, Base::nl, Base::state;
  using Base::for_each_set, Base::stride, Base::prefix, Base::product;
  using typename Base::T;
  using typename Base::V;

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
        with_width(passes.groups[g], [&](auto width) HWY_ATTR {
          if (top) {
            g == 0 ? backward_pass<width(), true, true>(passes.groups[g], layer, psi, lambda, to, sums)
                   : backward_pass<width(), true, false>(passes.groups[g], layer, psi, lambda, to, sums);
          } else {
            g == 0 ? backward_pass<width(), false, true>(passes.groups[g], layer, psi, lambda, to, sums)
                   : backward_pass<width(), false, false>(passes.groups[g], layer, psi, lambda, to, sums);
          }
        });
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
HWY_ATTR bool layered_vjp_impl(const LayeredCircuit<T>& circuit, int64_t tokens, TokenMatrix<const T> x,
                               TokenMatrix<const T> dy, TokenMatrix<T> y, TokenMatrix<T> dx,
                               double* gradients, T* scratch) {
  LayeredVjp<hn::ScalableTag<T>> run{{circuit, {}}};
  carve_layers(circuit, true, scratch, run.s);
  run.s.dy.read(dy, 0, tokens);
  std::fill_n(run.s.dx.data, run.s.dx.columns * kCircuitBlock, T{0});
  return vjp_block(run, tokens, x, y, dx, gradients, layered_gradients(circuit),
                   [&](int64_t token, int64_t, auto& check) HWY_ATTR {
                     run.template forward<true>(token, check);
                     run.store_strings(token);
                     run.load_derivatives(token, check);
                     run.back(token);
                   });
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(layered_vjp_impl)

template <class T>
bool layered_vjp(const LayeredCircuit<T>& circuit, int64_t tokens, TokenMatrix<const T> x,
                 TokenMatrix<const T> dy, TokenMatrix<T> y, TokenMatrix<T> dx, double* gradients,
                 T* scratch) {
  return layered_vjp_impl_chosen<T>()(circuit, tokens, x, dy, y, dx, gradients, scratch);
}

QTF_INSTANTIATE(layered_vjp)

}  // namespace qtf::kernels
#endif
