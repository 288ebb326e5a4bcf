#include "qtf/quantum/circuit.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/parse.h"

namespace qtf::quantum {
namespace {

constexpr double kUnitaryTolerance = 1e-8;
constexpr int kMaxVariables = 1 << 24;

void check_angle(const GateInfo& gate, const Angle& angle) {
  if (!std::isfinite(angle.offset) || !std::isfinite(angle.scale)) {
    throw_input_error("circuit", "an angle of {} is {}, it must be finite", gate.name,
                      std::isfinite(angle.offset) ? angle.scale : angle.offset);
  }
  for (const Variable& v : {angle.first, angle.second}) {
    if (v.kind != Variable::Kind::none && (v.index < 0 || v.index >= kMaxVariables)) {
      throw_input_error("circuit", "a variable of {} has index {}, it must be from 0 to {}", gate.name,
                        v.index, kMaxVariables - 1);
    }
  }
}

double variable_value(Variable v, std::span<const double> inputs, std::span<const double> weights) {
  switch (v.kind) {
    case Variable::Kind::input:
      return inputs[static_cast<size_t>(v.index)];
    case Variable::Kind::weight:
      return weights[static_cast<size_t>(v.index)];
    default:
      return 1;
  }
}

}  // namespace

double Angle::value(std::span<const double> inputs, std::span<const double> weights) const {
  if (constant()) return offset;
  return offset + scale * variable_value(first, inputs, weights) * variable_value(second, inputs, weights);
}

Circuit::Circuit(int qubits) : qubits_(qubits) {
  if (qubits < 1) throw_input_error("circuit", "qubits must be at least 1, got {}", qubits);
  if (qubits > kMaxQubits) {
    throw_input_error("circuit", "qubits must be at most {}, got {}: one state vector would need {}",
                      kMaxQubits, qubits,
                      qubits > 50 ? "more memory than there is" : format_bytes(int64_t{16} << qubits));
  }
}

void Circuit::check_wires(const Operation& operation) const {
  const GateInfo& gate = info(operation.gate);
  const auto& wires = operation.wires;
  if (gate.wires > 0 ? static_cast<int>(wires.size()) != gate.wires : wires.empty()) {
    throw_input_error("circuit", "{} acts on {} wire{}, got {}", gate.name,
                      gate.wires > 0 ? std::to_string(gate.wires) : "at least 1", gate.wires == 1 ? "" : "s",
                      wires.size());
  }
  for (size_t i = 0; i < wires.size(); ++i) {
    if (wires[i] < 0 || wires[i] >= qubits_) {
      throw_input_error("circuit", "{} on wire {}: the circuit's wires are 0 to {}", gate.name, wires[i],
                        qubits_ - 1);
    }
    if (std::find(wires.begin(), wires.begin() + static_cast<std::ptrdiff_t>(i), wires[i]) !=
        wires.begin() + static_cast<std::ptrdiff_t>(i)) {
      throw_input_error("circuit", "{} names wire {} twice; its wires must differ", gate.name, wires[i]);
    }
  }
}

Circuit& Circuit::add(Gate gate, std::vector<int> wires, std::vector<Angle> angles) {
  const GateInfo& row = info(gate);
  if (gate == Gate::unitary) throw_input_error("circuit", "a matrix is added with add_unitary");
  Operation operation{gate, std::move(wires), std::move(angles)};
  check_wires(operation);
  if (static_cast<int>(operation.angles.size()) != row.parameters) {
    throw_input_error("circuit", "{} takes {} angle{}, got {}", row.name, row.parameters,
                      row.parameters == 1 ? "" : "s", operation.angles.size());
  }
  for (const Angle& angle : operation.angles) {
    check_angle(row, angle);
    for (const Variable& v : {angle.first, angle.second}) {
      if (v.kind == Variable::Kind::input) inputs_ = std::max(inputs_, v.index + 1);
      if (v.kind == Variable::Kind::weight) weights_ = std::max(weights_, v.index + 1);
    }
  }
  operations_.push_back(std::move(operation));
  return *this;
}

Circuit& Circuit::add_unitary(GateMatrix matrix, std::vector<int> wires) {
  Operation operation{Gate::unitary, std::move(wires), {}, std::move(matrix)};
  check_wires(operation);
  const size_t size = size_t{1} << operation.wires.size();
  if (operation.matrix.size() != size * size) {
    throw_input_error("circuit", "a matrix on {} wire{} has {} entries, got {}", operation.wires.size(),
                      operation.wires.size() == 1 ? "" : "s", size * size, operation.matrix.size());
  }
  const double error = unitarity_error(operation.matrix, static_cast<int64_t>(size));
  if (!(error <= kUnitaryTolerance)) {
    throw_input_error("circuit", "the matrix is not unitary: U·U† differs from 1 by {:.3g}, allowed is {:g}",
                      error, kUnitaryTolerance);
  }
  operations_.push_back(std::move(operation));
  return *this;
}

Circuit& Circuit::embed_amplitudes(const AmplitudeEmbedding& embedding) {
  if (amplitudes_ || !operations_.empty()) {
    throw_input_error("circuit", "amplitudes are embedded once, before all gates");
  }
  if (embedding.features < 1 || embedding.features > dimension()) {
    throw_input_error("circuit", "{} qubits embed 1 to {} features, got {}", qubits_, dimension(),
                      embedding.features);
  }
  if (!std::isfinite(embedding.pad))
    throw_input_error("circuit", "pad must be finite, got {}", embedding.pad);
  amplitudes_ = embedding;
  inputs_ = std::max(inputs_, embedding.features);
  return *this;
}

Circuit& Circuit::append(const Circuit& other) {
  if (other.amplitudes_) embed_amplitudes(*other.amplitudes_);
  for (const Operation& operation : other.operations_) check_wires(operation);
  operations_.insert(operations_.end(), other.operations_.begin(), other.operations_.end());
  inputs_ = std::max(inputs_, other.inputs_);
  weights_ = std::max(weights_, other.weights_);
  return *this;
}

GateMatrix operation_matrix(const Operation& operation, std::span<const double> inputs,
                            std::span<const double> weights) {
  if (operation.gate == Gate::unitary) return operation.matrix;
  std::vector<double> angles;
  for (const Angle& angle : operation.angles) angles.push_back(angle.value(inputs, weights));
  return gate_matrix(operation.gate, angles, static_cast<int>(operation.wires.size()));
}

void check_memory(double bytes, const char* what) {
  const double memory =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  if (bytes <= memory) return;
  throw_input_error("circuit", "{} needs {:.3g} GB, this machine has {:.3g} GB; use fewer qubits", what,
                    bytes / 1e9, memory / 1e9);
}

}  // namespace qtf::quantum
