// What running a circuit takes: qubits, gates by kind, depth, variables, and the circuits that gradients on
// hardware would run.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "qtf/quantum/circuit.h"

namespace qtf::quantum {

struct Resources {
  int qubits = 0;
  int64_t gates = 0;
  int64_t two_qubit_gates = 0;  ///< and larger: what costs most on hardware
  int64_t depth = 0;            ///< gates that wait for one another, with all wires in parallel
  int64_t two_qubit_depth = 0;  ///< the same of gates on two wires or more alone
  int inputs = 0, weights = 0;
  int64_t shift_evaluations = 0;                              ///< circuits of one parameter-shift gradient
  int64_t state_bytes = 0;                                    ///< a state vector in double
  std::vector<std::pair<std::string_view, int64_t>> by_gate;  ///< in the table's order
};

Resources count_resources(const Circuit& circuit);

}  // namespace qtf::quantum
