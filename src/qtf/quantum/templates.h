// Circuits that are used often: embeddings of a token's inputs and layers of weights, as PennyLane defines
// them, and the whole circuits that the transformer's layer and `qtf circuit` are made of.
#pragma once

#include <string_view>

#include "qtf/quantum/circuit.h"

namespace qtf::quantum {

/// R_axis(input first_input + w) on every wire w. axis: Gate::rx, ry or rz.
void angle_embedding(Circuit& circuit, Gate axis = Gate::ry, int first_input = 0);

/// `repeats` times: H and RZ(x_i) on every wire i, then MultiRZ(x_i·x_j) on every pair i < j (PennyLane's
/// IQPEmbedding; Havlíček et al. 2019).
void iqp_embedding(Circuit& circuit, int repeats = 1);

/// Layer l: Rot(w[l, i, 0…2]) on every wire i, then CNOT(i, (i + r) mod n) for i = 0 … n-1, r = ranges[l].
/// Default r = l mod (n-1) + 1. Two wires get both CNOT(0,1) and CNOT(1,0); one gets none. Takes 3·n·layers
/// weights from `first_weight` (PennyLane's StronglyEntanglingLayers; Schuld et al. 2018).
void strongly_entangling_layers(Circuit& circuit, int layers, int first_weight = 0,
                                std::span<const int> ranges = {});

/// Layer l: R_axis(w[l, i]) on every wire i, then CNOT(i, (i + 1) mod n). Two wires get CNOT(0,1) only; one
/// gets none. Takes n·layers weights (PennyLane's BasicEntanglerLayers).
void basic_entangler_layers(Circuit& circuit, int layers, Gate axis = Gate::rx, int first_weight = 0);

/// Layer l: RY(w[l, i]) on every wire i, then CNOT(i, i + 1) for i = 0 … n-2. Takes n·layers weights.
void ry_cnot_ladder(Circuit& circuit, int layers, int first_weight = 0);

enum class Ansatz : uint8_t { strongly, basic, ladder };
enum class Embedding : uint8_t { angle_x, angle_y, angle_z, iqp, amplitude };

/// "strongly", "basic", "ladder". Throws InputError, with a suggestion, for others.
Ansatz parse_ansatz(std::string_view name);
std::string_view to_string(Ansatz ansatz);
/// "angle-x", "angle-y", "angle-z", "iqp", "amplitude".
Embedding parse_embedding(std::string_view name);
std::string_view to_string(Embedding embedding);

struct LayeredOptions {
  int qubits = 6;
  int layers = 2;
  Ansatz ansatz = Ansatz::strongly;
  Embedding embedding = Embedding::angle_y;
  Gate basic_axis = Gate::rx;  ///< the rotation of `basic`
  /// Embed the inputs again before every layer, each time times a weight of its own (data re-uploading;
  /// Pérez-Salinas et al. 2020). The n·layers scales come before the ansatz' weights, as scale[l, i]. Angle
  /// embeddings only.
  bool reupload = false;
};

/// Embedding, then layers; inputs 0 … n-1 (amplitude: 0 … 2^n-1). Throws InputError for options out of range.
Circuit layered_circuit(const LayeredOptions& options);

/// Weights that the ansatz' layers take, without re-uploading's scales.
int ansatz_weights(Ansatz ansatz, int qubits, int layers);

}  // namespace qtf::quantum
