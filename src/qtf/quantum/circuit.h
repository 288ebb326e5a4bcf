// A circuit: gates on wires, their angles given as numbers, inputs (one set a token) or weights (shared by
// all tokens). Everything else in this folder reads circuits: simulators, gradients, OpenQASM, drawings,
// resources.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "qtf/quantum/gates.h"

namespace qtf::quantum {

/// Most wires of a circuit.
constexpr int kMaxQubits = 16;

/// A number that a call gives: an input of the token, or a weight.
struct Variable {
  enum class Kind : uint8_t { none, input, weight };
  Kind kind = Kind::none;
  int32_t index = 0;
  bool operator==(const Variable&) const = default;
};

/// offset + scale · first · second, where a variable of kind `none` counts as 1. Without variables it is the
/// number `offset`.
struct Angle {
  double offset = 0;
  double scale = 0;
  Variable first = {};
  Variable second = {};

  Angle() = default;
  Angle(double value) : offset(value) {}  // an angle is most often just a number
  Angle(Variable variable, double factor = 1) : scale(factor), first(variable) {}
  Angle(Variable a, Variable b, double factor = 1) : scale(factor), first(a), second(b) {}

  bool constant() const { return first.kind == Variable::Kind::none; }
  bool uses(Variable::Kind kind) const { return first.kind == kind || second.kind == kind; }
  double value(std::span<const double> inputs, std::span<const double> weights) const;
  bool operator==(const Angle&) const = default;
};

inline Variable input(int index) {
  return {Variable::Kind::input, index};
}
inline Variable weight(int index) {
  return {Variable::Kind::weight, index};
}

/// One gate on its wires.
struct Operation {
  Gate gate;
  std::vector<int> wires;
  std::vector<Angle> angles = {};
  GateMatrix matrix = {};  ///< of Gate::unitary only
  bool operator==(const Operation&) const = default;
};

/// The token's inputs 0 … features-1 as amplitudes of the first state (PennyLane's AmplitudeEmbedding),
/// padded with `pad` to 2^n and, with `normalize`, divided by their length.
struct AmplitudeEmbedding {
  int features = 0;
  double pad = 0;
  bool normalize = true;
  bool operator==(const AmplitudeEmbedding&) const = default;
};

/// Gates in order. Every member that adds one checks it, so a circuit that exists is valid.
class Circuit {
 public:
  /// Throws InputError unless 1 <= qubits <= kMaxQubits, naming the memory a state would need.
  explicit Circuit(int qubits);

  /// Throws InputError: a wire out of range or given twice, a wrong number of wires or angles, an angle or
  /// factor that is not finite, a variable's index below 0.
  Circuit& add(Gate gate, std::vector<int> wires, std::vector<Angle> angles = {});

  /// A matrix of the caller's, 2^wires square. Throws InputError as add() does, and if it is not unitary
  /// within 1e-8.
  Circuit& add_unitary(GateMatrix matrix, std::vector<int> wires);

  /// Must come before all gates and once. Throws InputError unless 1 <= features <= 2^qubits.
  Circuit& embed_amplitudes(const AmplitudeEmbedding& embedding);

  /// All gates of another circuit of as many qubits or fewer; its variables keep their numbers.
  Circuit& append(const Circuit& other);

  int qubits() const { return qubits_; }
  int64_t dimension() const { return int64_t{1} << qubits_; }
  const std::vector<Operation>& operations() const { return operations_; }
  const std::optional<AmplitudeEmbedding>& amplitude_embedding() const { return amplitudes_; }
  /// One more than the largest index used.
  int inputs() const { return inputs_; }
  int weights() const { return weights_; }

  bool operator==(const Circuit&) const = default;

 private:
  void check_wires(const Operation& operation) const;

  int qubits_;
  int inputs_ = 0, weights_ = 0;
  std::optional<AmplitudeEmbedding> amplitudes_;
  std::vector<Operation> operations_;
};

/// The 2^k square matrix of one operation for given variables.
GateMatrix operation_matrix(const Operation& operation, std::span<const double> inputs,
                            std::span<const double> weights);

/// Throws InputError, with the bytes asked for and the machine's, if `bytes` exceed its memory.
void check_memory(double bytes, const char* what);

}  // namespace qtf::quantum
