#include "qtf/quantum/gradient.h"

#include "qtf/base/error.h"

namespace qtf::quantum {
namespace {

/// One evaluation of a shift rule: factor · f(angle + shift).
struct Shift {
  double shift, factor;
};

std::span<const Shift> shift_rule(int terms) {
  static constexpr Shift kTwo[] = {{kPi / 2, 0.5}, {-kPi / 2, -0.5}};
  static constexpr double kRoot = std::numbers::sqrt2;
  static constexpr double kNear = (kRoot + 1) / (4 * kRoot), kFar = (kRoot - 1) / (4 * kRoot);
  static constexpr Shift kFour[] = {
      {kPi / 2, kNear}, {-kPi / 2, -kNear}, {3 * kPi / 2, -kFar}, {-3 * kPi / 2, kFar}};
  if (terms == 2) return kTwo;
  return kFour;
}

/// The circuit with one angle moved.
Circuit shifted(const Circuit& circuit, size_t operation, size_t angle, double shift) {
  Circuit moved(circuit.qubits());
  for (size_t i = 0; i < circuit.operations().size(); ++i) {
    const Operation& o = circuit.operations()[i];
    if (o.gate == Gate::unitary) {
      moved.add_unitary(o.matrix, o.wires);
      continue;
    }
    std::vector<Angle> angles = o.angles;
    if (i == operation) angles[angle].offset += shift;
    moved.add(o.gate, o.wires, angles);
  }
  return moved;
}

/// Calls body(operation, angle) for each angle with a variable.
template <class Body>
void for_each_variable_angle(const Circuit& circuit, const Body& body) {
  for (size_t i = 0; i < circuit.operations().size(); ++i) {
    for (size_t a = 0; a < circuit.operations()[i].angles.size(); ++a) {
      if (!circuit.operations()[i].angles[a].constant()) body(i, a);
    }
  }
}

/// States of a batch of tokens.
struct States {
  int64_t dimension;
  std::vector<Complex> amplitudes;
  std::span<const Complex> operator[](int64_t t) const {
    return std::span(amplitudes).subspan(static_cast<size_t>(t * dimension), static_cast<size_t>(dimension));
  }
};

States states_of(const Simulator<double>& simulator, ConstMatrix<double> x, Workspace<double>& workspace) {
  States states{simulator.circuit().dimension(), {}};
  states.amplitudes.resize(static_cast<size_t>(x.rows * states.dimension));
  simulator.states(x, states.amplitudes, workspace);
  return states;
}

Complex overlap(std::span<const Complex> a, std::span<const Complex> b) {
  Complex sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::conj(a[i]) * b[i];
  return sum;
}

}  // namespace

Jacobian adjoint_jacobian(const Simulator<double>& simulator, std::span<const double> inputs) {
  const int64_t n = simulator.inputs(), m = simulator.weights(), outputs = simulator.outputs();
  if (static_cast<int64_t>(inputs.size()) != n) {
    throw_input_error("jacobian", "the circuit takes {} inputs, got {}", n, inputs.size());
  }
  Jacobian jacobian{std::vector<double>(static_cast<size_t>(outputs * n)),
                    std::vector<double>(static_cast<size_t>(outputs * m))};
  Workspace<double> workspace;
  std::vector<double> dy(static_cast<size_t>(outputs));
  for (int64_t i = 0; i < outputs; ++i) {
    dy[static_cast<size_t>(i)] = 1;
    simulator.vjp({inputs.data(), 1, n}, {dy.data(), 1, outputs}, {}, {jacobian.inputs.data() + i * n, 1, n},
                  std::span(jacobian.weights).subspan(static_cast<size_t>(i * m), static_cast<size_t>(m)),
                  workspace);
    dy[static_cast<size_t>(i)] = 0;
  }
  return jacobian;
}

Jacobian parameter_shift_jacobian(const Circuit& circuit, std::span<const PauliString> observables,
                                  std::span<const double> inputs, std::span<const double> weights) {
  if (circuit.amplitude_embedding()) {
    throw_input_error("parameter_shift", "amplitude embedding has no shift rule; use the adjoint gradient");
  }
  check_variables(circuit, inputs, weights);
  const size_t outputs = observables.size();
  Jacobian jacobian{std::vector<double>(outputs * inputs.size()),
                    std::vector<double>(outputs * weights.size())};
  for_each_variable_angle(circuit, [&](size_t i, size_t a) {
    const Operation& operation = circuit.operations()[i];
    const Angle& angle = operation.angles[a];
    std::vector<double> derivative(outputs);
    for (const auto& [shift, factor] : shift_rule(info(operation.gate).shift_terms)) {
      const State state = run(shifted(circuit, i, a, shift), inputs, weights);
      for (size_t o = 0; o < outputs; ++o) derivative[o] += factor * expectation(state, observables[o]);
    }
    const auto add = [&](Variable v, Variable other) {
      if (v.kind == Variable::Kind::none) return;
      const bool is_input = v.kind == Variable::Kind::input;
      std::vector<double>& out = is_input ? jacobian.inputs : jacobian.weights;
      const size_t columns = is_input ? inputs.size() : weights.size();
      const double factor = Angle(other).constant() ? 1 : Angle(other).value(inputs, weights);
      for (size_t o = 0; o < outputs; ++o) {
        out[o * columns + static_cast<size_t>(v.index)] += derivative[o] * angle.scale * factor;
      }
    };
    add(angle.first, angle.second);
    add(angle.second, angle.first);
  });
  return jacobian;
}

int64_t parameter_shift_evaluations(const Circuit& circuit) {
  int64_t count = 0;
  for_each_variable_angle(circuit,
                          [&](size_t i, size_t) { count += info(circuit.operations()[i].gate).shift_terms; });
  return count;
}

FidelityKernel fidelity_kernel(const Circuit& circuit, ConstMatrix<double> x,
                               std::span<const double> query_weights, std::span<const double> key_weights,
                               std::span<const double> derivative) {
  const int64_t tokens = x.rows;
  if (!derivative.empty() && static_cast<int64_t>(derivative.size()) != tokens * tokens) {
    throw_input_error("kernel", "the derivative of {} tokens has {} numbers, got {}", tokens, tokens * tokens,
                      derivative.size());
  }
  Simulator<double> query(circuit, {}, Path::generic), key(circuit, {}, Path::generic);
  query.prepare(query_weights);
  key.prepare(key_weights);
  Workspace<double> workspace;
  const States a = states_of(query, x, workspace), b = states_of(key, x, workspace);
  FidelityKernel kernel{std::vector<double>(static_cast<size_t>(tokens * tokens)), {}, {}, {}};
  // K = |s|², s = ⟨a|b⟩: dK = 2·Re(⟨s·a|db⟩ + ⟨conj(s)·b|da⟩).
  States da{a.dimension, std::vector<Complex>(a.amplitudes.size())}, db = da;
  for (int64_t i = 0; i < tokens; ++i) {
    for (int64_t j = 0; j < tokens; ++j) {
      const Complex s = overlap(a[i], b[j]);
      const auto at = static_cast<size_t>(i * tokens + j);
      kernel.values[at] = std::norm(s);
      if (derivative.empty()) continue;
      for (int64_t k = 0; k < a.dimension; ++k) {
        const auto ai = static_cast<size_t>(i * a.dimension + k),
                   bj = static_cast<size_t>(j * a.dimension + k);
        da.amplitudes[ai] += derivative[at] * std::conj(s) * b.amplitudes[bj];
        db.amplitudes[bj] += derivative[at] * s * a.amplitudes[ai];
      }
    }
  }
  if (derivative.empty()) return kernel;
  std::vector<double> dx_key(static_cast<size_t>(tokens * x.cols));
  kernel.dx.resize(dx_key.size());
  kernel.d_query.resize(query_weights.size());
  kernel.d_key.resize(key_weights.size());
  query.states_vjp(x, da.amplitudes, {kernel.dx.data(), tokens, x.cols}, kernel.d_query, workspace);
  key.states_vjp(x, db.amplitudes, {dx_key.data(), tokens, x.cols}, kernel.d_key, workspace);
  for (size_t i = 0; i < dx_key.size(); ++i) kernel.dx[i] += dx_key[i];
  return kernel;
}

}  // namespace qtf::quantum
