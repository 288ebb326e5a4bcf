#include "qtf/quantum/drawing.h"

#include "qtf/quantum/quantum_test.h"
#include "qtf/quantum/resources.h"

namespace qtf::quantum {
namespace {

Circuit every_gate() {
  Circuit circuit(3);
  for (const GateInfo& gate : gate_table()) {
    constexpr int kWires[] = {2, 0, 1};
    const std::vector<int> wires(kWires, kWires + (gate.wires > 0 ? gate.wires : 3));
    if (gate.gate == Gate::unitary) {
      circuit.add_unitary({0, 1, 1, 0}, {1});
    } else {
      circuit.add(gate.gate, wires, std::vector<Angle>(static_cast<size_t>(gate.parameters), 0.5));
    }
  }
  return circuit;
}

TEST(Drawing, TextHasMarksLinesAndLabels) {
  Circuit circuit(3);
  circuit.add(Gate::ry, {0}, {input(0)}).add(Gate::rot, {1}, {weight(0), weight(1), weight(2)});
  circuit.add(Gate::cnot, {0, 2})
      .add(Gate::swap, {1, 2})
      .add(Gate::crx, {2, 0}, {Angle(weight(3), input(1), 2)});
  EXPECT_EQ(draw_text(circuit),
            "q0: ──┤RY(x0)├────●─────┤RX(2·w3·x1)├──\n"
            "                  │           │\n"
            "q1: ─┤Rot(w0…2)├──┼──╳────────┼────────\n"
            "                  │  │        │\n"
            "q2: ──────────────⊕──╳────────●────────\n");
}

TEST(Drawing, LongOnesContinueBelow) {
  Circuit circuit(2);
  for (int i = 0; i < 12; ++i) circuit.add(Gate::rx, {i % 2}, {0.25}).add(Gate::cnot, {0, 1});
  const std::string text = draw_text(circuit, 40);
  EXPECT_NE(text.find("…\n"), std::string::npos);
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = text.substr(begin, end - begin);
    EXPECT_LE(std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; }), 40) << line;
  }
  EXPECT_EQ(draw_text(circuit).find("…\n"), std::string::npos);
}

TEST(Drawing, EveryGateIsDrawn) {
  const std::string text = draw_text(every_gate()), svg = draw_svg(every_gate());
  for (const GateInfo& gate : gate_table()) {
    if (gate.controls > 0 || gate.gate == Gate::swap) continue;
    EXPECT_NE(text.find(fmt::format("┤{}", gate.symbol)), std::string::npos) << gate.name;
    EXPECT_NE(svg.find(fmt::format(">{}", gate.symbol)), std::string::npos) << gate.name;
  }
  EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
  EXPECT_EQ(draw_text(Circuit(1)), "q0: ─\n");
  EXPECT_NE(draw_text(layered_circuit({.qubits = 2, .embedding = Embedding::amplitude})).find("|x⟩"),
            std::string::npos);
}

TEST(Resources, CountsGatesAndDepth) {
  const Resources r = count_resources(layered_circuit({.qubits = 4, .layers = 2}));
  EXPECT_EQ(r.qubits, 4);
  EXPECT_EQ(r.gates, 4 + 2 * 8);
  EXPECT_EQ(r.two_qubit_gates, 8);
  // A ring of four in a row; the second layer's CNOTs over two wires pair up.
  EXPECT_EQ(r.two_qubit_depth, 4 + 2);
  EXPECT_EQ(r.inputs, 4);
  EXPECT_EQ(r.weights, 24);
  EXPECT_EQ(r.shift_evaluations, 2 * (4 + 24));
  EXPECT_EQ(r.state_bytes, 256);
  using Row = std::pair<std::string_view, int64_t>;
  EXPECT_EQ(r.by_gate, (std::vector<Row>{{"RY", 4}, {"Rot", 8}, {"CNOT", 8}}));
  Circuit ladder(3);
  ladder.add(Gate::hadamard, {0}).add(Gate::cnot, {0, 1}).add(Gate::cnot, {1, 2}).add(Gate::hadamard, {0});
  EXPECT_EQ(count_resources(ladder).depth, 3);
  EXPECT_EQ(count_resources(ladder).two_qubit_depth, 2);
  EXPECT_EQ(count_resources(Circuit(2)).depth, 0);
}

}  // namespace
}  // namespace qtf::quantum
