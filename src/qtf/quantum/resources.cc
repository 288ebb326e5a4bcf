#include "qtf/quantum/resources.h"

#include <algorithm>

#include "qtf/quantum/gradient.h"

namespace qtf::quantum {

Resources count_resources(const Circuit& circuit) {
  Resources r{.qubits = circuit.qubits(),
              .gates = static_cast<int64_t>(circuit.operations().size()),
              .inputs = circuit.inputs(),
              .weights = circuit.weights(),
              .shift_evaluations = parameter_shift_evaluations(circuit),
              .state_bytes = 16 * circuit.dimension(),
              .by_gate = {}};
  std::vector<int64_t> counts(gate_table().size());
  std::vector<int64_t> depth(static_cast<size_t>(r.qubits)), entangled = depth;
  /// The wires' common next level.
  const auto deepen = [](std::vector<int64_t>& levels, const std::vector<int>& wires) {
    int64_t level = 0;
    for (int w : wires) level = std::max(level, levels[static_cast<size_t>(w)] + 1);
    for (int w : wires) levels[static_cast<size_t>(w)] = level;
  };
  for (const Operation& operation : circuit.operations()) {
    ++counts[static_cast<size_t>(operation.gate)];
    deepen(depth, operation.wires);
    if (operation.wires.size() < 2) continue;
    ++r.two_qubit_gates;
    deepen(entangled, operation.wires);
  }
  r.depth = *std::ranges::max_element(depth);
  r.two_qubit_depth = *std::ranges::max_element(entangled);
  for (const GateInfo& gate : gate_table()) {
    const int64_t count = counts[static_cast<size_t>(gate.gate)];
    if (count > 0) r.by_gate.emplace_back(gate.name, count);
  }
  return r;
}

}  // namespace qtf::quantum
