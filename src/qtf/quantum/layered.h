// Finds the circuits that the fast path runs, and brings weights into the form its kernels take: a product
// state, then layers of (permutation, shared diagonal, a real RY on every wire), then expectation values of
// products of Z. Embeddings by angles followed by any of the templates' layers are of this form; see
// docs/quantum.md.
#pragma once

#include <optional>

#include "qtf/base/aligned.h"
#include "qtf/kernels/circuit_layers.h"
#include "qtf/quantum/state.h"

namespace qtf::quantum {

/// A circuit in the fast path's form, before any weights are known.
struct LayeredForm {
  /// exp(−i·angle/2·Z…Z) as the sign of the parity of an index' bits.
  struct Phase {
    int32_t mask;  ///< of the index before the layer's permutation
    Angle angle;
  };
  struct Layer {
    std::vector<int32_t> source;  ///< [2^n] amplitude k of this layer is source[k] of the one before
    std::vector<Phase> phases;    ///< applied before the permutation
    std::vector<std::optional<Angle>> angles;  ///< [n] of RY, by wire
  };
  struct Wire {
    int column = -1;  ///< of the input; -1: none
    Gate axis = Gate::ry;
    double offset = 0, scale = 0;
    std::vector<Operation> before,
        after;  ///< gates on this wire alone, before and after the input's rotation
  };
  int qubits = 0;
  int inputs = 0;
  std::vector<Wire> wires;
  std::vector<Layer> layers;     ///< at least one
  std::vector<int32_t> strings;  ///< the observables as masks of the last layer's index
};

/// The circuit's form, or nothing if it has none or if the generic path is as fast.
std::optional<LayeredForm> find_layers(const Circuit& circuit, std::span<const PauliString> observables);

/// A form with its weights: what the kernels read.
template <class T>
class LayeredWeights {
 public:
  explicit LayeredWeights(const LayeredForm& form);
  LayeredWeights(const LayeredWeights&) = delete;
  LayeredWeights& operator=(const LayeredWeights&) = delete;

  /// Allocates nothing.
  void prepare(std::span<const double> weights);

  const kernels::LayeredCircuit<T>& kernel() const { return kernel_; }

  /// Adds to d_weights what follows from `sums`, which layered_vjp describes and which is overwritten, at the
  /// weights last prepared. Allocates nothing.
  void add_gradients(std::span<double> sums, std::span<double> d_weights) const;

 private:
  void prepare_wire(int wire, std::span<const double> weights);
  void prepare_layer(size_t layer, std::span<const double> weights);

  const LayeredForm& form_;
  std::vector<double> weights_;
  AlignedVector<int32_t> columns_, strings_;
  AlignedVector<uint8_t> patterns_;
  AlignedVector<T> input_scale_, input_offset_, wire_states_;
  std::vector<AlignedVector<int32_t>> sources_;
  std::vector<AlignedVector<T>> diagonals_, tangents_;
  AlignedVector<double> phases_;
  std::vector<kernels::RotationLayer<T>> layers_;
  kernels::LayeredCircuit<T> kernel_;
};

}  // namespace qtf::quantum
