#include "qtf/quantum/state.h"

#include <cmath>

#include "qtf/quantum/quantum_test.h"

namespace qtf::quantum {
namespace {

State random_state(int qubits, uint64_t stream) {
  const auto re = normal_values(int64_t{1} << qubits, stream),
             im = normal_values(int64_t{1} << qubits, stream + 1);
  State state(qubits);
  double squares = 0;
  for (size_t i = 0; i < re.size(); ++i) {
    state.amplitudes[i] = {re[i], im[i]};
    squares += std::norm(state.amplitudes[i]);
  }
  for (Complex& a : state.amplitudes) a /= std::sqrt(squares);
  return state;
}

State bell() {
  Circuit circuit(2);
  circuit.add(Gate::hadamard, {0}).add(Gate::cnot, {0, 1});
  return run(circuit, {}, {});
}

TEST(State, WireZeroIsTheMostSignificantBit) {
  Circuit circuit(3);
  circuit.add(Gate::pauli_x, {0});
  EXPECT_EQ(run(circuit, {}, {}).amplitudes[4], Complex(1));
  EXPECT_EQ(expectations_z(run(circuit, {}, {})), (std::vector<double>{-1, 1, 1}));
}

TEST(State, PauliStringsAreTheirMatrices) {
  const State state = random_state(3, 1);
  for (const char* text : {"XYZ", "IIY", "YYI", "XIX", "ZZZ", "YYY", "III"}) {
    State applied = state;
    for (int w = 0; w < 3; ++w) {
      const char letter = text[w];
      if (letter == 'I') continue;
      const Gate gate = letter == 'X' ? Gate::pauli_x : letter == 'Y' ? Gate::pauli_y : Gate::pauli_z;
      apply_matrix(applied.amplitudes, 3, std::span(&w, 1), gate_matrix(gate, {}, 1));
    }
    Complex want = 0;
    for (size_t i = 0; i < 8; ++i) want += std::conj(state.amplitudes[i]) * applied.amplitudes[i];
    const PauliString pauli = parse_pauli(text, 3);
    EXPECT_NEAR(expectation(state, pauli), want.real(), 1e-15) << text;
    EXPECT_EQ(to_string(pauli, 3), text);
  }
  EXPECT_EQ(parse_pauli("X0 Z2", 3), parse_pauli("XIZ", 3));
}

TEST(State, RefusesBadPauliStrings) {
  expect_refused([] { parse_pauli("XQ", 2); }, "none of I, X, Y, Z");
  expect_refused([] { parse_pauli("XXX", 2); }, "names wire 2");
  expect_refused([] { parse_pauli("X", 2); }, "has 1 letters");
  expect_refused([] { parse_pauli("X0 Z0", 2); }, "names wire 0 twice");
  expect_refused([] { parse_pauli("X0 Z", 2); }, "number is missing");
  expect_refused([] { parse_pauli("X7", 2); }, "names wire 7");
}

TEST(State, MarginalsFollowTheOrderOfWires) {
  const State state = random_state(3, 5);
  const std::vector<int> forth = {0, 2}, back = {2, 0}, all = {0, 1, 2};
  const auto a = probabilities(state, forth), b = probabilities(state, back);
  EXPECT_EQ(a[1], b[2]);
  EXPECT_EQ(a[2], b[1]);
  EXPECT_EQ(probabilities(state, all), probabilities(state));
  double sum = 0;
  for (double p : a) sum += p;
  EXPECT_NEAR(sum, 1, 1e-15);
  const std::vector<int> bad = {3}, twice = {1, 1};
  expect_refused([&] { probabilities(state, bad); }, "wire 3 is out of range");
  expect_refused([&] { reduced_density(state, twice); }, "wire 1 is given twice");
}

TEST(State, EntropiesOfKnownStates) {
  EXPECT_NEAR(cut_entropy(bell(), 1), std::log(2.0), 1e-15);
  Circuit ghz(4);
  ghz.add(Gate::hadamard, {0});
  for (int w = 1; w < 4; ++w) ghz.add(Gate::cnot, {0, w});
  for (int cut = 1; cut < 4; ++cut) EXPECT_NEAR(cut_entropy(run(ghz, {}, {}), cut), std::log(2.0), 1e-14);
  expect_refused([] { cut_entropy(bell(), 0); }, "lies after 1 to 1");
  expect_refused([] { cut_entropy(bell(), 2); }, "got 2");
}

TEST(State, EntropiesOfProductStatesAreNeverNegative) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Circuit circuit(4);
    angle_embedding(circuit, Gate::ry);
    const State state = run(circuit, normal_values(4, seed), {});
    for (int cut = 1; cut < 4; ++cut) {
      EXPECT_GE(cut_entropy(state, cut), 0);
      EXPECT_LT(cut_entropy(state, cut), 1e-14);
    }
  }
}

TEST(State, EntropyFromSchmidtValuesIsThatOfTheReducedMatrix) {
  const State state = random_state(5, 9);
  std::vector<int> wires;
  for (int cut = 1; cut < 5; ++cut) {
    wires.push_back(cut - 1);
    EXPECT_NEAR(cut_entropy(state, cut),
                von_neumann_entropy(reduced_density(state, wires), int64_t{1} << cut), 1e-13);
  }
}

TEST(State, EmbedsAmplitudes) {
  const std::vector<double> x = {3, 0, 4};
  const auto a = embedded_amplitudes({.features = 3}, 2, x);
  EXPECT_EQ(a, (std::vector<Complex>{0.6, 0, 0.8, 0}));
  const std::vector<double> zeros(4);
  expect_refused([&] { embedded_amplitudes({.features = 4}, 2, zeros); }, "vector of zeros");
  expect_refused([&] { embedded_amplitudes({.features = 3, .normalize = false}, 2, x); },
                 "must have length 1");
}

TEST(State, RefusesWrongVariables) {
  Circuit circuit(1);
  circuit.add(Gate::rx, {0}, {Angle(input(0), weight(0))});
  const std::vector<double> none, one = {1}, nan = {NAN};
  expect_refused([&] { run(circuit, none, one); }, "takes 1 inputs, got 0");
  expect_refused([&] { run(circuit, one, none); }, "takes 1 weights, got 0");
  expect_refused([&] { run(circuit, nan, one); }, "input 0 is nan");
  expect_refused([&] { State(1, {1, 1}); }, "length 1");
  expect_refused([&] { State(1, {1}); }, "1 qubits have 2 amplitudes");
  expect_refused([&] { fidelity(State(1), State(2)); }, "1 and 2 qubits");
}

TEST(State, SharedAnsatzCancelsInTheKernel) {
  const Circuit circuit = layered_circuit({.qubits = 4, .layers = 2});
  const auto w = normal_values(circuit.weights(), 1), x = normal_values(4, 2), y = normal_values(4, 3);
  double want = 1;
  for (size_t i = 0; i < 4; ++i) want *= std::pow(std::cos((x[i] - y[i]) / 2), 2);
  EXPECT_NEAR(fidelity(run(circuit, x, w), run(circuit, y, w)), want, 1e-14);
}

}  // namespace
}  // namespace qtf::quantum
