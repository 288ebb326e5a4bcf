#include "qtf/quantum/gradient.h"

#include "qtf/quantum/quantum_test.h"

namespace qtf::quantum {
namespace {

std::vector<PauliString> z_wires(int n) {
  std::vector<PauliString> all;
  for (int w = 0; w < n; ++w) all.push_back(pauli_z(n, w));
  return all;
}

TEST(Jacobian, AdjointIsParameterShiftForEveryGate) {
  for (const GateInfo& gate : gate_table()) {
    if (gate.parameters == 0) continue;
    const int wires = gate.wires > 0 ? gate.wires : 3;
    Circuit circuit(3);
    for (int w = 0; w < 3; ++w) circuit.add(Gate::rot, {w}, {0.3 + w, 0.5 * w - 1, 1.1});
    std::vector<int> on;
    for (int w = 0; w < wires; ++w) on.push_back(w);
    std::vector<Angle> by_weight, by_input;
    for (int a = 0; a < gate.parameters; ++a) {
      by_weight.push_back(weight(a));
      by_input.push_back(Angle(input(a), 1.5));
    }
    circuit.add(gate.gate, on, by_weight).add(Gate::ry, {0}, {0.4}).add(Gate::cnot, {0, 2});
    circuit.add(gate.gate, on, by_input);
    const std::vector<PauliString> observables = {parse_pauli("XII", 3), parse_pauli("IYZ", 3),
                                                  parse_pauli("ZXI", 3)};
    const auto x = normal_values(gate.parameters, 1), w = normal_values(gate.parameters, 2);
    Simulator<double> simulator(circuit, observables);
    simulator.prepare(w);
    const Jacobian adjoint = adjoint_jacobian(simulator, x);
    const Jacobian shifts = parameter_shift_jacobian(circuit, observables, x, w);
    EXPECT_LT(largest_difference(adjoint.inputs, shifts.inputs), 1e-14) << gate.name;
    EXPECT_LT(largest_difference(adjoint.weights, shifts.weights), 1e-14) << gate.name;
    EXPECT_EQ(parameter_shift_evaluations(circuit), 2 * gate.parameters * gate.shift_terms);
  }
}

TEST(Jacobian, ProductsOfVariablesGoToBoth) {
  Circuit circuit(2);
  circuit.add(Gate::ry, {0}, {Angle(input(0), weight(0), 0.7)}).add(Gate::cnot, {0, 1});
  circuit.add(Gate::rx, {1}, {Angle(input(0), input(1))}).add(Gate::ry, {0}, {Angle(weight(0), weight(1))});
  const std::vector<double> x = {0.4, 1.3}, w = {0.9, -0.6};
  Simulator<double> simulator(circuit);
  simulator.prepare(w);
  const Jacobian adjoint = adjoint_jacobian(simulator, x),
                 shifts = parameter_shift_jacobian(circuit, z_wires(2), x, w);
  EXPECT_LT(largest_difference(adjoint.inputs, shifts.inputs), 1e-15);
  EXPECT_LT(largest_difference(adjoint.weights, shifts.weights), 1e-15);
}

TEST(Jacobian, RefusesWhatHasNone) {
  const Circuit circuit = layered_circuit({.qubits = 2, .embedding = Embedding::amplitude});
  const std::vector<double> x(4, 0.5), w(12);
  expect_refused([&] { parameter_shift_jacobian(circuit, z_wires(2), x, w); }, "no shift rule");
  Simulator<double> simulator(layered_circuit({.qubits = 2}));
  simulator.prepare(w);
  expect_refused([&] { adjoint_jacobian(simulator, x); }, "takes 2 inputs, got 4");
}

TEST(FidelityKernel, GradientsAreCentralDifferences) {
  constexpr double kStep = 1e-5;
  const Circuit circuit = layered_circuit({.qubits = 3});
  auto x = normal_values(4 * 3, 1), query = normal_values(18, 2), key = normal_values(18, 3);
  const auto derivative = normal_values(16, 4);
  const auto loss = [&] {
    const auto k = fidelity_kernel(circuit, {x.data(), 4, 3}, query, key).values;
    double sum = 0;
    for (size_t i = 0; i < 16; ++i) sum += k[i] * derivative[i];
    return sum;
  };
  const FidelityKernel kernel = fidelity_kernel(circuit, {x.data(), 4, 3}, query, key, derivative);
  const auto check = [&](std::vector<double>& values, const std::vector<double>& gradient) {
    for (size_t i = 0; i < values.size(); ++i) {
      const double before = values[i];
      values[i] = before + kStep;
      const double above = loss();
      values[i] = before - kStep;
      const double below = loss();
      values[i] = before;
      EXPECT_NEAR(gradient[i], (above - below) / (2 * kStep), 1e-9);
    }
  };
  check(x, kernel.dx);
  check(query, kernel.d_query);
  check(key, kernel.d_key);
  expect_refused(
      [&] {
        fidelity_kernel(circuit, {x.data(), 4, 3}, query, key, std::vector<double>(3));
      },
      "got 3");
}

}  // namespace
}  // namespace qtf::quantum
