#include "qtf/quantum/templates.h"

#include <array>

#include "qtf/base/error.h"
#include "qtf/base/parse.h"

namespace qtf::quantum {
namespace {

constexpr std::array<std::string_view, 3> kAnsatzNames = {"strongly", "basic", "ladder"};
constexpr std::array<std::string_view, 5> kEmbeddingNames = {"angle-x", "angle-y", "angle-z", "iqp",
                                                             "amplitude"};
constexpr int kMaxLayers = 1000;

void check_axis(Gate axis) {
  if (axis != Gate::rx && axis != Gate::ry && axis != Gate::rz) {
    throw_input_error("circuit", "a rotation axis is RX, RY or RZ, got {}", info(axis).name);
  }
}

void check_layers(int layers) {
  if (layers < 0 || layers > kMaxLayers) {
    throw_input_error("circuit", "layers must be from 0 to {}, got {}", kMaxLayers, layers);
  }
}

template <size_t N>
size_t parse_name(std::string_view name, std::string_view what,
                  const std::array<std::string_view, N>& names) {
  for (size_t i = 0; i < N; ++i) {
    if (names[i] == name) return i;
  }
  throw_input_error("circuit", "unknown {} '{}'{}", what, name, did_you_mean(name, names));
}

/// One ring of CNOTs from each wire to the one `range` further.
void cnot_ring(Circuit& circuit, int range) {
  const int n = circuit.qubits();
  for (int i = 0; i < n; ++i) circuit.add(Gate::cnot, {i, (i + range) % n});
}

Gate embedding_axis(Embedding embedding) {
  constexpr std::array axes = {Gate::rx, Gate::ry, Gate::rz};
  return axes[static_cast<size_t>(embedding)];
}

/// Layer `layer` of `ansatz`, whose weights begin at first_weight.
void add_layer(Circuit& circuit, const LayeredOptions& options, int layer, int first_weight) {
  const int n = options.qubits;
  switch (options.ansatz) {
    case Ansatz::strongly: {
      const int range = n > 1 ? layer % (n - 1) + 1 : 1;
      return strongly_entangling_layers(circuit, 1, first_weight, {&range, 1});
    }
    case Ansatz::basic:
      return basic_entangler_layers(circuit, 1, options.basic_axis, first_weight);
    case Ansatz::ladder:
      return ry_cnot_ladder(circuit, 1, first_weight);
  }
}

void embed(Circuit& circuit, Embedding embedding) {
  switch (embedding) {
    case Embedding::iqp:
      return iqp_embedding(circuit);
    case Embedding::amplitude:
      circuit.embed_amplitudes({.features = static_cast<int>(circuit.dimension())});
      return;
    default:
      return angle_embedding(circuit, embedding_axis(embedding));
  }
}

}  // namespace

void angle_embedding(Circuit& circuit, Gate axis, int first_input) {
  check_axis(axis);
  for (int i = 0; i < circuit.qubits(); ++i) circuit.add(axis, {i}, {input(first_input + i)});
}

void iqp_embedding(Circuit& circuit, int repeats) {
  check_layers(repeats);
  const int n = circuit.qubits();
  for (int r = 0; r < repeats; ++r) {
    for (int i = 0; i < n; ++i) circuit.add(Gate::hadamard, {i}).add(Gate::rz, {i}, {input(i)});
    for (int i = 0; i < n; ++i) {
      for (int j = i + 1; j < n; ++j) circuit.add(Gate::multi_rz, {i, j}, {Angle(input(i), input(j))});
    }
  }
}

void strongly_entangling_layers(Circuit& circuit, int layers, int first_weight, std::span<const int> ranges) {
  check_layers(layers);
  const int n = circuit.qubits();
  if (!ranges.empty() && static_cast<int>(ranges.size()) != layers) {
    throw_input_error("circuit", "{} layers take as many ranges, got {}", layers, ranges.size());
  }
  for (int l = 0; l < layers; ++l) {
    for (int i = 0; i < n; ++i) {
      const int w = first_weight + 3 * (l * n + i);
      circuit.add(Gate::rot, {i}, {weight(w), weight(w + 1), weight(w + 2)});
    }
    if (n == 1) continue;
    const int range = ranges.empty() ? l % (n - 1) + 1 : ranges[static_cast<size_t>(l)];
    if (range < 1 || range >= n) {
      throw_input_error("circuit", "a range on {} wires is from 1 to {}, got {}", n, n - 1, range);
    }
    cnot_ring(circuit, range);
  }
}

void basic_entangler_layers(Circuit& circuit, int layers, Gate axis, int first_weight) {
  check_layers(layers);
  check_axis(axis);
  const int n = circuit.qubits();
  for (int l = 0; l < layers; ++l) {
    for (int i = 0; i < n; ++i) circuit.add(axis, {i}, {weight(first_weight + l * n + i)});
    if (n == 2) circuit.add(Gate::cnot, {0, 1});
    if (n > 2) cnot_ring(circuit, 1);
  }
}

void ry_cnot_ladder(Circuit& circuit, int layers, int first_weight) {
  check_layers(layers);
  const int n = circuit.qubits();
  for (int l = 0; l < layers; ++l) {
    for (int i = 0; i < n; ++i) circuit.add(Gate::ry, {i}, {weight(first_weight + l * n + i)});
    for (int i = 0; i + 1 < n; ++i) circuit.add(Gate::cnot, {i, i + 1});
  }
}

Ansatz parse_ansatz(std::string_view name) {
  return static_cast<Ansatz>(parse_name(name, "ansatz", kAnsatzNames));
}

std::string_view to_string(Ansatz ansatz) {
  return kAnsatzNames[static_cast<size_t>(ansatz)];
}

Embedding parse_embedding(std::string_view name) {
  return static_cast<Embedding>(parse_name(name, "embedding", kEmbeddingNames));
}

std::string_view to_string(Embedding embedding) {
  return kEmbeddingNames[static_cast<size_t>(embedding)];
}

int ansatz_weights(Ansatz ansatz, int qubits, int layers) {
  return (ansatz == Ansatz::strongly ? 3 : 1) * qubits * layers;
}

Circuit layered_circuit(const LayeredOptions& options) {
  Circuit circuit(options.qubits);
  check_layers(options.layers);
  const bool angles = options.embedding <= Embedding::angle_z;
  if (options.reupload && !angles) {
    throw_input_error("circuit", "re-uploading takes an angle embedding, not {}",
                      to_string(options.embedding));
  }
  const int n = options.qubits, scales = options.reupload ? n * options.layers : 0;
  if (!options.reupload) embed(circuit, options.embedding);
  for (int l = 0; l < options.layers; ++l) {
    for (int i = 0; options.reupload && i < n; ++i) {
      circuit.add(embedding_axis(options.embedding), {i}, {Angle(input(i), weight(l * n + i))});
    }
    add_layer(circuit, options, l, scales + ansatz_weights(options.ansatz, n, l));
  }
  return circuit;
}

}  // namespace qtf::quantum
