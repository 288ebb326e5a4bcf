#include "qtf/quantum/gates.h"

#include <algorithm>
#include <cmath>

#include "qtf/quantum/quantum_test.h"

namespace qtf::quantum {
namespace {

int wires_of(const GateInfo& gate) {
  return gate.wires > 0 ? gate.wires : 3;
}

std::vector<double> some_angles(const GateInfo& gate) {
  return normal_values(gate.parameters, static_cast<uint64_t>(gate.gate), 2);
}

TEST(GateTable, RowsAreInOrderAndFoundByName) {
  for (size_t i = 0; i < gate_table().size(); ++i) {
    const GateInfo& gate = gate_table()[i];
    EXPECT_EQ(static_cast<size_t>(gate.gate), i) << gate.name;
    EXPECT_EQ(find_gate(gate.name), &gate);
    EXPECT_EQ(find_qasm_gate(gate.qasm), gate.qasm.empty() ? nullptr : &gate);
    EXPECT_FALSE(gate.symbol.empty());
  }
  EXPECT_EQ(find_gate("NoSuchGate"), nullptr);
  EXPECT_EQ(find_qasm_gate(""), nullptr);
  EXPECT_EQ(find_qasm_gate("u1")->gate, Gate::phase_shift);
  EXPECT_EQ(find_gate("H")->gate, Gate::hadamard);
}

TEST(GateTable, EveryGateIsUnitary) {
  for (const GateInfo& gate : gate_table()) {
    if (gate.gate == Gate::unitary) continue;
    const GateMatrix m = gate_matrix(gate.gate, some_angles(gate), wires_of(gate));
    EXPECT_LT(unitarity_error(m, int64_t{1} << wires_of(gate)), 1e-15) << gate.name;
  }
}

TEST(GateTable, DerivativesAreCentralDifferences) {
  constexpr double kStep = 1e-5;
  for (const GateInfo& gate : gate_table()) {
    for (int a = 0; a < gate.parameters; ++a) {
      std::vector<double> angles = some_angles(gate);
      const GateMatrix d = gate_derivative(gate.gate, angles, a, wires_of(gate));
      angles[static_cast<size_t>(a)] += kStep;
      const GateMatrix above = gate_matrix(gate.gate, angles, wires_of(gate));
      angles[static_cast<size_t>(a)] -= 2 * kStep;
      const GateMatrix below = gate_matrix(gate.gate, angles, wires_of(gate));
      for (size_t i = 0; i < d.size(); ++i) {
        EXPECT_LT(std::abs(d[i] - (above[i] - below[i]) / (2 * kStep)), 1e-10) << gate.name << " angle " << a;
      }
    }
  }
}

TEST(GateTable, OneWireMatricesAreTheTables) {
  for (const GateInfo& gate : gate_table()) {
    if (gate.wires != 1) continue;
    const std::vector<double> angles = some_angles(gate);
    std::array<double, 3> three{};
    std::ranges::copy(angles, three.begin());
    const auto m = one_wire_matrix(gate.gate, three.data());
    const GateMatrix want = gate_matrix(gate.gate, angles, 1);
    for (size_t i = 0; i < 4; ++i) EXPECT_LT(std::abs(m[i] - want[i]), 1e-15) << gate.name;
    for (int a = 0; a < gate.parameters; ++a) {
      const auto d = one_wire_derivative(gate.gate, three, a);
      const GateMatrix d_want = gate_derivative(gate.gate, angles, a, 1);
      for (size_t i = 0; i < 4; ++i) EXPECT_LT(std::abs(d[i] - d_want[i]), 1e-15) << gate.name;
    }
  }
}

/// Laws that tell conventions apart, beside the reference vectors.
TEST(GateTable, FollowsPennyLanesConventions) {
  const double phi = 0.3, theta = 1.1, omega = -0.7;
  const auto product = [](const GateMatrix& a, const GateMatrix& b) {
    return GateMatrix{a[0] * b[0] + a[1] * b[2], a[0] * b[1] + a[1] * b[3], a[2] * b[0] + a[3] * b[2],
                      a[2] * b[1] + a[3] * b[3]};
  };
  const auto one = [](Gate gate, double angle) { return gate_matrix(gate, std::vector{angle}, 1); };
  // RZ(φ) is applied first.
  const GateMatrix rot = gate_matrix(Gate::rot, std::vector{phi, theta, omega}, 1);
  const GateMatrix rot_want =
      product(one(Gate::rz, omega), product(one(Gate::ry, theta), one(Gate::rz, phi)));
  const GateMatrix u3 = gate_matrix(Gate::u3, std::vector{theta, phi, omega}, 1);
  const GateMatrix u3_want =
      product(one(Gate::phase_shift, phi), product(one(Gate::ry, theta), one(Gate::phase_shift, omega)));
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_LT(std::abs(rot[i] - rot_want[i]), 1e-15);
    EXPECT_LT(std::abs(u3[i] - u3_want[i]), 1e-15);
  }
  // The first wire is the control and the high bit.
  const GateMatrix cnot = gate_matrix(Gate::cnot, {}, 2);
  EXPECT_EQ(cnot[0], Complex(1));
  EXPECT_EQ(cnot[4 * 2 + 3], Complex(1));
  EXPECT_EQ(cnot[4 * 3 + 2], Complex(1));
}

TEST(UnitarityError, SeesNaN) {
  const GateMatrix m = {NAN, 0, 0, 1};
  EXPECT_TRUE(std::isnan(unitarity_error(m, 2)));
}

}  // namespace
}  // namespace qtf::quantum
