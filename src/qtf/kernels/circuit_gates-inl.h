// One vector of tokens passing a program gate by gate: what the kernels of both ways share. Compiled once an
// instruction set.
#if defined(QTF_KERNELS_CIRCUIT_GATES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QTF_KERNELS_CIRCUIT_GATES_INL_H_
#undef QTF_KERNELS_CIRCUIT_GATES_INL_H_
#else
#define QTF_KERNELS_CIRCUIT_GATES_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "qtf/kernels/circuit_gates.h"
#include "qtf/kernels/circuit_passes-inl.h"
#include "qtf/kernels/sincos-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qtf::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE bool value_at(const Parity& parity, int64_t place) {
  return odd(parity.bits & place) != parity.flip;
}

HWY_INLINE bool controlled(const CircuitStep& step, int64_t place) {
  for (int i = 0; i < step.num_controls; ++i) {
    if (!value_at(step.controls[i], place)) return false;
  }
  return true;
}

/// Enumerates the sets of places that a step mixes: the first place of each has every role 0.
class Sets {
 public:
  Sets(int qubits, const int32_t* masks, int count) : count_(count), size_(int64_t{1} << (qubits - count)) {
    // Gauss: a bit for each mask that no other (reduced) mask has. Zeros inserted there name each set once.
    int32_t reduced[kMaxStepWires];
    for (int i = 0; i < count; ++i) {
      reduced[i] = masks[i];
      for (int j = 0; j < i; ++j) {
        if (reduced[i] & pivots_[j]) reduced[i] ^= reduced[j];
      }
      pivots_[i] = static_cast<int32_t>(std::bit_floor(static_cast<uint32_t>(reduced[i])));
      for (int j = 0; j < i; ++j) {
        if (reduced[j] & pivots_[i]) reduced[j] ^= reduced[i];
      }
    }
    for (int i = 1; i < count; ++i) {
      for (int j = i; j > 0 && pivots_[j] < pivots_[j - 1]; --j) std::swap(pivots_[j], pivots_[j - 1]);
    }
  }

  int64_t size() const { return size_; }

  HWY_INLINE int64_t operator[](int64_t i) const {
    for (int b = 0; b < count_; ++b) {
      const int64_t below = pivots_[b] - 1;
      i = (i & ~below) << 1 | (i & below);
    }
    return i;
  }

 private:
  int count_;
  int64_t size_;
  int32_t pivots_[kMaxStepWires] = {};
};

template <class T>
struct GateScratch {
  Staged<T> x, dy, y, dx;
  T* inputs;    // [inputs]
  T* angles;    // [num_angles][cos, sin]
  T* state;     // [2^n][re, im]
  T* few;       // [2 · 2^kMaxStepWires][re, im] within a step
  T* values;    // [num_observables]
  T* length;    // [1] of the embedded vector
  T* lambda;    // [2^n][re, im]
  T* d_inputs;  // [inputs]
  T* sums;      // what gates_gradients lists
};

template <class T>
HWY_ATTR int64_t carve_gates(const GateProgram<T>& p, bool vjp, T* base, GateScratch<T>& s) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  int64_t used = 0;
  const auto take = [&](int64_t vectors) {
    T* place = base + used;
    used += std::max<int64_t>(vectors, 1) * lanes;
    return place;
  };
  const auto stage = [&](int64_t columns) {
    return Staged<T>{take(columns * kCircuitBlock / lanes), columns};
  };
  s.x = stage(p.inputs);
  s.y = stage(p.num_observables);
  s.inputs = take(p.inputs);
  s.angles = take(2 * p.num_angles);
  s.state = take(int64_t{2} << p.qubits);
  s.few = take(int64_t{4} << kMaxStepWires);
  s.values = take(p.num_observables);
  s.length = take(1);
  if (!vjp) return used;
  s.dy = stage(p.num_observables);
  s.dx = stage(p.inputs);
  s.lambda = take(int64_t{2} << p.qubits);
  s.d_inputs = take(p.inputs);
  s.sums = take(gates_gradients(p));
  return used;
}

/// One vector of tokens passing the program.
template <class D>
struct GateRun {
  using T = hn::TFromD<D>;
  using V = hn::Vec<D>;

  const GateProgram<T>& p;
  GateScratch<T> s;
  D d = {};
  Vectors<D> at = {d};
  int64_t size = int64_t{1} << p.qubits;

  HWY_ATTR HWY_INLINE V load(const T* from, int64_t i) const { return at.load(from, i); }
  HWY_ATTR HWY_INLINE void store(V v, T* to, int64_t i) const { at.store(v, to, i); }

  // ---- inputs and angles ----

  HWY_ATTR void read_inputs(int64_t token, V& check) const {
    for (int i = 0; i < p.inputs; ++i) {
      const V value = s.x.load(d, token, i);
      check = hn::MulAdd(value, hn::Zero(d), check);
      store(value, s.inputs, i);
    }
  }

  HWY_ATTR HWY_INLINE V input_or_one(int32_t column) const {
    return column < 0 ? hn::Set(d, T{1}) : load(s.inputs, column);
  }

  HWY_ATTR HWY_INLINE bool per_token(const StepAngle<T>& angle) const { return angle.first >= 0; }

  HWY_ATTR void store_angle(int i, V angle) const {
    const auto [sine, cosine] = half_sincos<true>(d, p.angles[i].doubled ? hn::Add(angle, angle) : angle);
    store(cosine, s.angles, 2 * i);
    store(sine, s.angles, 2 * i + 1);
  }

  /// Cosines and sines of angles without inputs: once a call.
  HWY_ATTR void shared_angles() const {
    for (int i = 0; i < p.num_angles; ++i) {
      if (!per_token(p.angles[i])) store_angle(i, hn::Set(d, p.angles[i].offset));
    }
  }

  HWY_ATTR void token_angles() const {
    for (int i = 0; i < p.num_angles; ++i) {
      const StepAngle<T>& angle = p.angles[i];
      if (!per_token(angle)) continue;
      const V product = hn::Mul(input_or_one(angle.first), input_or_one(angle.second));
      store_angle(i, hn::MulAdd(product, hn::Set(d, angle.scale), hn::Set(d, angle.offset)));
    }
  }

  // ---- the first state ----

  HWY_ATTR void start(V& check, int64_t count) const {
    if (p.features == 0) {
      for (int64_t k = 0; k < 2 * size; ++k) store(hn::Zero(d), s.state, k);
      store(hn::Set(d, T{1}), s.state, 0);
      return;
    }
    V squares = hn::Zero(d);
    for (int64_t k = 0; k < size; ++k) {
      const V value = k < p.features ? load(s.inputs, k) : hn::Set(d, p.pad);
      squares = hn::MulAdd(value, value, squares);
      store(value, s.state, 2 * k);
      store(hn::Zero(d), s.state, 2 * k + 1);
    }
    V length = hn::Sqrt(squares);
    // Tokens beyond the last are vectors of zeros; they may stay that.
    const auto beyond = hn::Not(hn::FirstN(d, static_cast<size_t>(count)));
    if (!p.normalize) {
      const auto off = hn::Gt(hn::Abs(hn::Sub(length, hn::Set(d, T{1}))), hn::Set(d, T(1e-5)));
      check = hn::IfThenElse(hn::And(off, hn::Not(beyond)), hn::NaN(d), check);
      length = hn::Set(d, T{1});
    }
    length = hn::IfThenElse(beyond, hn::Set(d, T{1}), length);
    const V inverse = hn::Div(hn::Set(d, T{1}), length);
    check = hn::MulAdd(hn::Mul(inverse, hn::Zero(d)), inverse, check);  // 0·∞ where there is no direction
    store(inverse, s.length, 0);
    for (int64_t k = 0; k < size; ++k) store(hn::Mul(load(s.state, 2 * k), inverse), s.state, 2 * k);
  }

  // ---- steps ----

  struct Complexes {
    V re, im;
  };
  HWY_ATTR HWY_INLINE Complexes get(const T* state, int64_t place) const {
    return {load(state, 2 * place), load(state, 2 * place + 1)};
  }
  HWY_ATTR HWY_INLINE void put(Complexes v, T* state, int64_t place) const {
    store(v.re, state, 2 * place);
    store(v.im, state, 2 * place + 1);
  }
  struct Entry {
    T re, im;
  };
  HWY_ATTR HWY_INLINE Complexes multiply_add(Entry m, Complexes v, Complexes sum) const {
    const V re = hn::Set(d, m.re), im = hn::Set(d, m.im);
    return {hn::NegMulAdd(im, v.im, hn::MulAdd(re, v.re, sum.re)),
            hn::MulAdd(im, v.re, hn::MulAdd(re, v.im, sum.im))};
  }
  HWY_ATTR HWY_INLINE Complexes combine(Entry a, Complexes x, Entry b, Complexes y) const {
    const V re = hn::Set(d, a.re), im = hn::Set(d, a.im);
    const Complexes first{hn::NegMulAdd(im, x.im, hn::Mul(re, x.re)),
                          hn::MulAdd(im, x.re, hn::Mul(re, x.im))};
    return multiply_add(b, y, first);
  }
  HWY_ATTR HWY_INLINE Entry entry(const T* m, int64_t i, bool conjugate) const {
    return {m[2 * i], conjugate ? -m[2 * i + 1] : m[2 * i + 1]};
  }

  /// The sets of a step with one mask: first place with the role 0.
  template <class Body>
  HWY_ATTR HWY_INLINE void for_each_pair(const CircuitStep& step, int32_t mask, const Parity& role,
                                         Body&& body) const {
    const Sets sets(p.qubits, &mask, 1);
    for (int64_t i = 0; i < sets.size(); ++i) {
      int64_t a = sets[i];
      if (value_at(role, a)) a ^= mask;
      if (controlled(step, a)) body(a, a ^ mask);
    }
  }

  HWY_ATTR void matrix_one(const CircuitStep& step, T* state) const {
    const T* m = p.matrices[step.number];
    for_each_pair(step, step.masks[0], step.roles[0], [&](int64_t a, int64_t b) HWY_ATTR {
      const Complexes x = get(state, a), y = get(state, b);
      put(combine(entry(m, 0, false), x, entry(m, 1, false), y), state, a);
      put(combine(entry(m, 2, false), x, entry(m, 3, false), y), state, b);
    });
  }

  /// state ← m·state, kInverse: m†, any number of wires.
  template <bool kInverse>
  HWY_ATTR void matrix_any(const CircuitStep& step, T* state) const {
    const T* m = p.matrices[step.number];
    const int64_t dim = int64_t{1} << step.wires;
    const Sets sets(p.qubits, step.masks, step.wires);
    int64_t offsets[1 << kMaxStepWires];
    for (int64_t j = 0; j < dim; ++j) {
      offsets[j] = 0;
      for (int w = 0; w < step.wires; ++w) {
        if (j >> (step.wires - 1 - w) & 1) offsets[j] ^= step.masks[w];
      }
    }
    for (int64_t i = 0; i < sets.size(); ++i) {
      int64_t base = sets[i];
      for (int w = 0; w < step.wires; ++w) {
        if (value_at(step.roles[w], base)) base ^= step.masks[w];
      }
      if (!controlled(step, base)) continue;
      for (int64_t r = 0; r < dim; ++r) {
        Complexes sum{hn::Zero(d), hn::Zero(d)};
        for (int64_t j = 0; j < dim; ++j) {
          const Entry value = kInverse ? entry(m, j * dim + r, true) : entry(m, r * dim + j, false);
          sum = multiply_add(value, get(state, base ^ offsets[j]), sum);
        }
        put(sum, s.few, r);
      }
      for (int64_t r = 0; r < dim; ++r) put(get(s.few, r), state, base ^ offsets[r]);
    }
  }

  /// −i·P on a pair is [0 −q; q 0] times a sign (odd number of Y) or −i·[0 q; q 0]: calls body(a, b, q, q of
  /// a's partner) with q = ±1 as the factor of the partner's amplitude.
  template <class Body>
  HWY_ATTR HWY_INLINE void for_each_rotated(const CircuitStep& step, Body&& body) const {
    const bool negative = step.num_y & 2;  // i^{num_y}: 1, i, −1, −i
    const Sets sets(p.qubits, &step.flips, 1);
    for (int64_t i = 0; i < sets.size(); ++i) {
      const int64_t a = sets[i], b = a ^ step.flips;
      if (!controlled(step, a)) continue;
      body(a, b, value_at(step.signs, b) != negative, value_at(step.signs, a) != negative);
    }
  }

  HWY_ATTR HWY_INLINE V signed_sine(V sine, bool negative) const { return negative ? hn::Neg(sine) : sine; }

  /// (a, b) ← exp(−i·angle/2·P) of them; sa and sb are the sine with the signs for a and for b.
  HWY_ATTR HWY_INLINE void rotate_pair(bool real, V c, V sa, V sb, T* state, int64_t a, int64_t b) const {
    const Complexes x = get(state, a), y = get(state, b);
    if (real) {
      put({hn::MulAdd(sa, y.re, hn::Mul(c, x.re)), hn::MulAdd(sa, y.im, hn::Mul(c, x.im))}, state, a);
      put({hn::MulAdd(sb, x.re, hn::Mul(c, y.re)), hn::MulAdd(sb, x.im, hn::Mul(c, y.im))}, state, b);
    } else {
      put({hn::MulAdd(sa, y.im, hn::Mul(c, x.re)), hn::NegMulAdd(sa, y.re, hn::Mul(c, x.im))}, state, a);
      put({hn::MulAdd(sb, x.im, hn::Mul(c, y.re)), hn::NegMulAdd(sb, x.re, hn::Mul(c, y.im))}, state, b);
    }
  }

  /// state[k] *= c − i·s, with s's sign at k.
  HWY_ATTR HWY_INLINE void turn(V c, V sine, T* state, int64_t k) const {
    const Complexes x = get(state, k);
    put({hn::MulAdd(sine, x.im, hn::Mul(c, x.re)), hn::NegMulAdd(sine, x.re, hn::Mul(c, x.im))}, state, k);
  }

  HWY_ATTR void rotation(const CircuitStep& step, T* state, bool inverse) const {
    const V c = load(s.angles, 2 * step.number), sine = load(s.angles, 2 * step.number + 1);
    if (step.flips == 0) {
      for (int64_t k = 0; k < size; ++k) {
        if (controlled(step, k)) turn(c, signed_sine(sine, value_at(step.signs, k) != inverse), state, k);
      }
      return;
    }
    const bool real = step.num_y & 1;
    for_each_rotated(step, [&](int64_t a, int64_t b, bool na, bool nb) HWY_ATTR {
      rotate_pair(real, c, signed_sine(sine, na != inverse), signed_sine(sine, nb != inverse), state, a, b);
    });
  }

  /// state[k] *= e^{±i·angle} where all controls are 1.
  HWY_ATTR void phase(const CircuitStep& step, T* state, bool inverse) const {
    const V c = load(s.angles, 2 * step.number), sine = load(s.angles, 2 * step.number + 1);
    for (int64_t k = 0; k < size; ++k) {
      if (controlled(step, k)) turn(c, signed_sine(sine, !inverse), state, k);
    }
  }

  HWY_ATTR void forward_step(const CircuitStep& step) const {
    switch (step.kind) {
      case CircuitStep::Kind::matrix:
        return step.wires == 1 ? matrix_one(step, s.state) : matrix_any<false>(step, s.state);
      case CircuitStep::Kind::rotation:
        return rotation(step, s.state, false);
      case CircuitStep::Kind::phase:
        return phase(step, s.state, false);
    }
  }

  // ---- observables ----

  /// (Pψ)_k for a place k.
  HWY_ATTR HWY_INLINE Complexes applied(const StepObservable& o, int64_t k) const {
    const int64_t from = k ^ o.flips;
    Complexes v = get(s.state, from);
    const bool negative = value_at(o.signs, from) != static_cast<bool>(o.num_y & 2);
    if (o.num_y & 1) v = {hn::Neg(v.im), v.re};
    return negative ? Complexes{hn::Neg(v.re), hn::Neg(v.im)} : v;
  }

  HWY_ATTR void observe() const {
    for (int i = 0; i < p.num_observables; ++i) {
      const StepObservable& o = p.observables[i];
      V sum = hn::Zero(d);
      for (int64_t k = 0; k < size; ++k) {
        const Complexes a = get(s.state, k), b = applied(o, k);
        sum = hn::MulAdd(a.im, b.im, hn::MulAdd(a.re, b.re, sum));
      }
      store(sum, s.values, i);
    }
  }

  // ---- whole programs ----

  /// The vector of tokens that begins at `token`, of which `count` exist.
  HWY_ATTR void forward(int64_t token, int64_t count, V& check) const {
    read_inputs(token, check);
    token_angles();
    start(check, count);
    for (int i = 0; i < p.num_steps; ++i) forward_step(p.steps[i]);
    observe();
  }

  HWY_ATTR void store_values(int64_t token) const {
    for (int i = 0; i < p.num_observables; ++i) s.y.store(load(s.values, i), d, token, i);
  }
};

}  // namespace qtf::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
