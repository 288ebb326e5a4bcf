#include "qtf/quantum/layered.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "qtf/quantum/gate_program.h"

namespace qtf::quantum {
namespace {

/// values[m] ← Σ_k (−1)^{|m & k|} values[k].
void walsh_transform(std::span<double> values) {
  for (size_t half = 1; half < values.size(); half *= 2) {
    for (size_t base = 0; base < values.size(); base += 2 * half) {
      for (size_t i = base; i < base + half; ++i) {
        const double a = values[i], b = values[i + half];
        values[i] = a + b, values[i + half] = a - b;
      }
    }
  }
}

using Pair = std::array<Complex, 2>;
using Matrix2 = std::array<Complex, 4>;

Pair multiply(const Matrix2& m, const Pair& v) {
  return {m[0] * v[0] + m[1] * v[1], m[2] * v[0] + m[3] * v[1]};
}

std::array<double, 3> angle_values(const Operation& operation, std::span<const double> weights) {
  std::array<double, 3> values{};
  for (size_t i = 0; i < operation.angles.size(); ++i) values[i] = operation.angles[i].value({}, weights);
  return values;
}

Matrix2 matrix_of(const Operation& operation, std::span<const double> weights) {
  if (operation.gate == Gate::unitary) {
    const GateMatrix& m = operation.matrix;
    return {m[0], m[1], m[2], m[3]};
  }
  return one_wire_matrix(operation.gate, angle_values(operation, weights).data());
}

/// −i·P for the axis of a rotation.
Matrix2 generator(Gate axis) {
  constexpr Complex i{0, 1};
  if (axis == Gate::rx) return {0, -i, -i, 0};
  if (axis == Gate::ry) return {0, -1, 1, 0};
  return {-i, 0, 0, i};
}

/// u and v of a wire: its state is cos(angle/2)·u + sin(angle/2)·v.
struct WireState {
  Pair u = {1, 0}, v = {0, 0};
  void apply(const Matrix2& m) { u = multiply(m, u), v = multiply(m, v); }
  void embed(const LayeredForm::Wire& wire) {
    if (wire.column >= 0) v = multiply(generator(wire.axis), u);
  }
};

/// The wire's state, with one gate (by number, `before` first) replaced by `replacement`.
WireState wire_state(const LayeredForm::Wire& wire, std::span<const double> weights,
                     size_t replaced = SIZE_MAX, const Matrix2& replacement = {}) {
  WireState state;
  size_t number = 0;
  const auto apply = [&](const Operation& operation) {
    const bool other = number++ == replaced;
    state.apply(other ? replacement : matrix_of(operation, weights));
  };
  for (const Operation& operation : wire.before) apply(operation);
  state.embed(wire);
  for (const Operation& operation : wire.after) apply(operation);
  return state;
}

}  // namespace

template <class T>
LayeredWeights<T>::LayeredWeights(const LayeredForm& form) : form_(form) {
  const auto n = static_cast<size_t>(form.qubits), size = size_t{1} << n;
  for (const LayeredForm::Wire& wire : form.wires) {
    columns_.push_back(wire.column);
    input_scale_.push_back(static_cast<T>(wire.scale));
    input_offset_.push_back(static_cast<T>(wire.offset));
  }
  strings_.assign(form.strings.begin(), form.strings.end());
  patterns_.resize((strings_.size() + 3) / 4 * size);
  for (size_t i = 0; i < strings_.size(); ++i) {
    for (size_t k = 0; k < size; ++k) {
      const bool odd = std::popcount(static_cast<uint64_t>(strings_[i]) & k) & 1;
      patterns_[i / 4 * size + k] |= static_cast<uint8_t>(odd << (i % 4));
    }
  }
  wire_states_.resize(8 * n);
  phases_.resize(size);
  for (size_t l = 0; l < form.layers.size(); ++l) {
    sources_.emplace_back(size);
    diagonals_.emplace_back(2 * size);
    tangents_.emplace_back(n);
  }
  for (size_t l = 0; l < form.layers.size(); ++l) {
    layers_.push_back({sources_[l].data(), diagonals_[l].data(), tangents_[l].data()});
  }
  kernel_ = {form.qubits,          form.inputs,
             columns_.data(),      input_scale_.data(),
             input_offset_.data(), wire_states_.data(),
             layers_.data(),       static_cast<int>(layers_.size()),
             strings_.data(),      static_cast<int>(strings_.size()),
             patterns_.data()};
}

template <class T>
void LayeredWeights<T>::prepare(std::span<const double> weights) {
  weights_.assign(weights.begin(), weights.end());
  for (int w = 0; w < form_.qubits; ++w) prepare_wire(w, weights);
  for (size_t l = 0; l < layers_.size(); ++l) prepare_layer(l, weights);
}

template <class T>
void LayeredWeights<T>::prepare_wire(int wire, std::span<const double> weights) {
  const WireState state = wire_state(form_.wires[static_cast<size_t>(wire)], weights);
  T* out = wire_states_.data() + 8 * wire;
  for (const Complex& value : {state.u[0], state.u[1], state.v[0], state.v[1]}) {
    *out++ = static_cast<T>(value.real());
    *out++ = static_cast<T>(value.imag());
  }
}

template <class T>
void LayeredWeights<T>::prepare_layer(size_t layer, std::span<const double> weights) {
  const LayeredForm::Layer& form = form_.layers[layer];
  const int n = form_.qubits;
  std::ranges::fill(phases_, 0.0);
  for (const auto& [mask, angle] : form.phases)
    phases_[static_cast<size_t>(mask)] += angle.value({}, weights);
  walsh_transform(phases_);

  // RY(θ) = RY(θ − mπ)·RY(mπ) with |tan| <= 1; for odd m, RY(mπ) is a flip of the bit and a sign.
  double scale = 1;
  int64_t flips = 0;
  for (int w = 0; w < n; ++w) {
    const auto& angle = form.angles[static_cast<size_t>(w)];
    const double theta = angle ? angle->value({}, weights) : 0, turns = std::round(theta / kPi);
    const double half = (theta - turns * kPi) / 2;
    if (std::fmod(turns, 2) != 0) flips |= wire_bit(n, w);
    tangents_[layer][static_cast<size_t>(n - 1 - w)] = static_cast<T>(std::tan(half));
    scale *= std::cos(half);
  }
  for (int64_t k = 0; k < int64_t{1} << n; ++k) {
    const int32_t source = form.source[static_cast<size_t>(k ^ flips)];
    const double angle = phases_[static_cast<size_t>(source)] / 2;
    const double sign = std::popcount(static_cast<uint64_t>(~k & flips)) & 1 ? -scale : scale;
    sources_[layer][static_cast<size_t>(k)] = source;
    diagonals_[layer][static_cast<size_t>(2 * k)] = static_cast<T>(sign * std::cos(angle));
    diagonals_[layer][static_cast<size_t>(2 * k + 1)] = static_cast<T>(-sign * std::sin(angle));
  }
}

template <class T>
void LayeredWeights<T>::add_gradients(std::span<double> sums, std::span<double> d_weights) const {
  const int n = form_.qubits;
  for (int w = 0; w < n; ++w) {
    const LayeredForm::Wire& wire = form_.wires[static_cast<size_t>(w)];
    const double* g = sums.data() + 8 * w;
    for (size_t i = 0; i < wire.before.size() + wire.after.size(); ++i) {
      const Operation& operation =
          i < wire.before.size() ? wire.before[i] : wire.after[i - wire.before.size()];
      for (size_t a = 0; a < operation.angles.size(); ++a) {
        if (operation.angles[a].constant()) continue;
        const WireState d = wire_state(
            wire, weights_, i,
            one_wire_derivative(operation.gate, angle_values(operation, weights_), static_cast<int>(a)));
        double gradient = 0;
        int at = 0;
        for (const Complex& value : {d.u[0], d.u[1], d.v[0], d.v[1]}) {
          gradient += 2 * (g[at] * value.real() + g[at + 1] * value.imag());
          at += 2;
        }
        add_angle_gradient(operation.angles[a], gradient, weights_, d_weights);
      }
    }
  }
  double* layer_sums = sums.data() + 8 * n;
  for (const LayeredForm::Layer& layer : form_.layers) {
    for (int w = 0; w < n; ++w) {
      const auto& angle = layer.angles[static_cast<size_t>(w)];
      if (angle) add_angle_gradient(*angle, layer_sums[n - 1 - w], weights_, d_weights);
    }
    const std::span<double> phases(layer_sums + n, size_t{1} << n);
    walsh_transform(phases);
    for (const auto& [mask, angle] : layer.phases) {
      add_angle_gradient(angle, phases[static_cast<size_t>(mask)], weights_, d_weights);
    }
    layer_sums += n + (int64_t{1} << n);
  }
}

template class LayeredWeights<float>;
template class LayeredWeights<double>;

}  // namespace qtf::quantum
