#include "qtf/quantum/circuit.h"

#include <cmath>

#include "qtf/quantum/quantum_test.h"

namespace qtf::quantum {
namespace {

TEST(Circuit, CountsItsVariables) {
  Circuit circuit(2);
  EXPECT_EQ(circuit.inputs() + circuit.weights(), 0);
  circuit.add(Gate::rx, {0}, {input(3)}).add(Gate::ry, {1}, {Angle(weight(6), input(0))});
  EXPECT_EQ(circuit.inputs(), 4);
  EXPECT_EQ(circuit.weights(), 7);
  EXPECT_EQ(circuit.dimension(), 4);
}

TEST(Circuit, RefusesBadWires) {
  Circuit circuit(3);
  expect_refused([&] { circuit.add(Gate::hadamard, {3}); }, "on wire 3: the circuit's wires are 0 to 2");
  expect_refused([&] { circuit.add(Gate::hadamard, {-1}); }, "on wire -1");
  expect_refused([&] { circuit.add(Gate::cnot, {1, 1}); }, "names wire 1 twice");
  expect_refused([&] { circuit.add(Gate::multi_rz, {0, 1, 0}, {0.1}); }, "names wire 0 twice");
  expect_refused([&] { circuit.add(Gate::cnot, {1}); }, "CNOT acts on 2 wires, got 1");
  expect_refused([&] { circuit.add(Gate::multi_rz, {}, {0.1}); }, "at least 1 wire");
  EXPECT_TRUE(circuit.operations().empty());
}

TEST(Circuit, RefusesBadAngles) {
  Circuit circuit(1);
  expect_refused([&] { circuit.add(Gate::rx, {0}); }, "RX takes 1 angle, got 0");
  expect_refused([&] { circuit.add(Gate::hadamard, {0}, {0.1}); }, "takes 0 angles, got 1");
  expect_refused([&] { circuit.add(Gate::rx, {0}, {NAN}); }, "must be finite");
  expect_refused([&] { circuit.add(Gate::rx, {0}, {Angle(input(0), INFINITY)}); }, "must be finite");
  expect_refused([&] { circuit.add(Gate::rx, {0}, {input(-1)}); }, "index -1");
}

TEST(Circuit, RefusesTooManyQubitsAndSaysWhatTheyNeed) {
  expect_refused([] { Circuit(0); }, "at least 1");
  expect_refused([] { Circuit(17); }, "one state vector would need 2.1 MB");
  expect_refused([] { Circuit(60); }, "more memory than there is");
  EXPECT_NO_THROW(Circuit(16));
  expect_refused([] { check_memory(1e18, "a thing"); }, "a thing needs 1e+09 GB, this machine has");
  EXPECT_NO_THROW(check_memory(1e3, "a thing"));
}

TEST(Circuit, RefusesMatricesThatAreNotUnitary) {
  Circuit circuit(2);
  expect_refused([&] { circuit.add_unitary({1, 0, 0, 2}, {0}); }, "not unitary");
  expect_refused([&] { circuit.add_unitary({1, 0, 0, NAN}, {0}); }, "not unitary");
  expect_refused([&] { circuit.add_unitary({1, 0, 0, 1}, {0, 1}); }, "has 16 entries, got 4");
  expect_refused([&] { circuit.add(Gate::unitary, {0}); }, "add_unitary");
  EXPECT_NO_THROW(circuit.add_unitary({0, 1, 1, 0}, {1}));
}

TEST(Circuit, RefusesAmplitudesInTheWrongPlace) {
  Circuit circuit(2);
  expect_refused([&] { circuit.embed_amplitudes({.features = 5}); }, "1 to 4 features, got 5");
  expect_refused([&] { circuit.embed_amplitudes({.features = 0}); }, "got 0");
  expect_refused([&] { circuit.embed_amplitudes({.features = 2, .pad = NAN}); }, "pad must be finite");
  circuit.embed_amplitudes({.features = 3});
  EXPECT_EQ(circuit.inputs(), 3);
  expect_refused([&] { circuit.embed_amplitudes({.features = 3}); }, "once, before all gates");
}

TEST(Circuit, AppendsAnother) {
  Circuit a(3), b(2);
  a.add(Gate::hadamard, {2});
  b.add(Gate::cnot, {0, 1}).add(Gate::rx, {0}, {weight(4)});
  a.append(b);
  EXPECT_EQ(a.operations().size(), 3U);
  EXPECT_EQ(a.weights(), 5);
  expect_refused([&] { b.append(a); }, "wires are 0 to 1");
}

TEST(Templates, HavePennyLanesRings) {
  const auto cnots = [](const Circuit& circuit) {
    std::vector<std::vector<int>> wires;
    for (const Operation& o : circuit.operations()) {
      if (o.gate == Gate::cnot) wires.push_back(o.wires);
    }
    return wires;
  };
  using Wires = std::vector<std::vector<int>>;
  Circuit strong(2), basic(2), four(4), one(1), one_basic(1);
  strongly_entangling_layers(strong, 1);
  basic_entangler_layers(basic, 1);
  strongly_entangling_layers(four, 2);
  strongly_entangling_layers(one, 2);
  basic_entangler_layers(one_basic, 2);
  EXPECT_EQ(cnots(strong), (Wires{{0, 1}, {1, 0}}));
  EXPECT_EQ(cnots(basic), (Wires{{0, 1}}));
  EXPECT_EQ(cnots(four), (Wires{{0, 1}, {1, 2}, {2, 3}, {3, 0}, {0, 2}, {1, 3}, {2, 0}, {3, 1}}));
  EXPECT_TRUE(cnots(one).empty() && cnots(one_basic).empty());
  EXPECT_EQ(strong.weights(), ansatz_weights(Ansatz::strongly, 2, 1));
  EXPECT_EQ(basic.weights(), ansatz_weights(Ansatz::basic, 2, 1));
}

TEST(Templates, LayersBeyondTheLastRangeWrap) {
  Circuit circuit(3);
  strongly_entangling_layers(circuit, 3);
  std::vector<int> targets;
  for (const Operation& o : circuit.operations()) {
    if (o.gate == Gate::cnot && o.wires[0] == 0) targets.push_back(o.wires[1]);
  }
  EXPECT_EQ(targets, (std::vector{1, 2, 1}));
}

TEST(Templates, RefuseBadOptions) {
  Circuit circuit(3);
  const std::vector ranges = {3};
  expect_refused([&] { strongly_entangling_layers(circuit, 1, 0, ranges); }, "from 1 to 2, got 3");
  expect_refused([&] { strongly_entangling_layers(circuit, 2, 0, ranges); }, "as many ranges");
  expect_refused([&] { strongly_entangling_layers(circuit, -1); }, "layers must be");
  expect_refused([&] { angle_embedding(circuit, Gate::hadamard); }, "axis is RX, RY or RZ");
  expect_refused([] { parse_ansatz("strong"); }, "did you mean strongly?");
  expect_refused([] { parse_embedding("angle"); }, "unknown embedding 'angle'");
  expect_refused([] { layered_circuit({.embedding = Embedding::iqp, .reupload = true}); },
                 "angle embedding, not iqp");
  for (Ansatz a : {Ansatz::strongly, Ansatz::basic, Ansatz::ladder}) EXPECT_EQ(parse_ansatz(to_string(a)), a);
  for (auto e : {Embedding::angle_x, Embedding::iqp, Embedding::amplitude})
    EXPECT_EQ(parse_embedding(to_string(e)), e);
}

TEST(Templates, LayeredCircuitsTakeTheWeightsTheySay) {
  for (Ansatz ansatz : {Ansatz::strongly, Ansatz::basic, Ansatz::ladder}) {
    for (bool reupload : {false, true}) {
      const Circuit circuit =
          layered_circuit({.qubits = 4, .layers = 3, .ansatz = ansatz, .reupload = reupload});
      EXPECT_EQ(circuit.weights(), ansatz_weights(ansatz, 4, 3) + (reupload ? 12 : 0));
      EXPECT_EQ(circuit.inputs(), 4);
    }
  }
}

}  // namespace
}  // namespace qtf::quantum
