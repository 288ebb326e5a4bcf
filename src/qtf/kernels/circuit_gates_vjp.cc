// The way back of circuit_gates.h.
#include <algorithm>

#include "qtf/kernels/circuit_gates.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "qtf/kernels/circuit_gates_vjp.cc"
#include "qtf/kernels/dispatch.h"
// after dispatch.h, which sets the target
#include "qtf/kernels/circuit_gates-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The gradient of a vector of tokens coming back, after forward: λ, and ψ with it, step by step.
template <class D>
struct GateVjp : GateRun<D> {
  using Base = GateRun<D>;
  using Base::entry, Base::combine, Base::for_each_pair, Base::for_each_rotated, Base::input_or_one;
  using Base::p, Base::s, Base::d, Base::at, Base::size, Base::load, Base::store, Base::get, Base::put;
  using Base::per_token, Base::rotation, Base::phase, Base::applied;
  using typename Base::Complexes;
  using typename Base::Entry;
  using typename Base::T;
  using typename Base::V;

  /// ψ and λ back through a one-wire matrix; adds Σ λ_i·conj(ψ_j) of its input ψ to the sums where it has
  /// weights.
  HWY_ATTR void matrix_one_back(const CircuitStep& step) const {
    const T* m = p.matrices[step.number];
    const bool weighted = step.matrix_sums >= 0;
    T* sums = s.sums + (p.num_angles + std::max(step.matrix_sums, 0)) * at.lanes;
    Complexes e[4];
    for (int i = 0; i < 4; ++i) e[i] = {hn::Zero(d), hn::Zero(d)};
    for_each_pair(step, step.masks[0], step.roles[0], [&](int64_t a, int64_t b) HWY_ATTR {
      const Entry m0 = entry(m, 0, true), m1 = entry(m, 1, true), m2 = entry(m, 2, true),
                  m3 = entry(m, 3, true);
      const Complexes x = get(s.state, a), y = get(s.state, b);
      const Complexes in[2] = {combine(m0, x, m2, y), combine(m1, x, m3, y)};
      const Complexes out[2] = {get(s.lambda, a), get(s.lambda, b)};
      put(in[0], s.state, a);
      put(in[1], s.state, b);
      put(combine(m0, out[0], m2, out[1]), s.lambda, a);
      put(combine(m1, out[0], m3, out[1]), s.lambda, b);
      if (!weighted) return;
      for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) {
          Complexes& sum = e[2 * i + j];
          sum.re = hn::MulAdd(out[i].im, in[j].im, hn::MulAdd(out[i].re, in[j].re, sum.re));
          sum.im = hn::NegMulAdd(out[i].re, in[j].im, hn::MulAdd(out[i].im, in[j].re, sum.im));
        }
      }
    });
    if (!weighted) return;
    for (int i = 0; i < 4; ++i) {
      store(hn::Add(load(sums, 2 * i), e[i].re), sums, 2 * i);
      store(hn::Add(load(sums, 2 * i + 1), e[i].im), sums, 2 * i + 1);
    }
  }

  /// A product of amplitudes l of λ and k of ψ.
  struct Term {
    int64_t l, k;
    bool negative;
  };

  /// Re⟨λ|−i·P ψ⟩ where the step acts: the derivative by its angle.
  HWY_ATTR V rotation_gradient(const CircuitStep& step) const {
    V sum = hn::Zero(d);
    const auto imaginary = [&](int64_t l, int64_t k, bool negative) HWY_ATTR {  // ±Im(conj(λ_l)·ψ_k)
      const Complexes a = get(s.lambda, l), b = get(s.state, k);
      const V term = hn::NegMulAdd(a.im, b.re, hn::Mul(a.re, b.im));
      sum = negative ? hn::Sub(sum, term) : hn::Add(sum, term);
    };
    if (step.flips == 0) {
      for (int64_t k = 0; k < size; ++k) {
        if (controlled(step, k)) imaginary(k, k, value_at(step.signs, k));
      }
      return sum;
    }
    const bool is_real = step.num_y & 1;
    for_each_rotated(step, [&](int64_t a, int64_t b, bool na, bool nb) HWY_ATTR {
      if (!is_real) {
        imaginary(a, b, na);
        imaginary(b, a, nb);
        return;
      }
      for (const auto& [l, k, negative] : {Term{a, b, na}, Term{b, a, nb}}) {
        const Complexes x = get(s.lambda, l), y = get(s.state, k);
        const V term = hn::MulAdd(x.im, y.im, hn::Mul(x.re, y.re));
        sum = negative ? hn::Sub(sum, term) : hn::Add(sum, term);
      }
    });
    return sum;
  }

  HWY_ATTR V phase_gradient(const CircuitStep& step) const {
    V sum = hn::Zero(d);
    for (int64_t k = 0; k < size; ++k) {
      if (!controlled(step, k)) continue;
      const Complexes a = get(s.lambda, k), b = get(s.state, k);
      sum = hn::MulAdd(a.im, b.re, hn::NegMulAdd(a.re, b.im, sum));
    }
    return hn::Add(sum, sum);
  }

  /// A derivative by an angle goes to the inputs in it, and to the sums.
  HWY_ATTR void add_angle_gradient(int number, V gradient) const {
    const StepAngle<T>& angle = p.angles[number];
    V weighted = gradient;
    if (per_token(angle)) {
      const V scaled = hn::Mul(gradient, hn::Set(d, angle.scale));
      const V first = load(s.inputs, angle.first), second = input_or_one(angle.second);
      store(hn::MulAdd(scaled, second, load(s.d_inputs, angle.first)), s.d_inputs, angle.first);
      if (angle.second >= 0) {
        store(hn::MulAdd(scaled, first, load(s.d_inputs, angle.second)), s.d_inputs, angle.second);
      }
      weighted = hn::Mul(hn::Mul(gradient, first), second);
    }
    store(hn::Add(load(s.sums, number), weighted), s.sums, number);
  }

  HWY_ATTR void backward_step(const CircuitStep& step) const {
    switch (step.kind) {
      case CircuitStep::Kind::matrix:
        if (step.wires == 1) return matrix_one_back(step);
        this->template matrix_any<true>(step, s.state);
        return this->template matrix_any<true>(step, s.lambda);
      case CircuitStep::Kind::rotation:
        add_angle_gradient(step.number, rotation_gradient(step));
        rotation(step, s.state, true);
        return rotation(step, s.lambda, true);
      case CircuitStep::Kind::phase:
        add_angle_gradient(step.number, phase_gradient(step));
        phase(step, s.state, true);
        return phase(step, s.lambda, true);
    }
  }

  /// Gradients of the features from λ at the first state.
  HWY_ATTR void end() const {
    V along = hn::Zero(d);
    for (int64_t k = 0; k < size; ++k) along = hn::MulAdd(load(s.state, 2 * k), load(s.lambda, 2 * k), along);
    if (!p.normalize) along = hn::Zero(d);
    const V twice = hn::Mul(load(s.length, 0), hn::Set(d, T{2}));
    for (int64_t k = 0; k < p.features; ++k) {
      const V across = hn::NegMulAdd(along, load(s.state, 2 * k), load(s.lambda, 2 * k));
      store(hn::MulAdd(across, twice, load(s.d_inputs, k)), s.d_inputs, k);
    }
  }

  /// λ = Σ_i values_i·P_i ψ.
  HWY_ATTR void begin_back() const {
    for (int64_t k = 0; k < size; ++k) {
      Complexes sum{hn::Zero(d), hn::Zero(d)};
      for (int i = 0; i < p.num_observables; ++i) {
        const V g = load(s.values, i);
        const Complexes v = applied(p.observables[i], k);
        sum = {hn::MulAdd(g, v.re, sum.re), hn::MulAdd(g, v.im, sum.im)};
      }
      put(sum, s.lambda, k);
    }
  }

  /// λ as the caller gives it for `count` tokens: [t][k][re, im].
  HWY_ATTR void begin_back(const T* d_states, int64_t count) const {
    HWY_ALIGN T re[hn::MaxLanes(D())] = {};
    HWY_ALIGN T im[hn::MaxLanes(D())] = {};
    for (int64_t k = 0; k < size; ++k) {
      for (int64_t t = 0; t < count; ++t) {
        re[t] = d_states[2 * (t * size + k)];
        im[t] = d_states[2 * (t * size + k) + 1];
      }
      put({hn::Load(d, re), hn::Load(d, im)}, s.lambda, p.places[k]);
    }
  }

  HWY_ATTR void back(int64_t token) const {
    for (int i = 0; i < p.inputs; ++i) store(hn::Zero(d), s.d_inputs, i);
    for (int i = p.num_steps - 1; i >= 0; --i) backward_step(p.steps[i]);
    if (p.features > 0) end();
    for (int i = 0; i < p.inputs; ++i) s.dx.store(load(s.d_inputs, i), d, token, i);
  }

  /// Derivatives of the observables, into `values`.
  HWY_ATTR void load_derivatives(int64_t token, V& check) const {
    for (int i = 0; i < p.num_observables; ++i) {
      const V derivative = s.dy.load(d, token, i);
      check = hn::MulAdd(derivative, hn::Zero(d), check);
      store(derivative, s.values, i);
    }
  }
};

template <class T>
HWY_ATTR bool gates_vjp_impl(const GateProgram<T>& program, int64_t tokens, TokenMatrix<const T> x,
                             TokenMatrix<const T> dy, const T* d_states, TokenMatrix<T> y, TokenMatrix<T> dx,
                             double* gradients, T* scratch) {
  GateVjp<hn::ScalableTag<T>> run{{program, {}}};
  carve_gates(program, true, scratch, run.s);
  run.shared_angles();
  if (d_states == nullptr) run.s.dy.read(dy, 0, tokens);
  return vjp_block(run, tokens, x, y, dx, gradients, gates_gradients(program),
                   [&](int64_t token, int64_t count, auto& check) HWY_ATTR {
                     run.forward(token, count, check);
                     run.store_values(token);
                     if (d_states != nullptr) {
                       run.begin_back(d_states + 2 * token * run.size, count);
                     } else {
                       run.load_derivatives(token, check);
                       run.begin_back();
                     }
                     run.back(token);
                   });
}

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qtf::kernels {

QTF_EXPORT(gates_vjp_impl)

template <class T>
bool gates_vjp(const GateProgram<T>& program, int64_t tokens, TokenMatrix<const T> x, TokenMatrix<const T> dy,
               const T* d_states, TokenMatrix<T> y, TokenMatrix<T> dx, double* gradients, T* scratch) {
  return gates_vjp_impl_chosen<T>()(program, tokens, x, dy, d_states, y, dx, gradients, scratch);
}

QTF_INSTANTIATE(gates_vjp)

}  // namespace qtf::kernels
#endif
