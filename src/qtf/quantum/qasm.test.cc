#include "qtf/quantum/qasm.h"

#include <cmath>

#include "qtf/quantum/quantum_test.h"
#include "qtf/quantum/state.h"

namespace qtf::quantum {
namespace {

std::vector<int> wire_list(const GateInfo& gate) {
  std::vector<int> wires;
  for (int w = 0; w < (gate.wires > 0 ? gate.wires : 3); ++w) wires.push_back(w);
  return wires;
}

/// |tr(A†B)| is the dimension if A is B up to a phase.
double overlap(const GateMatrix& a, const GateMatrix& b) {
  Complex sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::conj(a[i]) * b[i];
  return std::abs(sum);
}

/// The matrix of a whole circuit.
GateMatrix matrix_of(const Circuit& circuit) {
  const size_t size = static_cast<size_t>(circuit.dimension());
  GateMatrix out(size * size);
  for (size_t column = 0; column < size; ++column) {
    State state(circuit.qubits());
    state.amplitudes.assign(size, 0);
    state.amplitudes[column] = 1;
    for (const Operation& o : circuit.operations()) {
      apply_matrix(state.amplitudes, circuit.qubits(), o.wires, operation_matrix(o, {}, {}));
    }
    for (size_t row = 0; row < size; ++row) out[row * size + column] = state.amplitudes[row];
  }
  return out;
}

TEST(Qasm, EveryGateSurvivesTheRoundTrip) {
  Circuit circuit(4);
  for (const GateInfo& gate : gate_table()) {
    if (gate.gate == Gate::unitary) continue;
    const Angle kinds[] = {0.1 + 0.2, Angle(input(2), -0.7), Angle(weight(1), input(0), 1e-9)};
    std::vector<Angle> angles(kinds, kinds + gate.parameters);
    if (!angles.empty()) angles[0].offset = -0.3;
    circuit.add(gate.gate, wire_list(gate), angles);
  }
  circuit.add(Gate::multi_rz, {3}, {0.5}).add(Gate::multi_rz, {3, 1}, {weight(0)});
  EXPECT_EQ(parse_qasm(to_qasm(circuit)), circuit);
  EXPECT_EQ(parse_qasm(to_qasm(circuit, {.measure = true})), circuit);
}

TEST(Qasm, RandomAnglesSurviveToTheLastBit) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Circuit circuit(1);
    for (double value : normal_values(20, seed, std::pow(10.0, static_cast<double>(seed) - 10))) {
      circuit.add(Gate::rx, {0}, {value});
      Angle angle(weight(0), value);
      angle.offset = -value / 3;
      circuit.add(Gate::rx, {0}, {angle});
    }
    EXPECT_EQ(parse_qasm(to_qasm(circuit)), circuit);
  }
}

/// What OpenQASM is told a gate is, under a name that the reader cannot know.
TEST(Qasm, DefinitionsAreTheirGates) {
  for (const GateInfo& gate : gate_table()) {
    if (gate.definition.empty()) continue;
    Circuit circuit(gate.wires);
    const auto numbers = normal_values(gate.parameters, static_cast<uint64_t>(gate.gate));
    circuit.add(gate.gate, wire_list(gate), {numbers.begin(), numbers.end()});
    std::string text = to_qasm(circuit);
    for (size_t at = 0; (at = text.find(std::string(gate.qasm) + (gate.parameters > 0 ? "(" : " "), at)) !=
                        std::string::npos;
         at += 5) {
      if (at == 0 || !std::isalpha(static_cast<unsigned char>(text[at - 1]))) text.insert(at, "own_");
    }
    const Circuit expanded = parse_qasm(text);
    EXPECT_GT(expanded.operations().size(), 1U) << gate.name;
    const auto dimension = static_cast<double>(circuit.dimension());
    EXPECT_NEAR(overlap(matrix_of(expanded), matrix_of(circuit)), dimension, 1e-13) << gate.name << "\n"
                                                                                    << text;
  }
  Circuit circuit(3);
  circuit.add(Gate::multi_rz, {0, 1, 2}, {0.7});
  std::string text = to_qasm(circuit);
  text.replace(text.find("multirz3"), 8, "mine"), text.replace(text.find("multirz3"), 8, "mine");
  EXPECT_EQ(parse_qasm(text).operations().size(), 5U);
  EXPECT_NEAR(overlap(matrix_of(parse_qasm(text)), matrix_of(circuit)), 8, 1e-13);
}

TEST(Qasm, WritesWhatOthersRead) {
  Circuit circuit(2);
  circuit.add(Gate::rot, {0}, {weight(0), 0.5, Angle(input(0), 2)}).add(Gate::cnot, {0, 1});
  EXPECT_EQ(to_qasm(circuit, {.measure = true}), R"(OPENQASM 3.0;
include "stdgates.inc";
input float[64] x0;
input float[64] w0;
gate rot(phi, theta, omega) a { rz(phi) a; ry(theta) a; rz(omega) a; }
qubit[2] q;
rot(w0, 0.5, 2*x0) q[0];
cx q[0], q[1];
bit[2] c;
c = measure q;
)");
  const std::vector<double> x = {0.25}, w = {-1};
  EXPECT_NE(to_qasm(bind_variables(circuit, x, w)).find("rot(-1, 0.5, 0.5) q[0];"), std::string::npos);
}

TEST(Qasm, ReadsWhatOthersWrite) {
  const Circuit circuit = parse_qasm(R"(OPENQASM 3.1;
// a comment
include "stdgates.inc";
input angle x0; input float w1;
gate /* mine */ twice(t) a, b { rx(t / 2) a; rx(-t) b; }
qubit[2] q; qubit r;
bit[3] c;
h q;
cx q, r;
twice(3 * (x0 + 1)) q[0], r;
rz(-pi/2**2 + .5e1) r; u1(τ) r;
p(2 * w1 * x0) q[1];
gphase(pi);
barrier q, r;
c[0] = measure q[0];
measure r -> c[2];
)");
  Circuit want(3);
  Angle sum(input(0), 3 * 0.5);
  sum.offset = 1.5;
  Angle negative(input(0), -3);
  negative.offset = -3;
  want.add(Gate::hadamard, {0}).add(Gate::hadamard, {1}).add(Gate::cnot, {0, 2}).add(Gate::cnot, {1, 2});
  want.add(Gate::rx, {0}, {sum}).add(Gate::rx, {2}, {negative});
  want.add(Gate::rz, {2}, {-std::numbers::pi / 4 + 5}).add(Gate::phase_shift, {2}, {2 * std::numbers::pi});
  want.add(Gate::phase_shift, {1}, {Angle(weight(1), input(0), 2)});
  EXPECT_EQ(circuit, want);
}

/// cu(θ, φ, λ, γ) = P(γ) on the control and a controlled U3.
TEST(Qasm, ReadsControlledU) {
  const Circuit circuit = parse_qasm("qubit[2] q; cu(0.3, 1.1, -0.4, 0.9) q[0], q[1];");
  const GateMatrix u = gate_matrix(Gate::u3, std::vector{0.3, 1.1, -0.4}, 1);
  const Complex phase = std::polar(1.0, 0.9);
  const GateMatrix want = {
      1, 0, 0, 0, 0, 1, 0, 0, 0, 0, phase * u[0], phase * u[1], 0, 0, phase * u[2], phase * u[3]};
  EXPECT_NEAR(overlap(matrix_of(circuit), want), 4, 1e-14);
}

struct BadProgram {
  const char* text;
  const char* error;
};

TEST(Qasm, RefusesWithLineAndColumn) {
  const BadProgram programs[] = {
      {"", "[qasm:1:1] the program declares no qubits"},
      {"OPENQASM 2.0;", "[qasm:1:10] version 2.0 is not read, only 3"},
      {"qubit[2] q;\nhh q;", "[qasm:2:1] unknown gate 'hh'"},
      {"qubit[2] q;\ncnot q[0], q[1];", "[qasm:2:1] unknown gate 'cnot'"},
      {"qubit[2] q;\n  h q[2];", "[qasm:2:7] expected a wire from 0 to 1, got '2'"},
      {"qubit[2] q; h q[-1];", "[qasm:1:17] expected a wire from 0 to 1, got '-'"},
      {"qubit[2] q; cx q[0], q[0];", "[qasm:1:13] CNOT names wire 0 twice"},
      {"qubit[2] q; cx q[0];", "[qasm:1:13] CNOT acts on 2 wires, got 1"},
      {"qubit[2] q; rx q[0];", "[qasm:1:13] 'rx' takes 1 angles, got 0"},
      {"qubit[2] q; rx(1, 2) q[0];", "'rx' takes 1 angles, got 2"},
      {"qubit[2] q; rx(1/0) q[0];", "[qasm:1:17] the result is not finite"},
      {"qubit[2] q; rx(y) q[0];", "[qasm:1:16] 'y' is no number and no declared input"},
      {"qubit[2] q; rx(1 q[0];", "[qasm:1:18] expected ',', got 'q'"},
      {"qubit[2] q; rx(1e999) q[0];", "[qasm:1:16] '1e999' is out of range"},
      {"qubit[17] q;", "[qasm:1:11] 17 qubits are too many"},
      {"qubit[0] q;", "a register has at least 1 qubit"},
      {"qubit q; qubit q;", "[qasm:1:16] 'q' is declared twice"},
      {"qubit q; h q", "[qasm:1:13] expected ';', got the end"},
      {"qubit q; h r;", "'r' is no register of qubits"},
      {"qubit q; bit c; c = measure q; h q;", "[qasm:1:32] a gate after a measurement"},
      {"qubit q; reset q;", "[qasm:1:10] 'reset' statements are not read"},
      {"qubit q; if (true) h q;", "'if' statements are not read"},
      {"qubit[2] q; ctrl @ x q[0], q[1];", "[qasm:1:13] modifier 'ctrl' @ is not read"},
      {"input int x0;", "must be a float or an angle"},
      {"input float theta;", "[qasm:1:13] an input must be called x or w and a number"},
      {"include \"other.inc\";", "only \"stdgates.inc\""},
      {"/* never", "[qasm:1:1] a comment that does not end"},
      {"include \"never", "a string that does not end"},
      {"qubit q; h $0;", "[qasm:1:12] '$' begins nothing that is known"},
      {"input float x0; input float x1; qubit q; rx(x0 + x1) q;", "a sum of different variables"},
      {"input float x0; input float x1; qubit q; rx((x0 + 1) * x1) q;",
       "a product of more than two variables"},
      {"input float x0; qubit q; rx(1 / x0) q;", "a division by a variable"},
      {"input float x0; qubit q; rx(x0 ** 2) q;", "a power of a variable"},
      {"gate a q { a q; } qubit q; a q;", "nested too deeply"},
      {"gate a q { h r; } qubit q; a q;", "'r' is no wire of this gate"},
      {"gate a q { h q; ", "expected '}', got the end"},
      {"gate a q { h q; } gate a q { h q; }", "defined twice"},
      {"gate a p, q { cx p, q; } qubit r; a r;", "'a' acts on 2 wires, got 1"},
      {"qubit[2] q; qubit[3] r; cx q, r;", "registers of different sizes"},
      {"h q;", "'q' is no register"},
      {"qubit q; h q; qubit r;", "before the first gate"},
  };
  for (const auto& program : programs) expect_refused([&] { parse_qasm(program.text); }, program.error);
}

TEST(Qasm, RefusesProgramsThatExplode) {
  std::string text = "gate g0 q { h q; h q; }\n";
  for (int i = 1; i < 60; ++i) text += fmt::format("gate g{} q {{ g{} q; g{} q; }}\n", i, i - 1, i - 1);
  expect_refused([&] { parse_qasm(text + "qubit q; g59 q;"); }, "definitions expand more than");
  const std::string deep(5000, '(');
  expect_refused([&] { parse_qasm("qubit q; rx(" + deep + "1) q;"); }, "nested too deeply");
  expect_refused([&] { parse_qasm("qubit q; rx(" + std::string(5000, '-') + "1) q;"); }, "nested too deeply");
}

TEST(Qasm, RefusesWhatItCannotWrite) {
  Circuit matrix(1), amplitudes(1);
  matrix.add_unitary({0, 1, 1, 0}, {0});
  amplitudes.embed_amplitudes({.features = 2});
  expect_refused([&] { to_qasm(matrix); }, "QubitUnitary has no OpenQASM form");
  expect_refused([&] { to_qasm(amplitudes); }, "amplitude embedding has no OpenQASM form");
  expect_refused([&] { bind_variables(amplitudes, std::vector<double>{1, 0}, {}); }, "no angles");
}

}  // namespace
}  // namespace qtf::quantum
