#include <set>

#include "qtf/base/error.h"
#include "qtf/quantum/qasm.h"
#include "qtf/quantum/state.h"

namespace qtf::quantum {
namespace {

std::string number(double value) {
  return fmt::format("{}", value);
}

std::string variable(Variable v) {
  return fmt::format("{}{}", v.kind == Variable::Kind::input ? 'x' : 'w', v.index);
}

std::string expression(const Angle& angle) {
  if (angle.constant()) return number(angle.offset);
  std::string text;
  if (angle.scale == -1) text = "-";
  if (angle.scale != 1 && angle.scale != -1) text = number(angle.scale) + "*";
  text += variable(angle.first);
  if (angle.second.kind != Variable::Kind::none) text += "*" + variable(angle.second);
  if (angle.offset == 0) return text;
  return text + (angle.offset < 0 ? " - " : " + ") + number(std::abs(angle.offset));
}

std::string letters(size_t count) {
  std::string list;
  for (size_t i = 0; i < count; ++i) list += fmt::format("{}q{}", i == 0 ? "" : ", ", i);
  return list;
}

/// MultiRZ takes any number of wires, an OpenQASM gate a fixed one: a gate for each.
std::string multi_rz_definition(size_t wires) {
  std::string ladder, back;
  for (size_t i = 0; i + 1 < wires; ++i) {
    const std::string step = fmt::format("cx q{}, q{}; ", i, i + 1);
    ladder += step;
    back = step + back;
  }
  return fmt::format("(theta) {} {{ {}rz(theta) q{}; {}}}", letters(wires), ladder, wires - 1, back);
}

struct Named {
  std::string name, definition;
};

Named named(const Operation& operation) {
  const GateInfo& gate = info(operation.gate);
  if (operation.gate == Gate::multi_rz) {
    return {fmt::format("{}{}", gate.qasm, operation.wires.size()),
            multi_rz_definition(operation.wires.size())};
  }
  if (gate.qasm.empty()) throw_input_error("qasm", "{} has no OpenQASM form", gate.name);
  return {std::string(gate.qasm), std::string(gate.definition)};
}

}  // namespace

std::string to_qasm(const Circuit& circuit, const QasmOptions& options) {
  if (circuit.amplitude_embedding()) throw_input_error("qasm", "an amplitude embedding has no OpenQASM form");
  std::string definitions, gates;
  std::set<std::string> defined;
  for (const Operation& operation : circuit.operations()) {
    const auto [name, definition] = named(operation);
    if (!definition.empty() && defined.insert(name).second) {
      definitions += fmt::format("gate {}{}{}\n", name, definition[0] == '(' ? "" : " ", definition);
    }
    gates += name;
    for (size_t i = 0; i < operation.angles.size(); ++i) {
      gates += (i == 0 ? "(" : ", ") + expression(operation.angles[i]);
    }
    if (!operation.angles.empty()) gates += ")";
    for (size_t i = 0; i < operation.wires.size(); ++i) {
      gates += fmt::format("{}q[{}]", i == 0 ? " " : ", ", operation.wires[i]);
    }
    gates += ";\n";
  }
  std::string text = "OPENQASM 3.0;\ninclude \"stdgates.inc\";\n";
  for (int i = 0; i < circuit.inputs(); ++i) text += fmt::format("input float[64] x{};\n", i);
  for (int i = 0; i < circuit.weights(); ++i) text += fmt::format("input float[64] w{};\n", i);
  text += definitions + fmt::format("qubit[{}] q;\n", circuit.qubits()) + gates;
  if (options.measure) text += fmt::format("bit[{}] c;\nc = measure q;\n", circuit.qubits());
  return text;
}

Circuit bind_variables(const Circuit& circuit, std::span<const double> inputs,
                       std::span<const double> weights) {
  check_variables(circuit, inputs, weights);
  Circuit bound(circuit.qubits());
  if (circuit.amplitude_embedding()) {
    throw_input_error("qasm", "an amplitude embedding has no angles that numbers could be put in for");
  }
  for (const Operation& operation : circuit.operations()) {
    if (operation.gate == Gate::unitary) {
      bound.add_unitary(operation.matrix, operation.wires);
      continue;
    }
    std::vector<Angle> angles;
    for (const Angle& angle : operation.angles) angles.emplace_back(angle.value(inputs, weights));
    bound.add(operation.gate, operation.wires, angles);
  }
  return bound;
}

}  // namespace qtf::quantum
