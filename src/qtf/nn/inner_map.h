// What the quantum layer puts between its two projections: a circuit, or the maps that it is compared with.
// Q angles in, Q numbers in [-1, 1] out, a weight vector shared by all tokens.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "qtf/quantum/circuit.h"
#include "qtf/quantum/noise.h"
#include "qtf/tensor/matrix.h"

namespace qtf::nn {

enum class InnerKind : uint8_t { strongly, basic, ladder, product, classical };

/// A row of the table of kinds.
struct InnerKindInfo {
  InnerKind kind;
  std::string_view name;  ///< on the command line and in files
  std::string_view summary;
  int weights_per_qubit;  ///< a layer
};

std::span<const InnerKindInfo> inner_kinds();
const InnerKindInfo& info(InnerKind kind);

/// Throws InputError, with a suggestion, for a name that is not in the table.
InnerKind parse_inner_kind(std::string_view name);

/// Sizes of an inner map.
struct InnerSpec {
  InnerKind kind = InnerKind::strongly;
  int qubits = 6;  ///< Q
  int layers = 2;
  bool operator==(const InnerSpec&) const = default;

  int weights() const { return info(kind).weights_per_qubit * qubits * layers; }
};

/// Throws InputError for sizes out of range, `place` naming whose they are.
void validate(const InnerSpec& spec, std::string_view place);

/// The circuit: the angles by RY, then the kind's layers; nothing for the classical map.
std::optional<quantum::Circuit> inner_circuit(const InnerSpec& spec);

/// A real device's way to read a circuit, for evaluation.
struct Measurement {
  int64_t shots = 0;  ///< a token; 0: exact expectation values
  quantum::NoiseModel noise;
  uint64_t seed = 0;
  bool exact() const { return shots == 0 && noise.empty(); }
};

/// Const members may run on many threads.
template <class T>
class InnerMap {
 public:
  virtual ~InnerMap() = default;

  /// Reads the weights, spec.weights() of them; the other members use them until the next call.
  virtual void prepare(const T* weights) = 0;

  /// z[M, Q] of angles[M, Q], all finite. A token's results depend on it alone, bit for bit.
  virtual void forward(ConstMatrix<T> angles, Matrix<T> z) const = 0;

  /// Overwrites dangles[M, Q], adds to dweights.
  virtual void backward(ConstMatrix<T> angles, ConstMatrix<T> dz, Matrix<T> dangles, T* dweights) const = 0;

  /// Entropy of entanglement, in nats, between the first ⌊Q/2⌋ qubits and the others in each token's last
  /// state; 0 where there is no state or one qubit.
  virtual void entropies(ConstMatrix<T> angles, T* nats) const = 0;

  /// As forward, with shots and noise, drawn by the measurement's seed and the token's angles: a token's
  /// draws do not depend on the tokens beside it. Throws InputError for a map that is no circuit.
  virtual void measure(ConstMatrix<T> angles, const Measurement& measurement, Matrix<T> z) const = 0;
};

template <class T>
std::unique_ptr<InnerMap<T>> make_inner_map(const InnerSpec& spec);

}  // namespace qtf::nn
