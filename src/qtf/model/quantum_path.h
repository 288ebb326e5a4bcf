// A model's quantum layer with its router: after the attention of block ⌊L/2⌋ every token gets a score and a
// decision (adapt/router.h), and the routed ones pass the layer (nn/quantum_layer.h). The same code routes in
// training, evaluation, prompts and decoding.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "qtf/adapt/entropy_distribution.h"
#include "qtf/adapt/router.h"
#include "qtf/base/thread_pool.h"
#include "qtf/model/config.h"
#include "qtf/model/parameters.h"
#include "qtf/nn/quantum_layer.h"

namespace qtf::model {

/// The layer and the router's numbers. Const members may run on many threads.
template <class T>
class QuantumPath {
 public:
  /// parameters: the model's, which must outlive it.
  QuantumPath(const ModelConfig& config, const ParameterLayout& layout, const T* parameters);

  /// Reads the parameters; to be called after each change of them.
  void prepare();

  const QuantumConfig& config() const { return config_; }
  const nn::QuantumLayer<T>& layer() const { return layer_; }
  /// The block after whose attention it sits.
  int64_t block() const { return block_; }

  /// How expectation values are read from now on, for evaluation. Throws InputError for shots or noise with a
  /// map that is no circuit.
  void set_measurement(const nn::Measurement& measurement);
  const nn::Measurement* measurement() const { return measurement_.exact() ? nullptr : &measurement_; }

  /// Ŝ in [0, 1] of an attention entropy.
  T signal(T entropy) const;

  /// What is compared with the threshold: the score or, with random routing, a draw by the token's numbers x.
  T selection(T score, const T* x, int64_t position) const;

  /// The router's question and answer for one token.
  adapt::RouteDecision decide(int64_t position, int64_t routed_before, T selection) const;

 private:
  QuantumConfig config_;
  const QuantumParameters& at_;
  const T* parameters_;
  int64_t block_;
  nn::QuantumLayer<T> layer_;
  nn::Measurement measurement_;
  adapt::EntropyDistribution entropies_;
  int64_t threshold_ = 0;
};

/// What a pass tells of its routing, a number a row; null: not asked for.
template <class T>
struct RouteTrace {
  uint8_t* routed = nullptr;  ///< 1 or 0
  uint8_t* open = nullptr;    ///< 1 if the quota had room for the token, else 0
  T* entropy = nullptr;       ///< the layer's attention entropy
  T* selection = nullptr;     ///< what was compared with the threshold
  T* circuit_entropy =
      nullptr;  ///< nats of entanglement between the halves of a routed token's qubits, else 0

  bool any() const { return routed || open || entropy || selection || circuit_entropy; }
  RouteTrace from(int64_t row) const {
    const auto at = [row](auto* p) { return p ? p + row : nullptr; };
    return {at(routed), at(open), at(entropy), at(selection), at(circuit_entropy)};
  }
};

/// The routing of one pass by one thread, or by each member of a team.
template <class T>
class RoutedPass final : public nn::MidLayer<T> {
 public:
  /// segments: all of the pass; they and what `trace` points to must outlive it. Unless take_slice is called,
  /// the thread, or every member of the team, sees all rows; then the first member alone changes them.
  RoutedPass(const QuantumPath<T>& path, std::span<const nn::Segment<T>> segments,
             const RouteTrace<T>& trace);

  /// For a team whose members each have rows of their own: of the pass' rows `slice`, this member's segments
  /// begin at `places`. shared_selection[rows of the pass] is the team's.
  void take_slice(Range slice, std::span<const int64_t> places, T* shared_selection);

  void forward(const nn::Pass<T>& pass, const T* entropy, Matrix<T> x, Arena& arena) override;
  void backward(const nn::Pass<T>& pass, Matrix<T> dx, T* gradients, Arena& arena) override;

 private:
  int64_t place(const nn::Pass<T>& pass, size_t segment) const;
  /// Of the slice's rows: which are routed, and for which the quota had room.
  void decide(const T* selection, uint8_t* routed, uint8_t* open);
  void tell(const nn::Pass<T>& pass, const T* entropy, const T* selection, const uint8_t* routed,
            const uint8_t* open, Arena& arena);

  const QuantumPath<T>& path_;
  std::span<const nn::Segment<T>> segments_;
  RouteTrace<T> trace_;
  std::vector<int64_t> counts_;  // routed tokens of each segment's sequence so far
  Range slice_;
  std::span<const int64_t> places_;
  T* shared_selection_ = nullptr;
  nn::QuantumSaved<T> saved_{};
};

/// Writes a pass' decisions into the caches that it extends, before they advance.
template <class T>
void keep_routes(std::span<const nn::Segment<T>> segments, const uint8_t* routed);

}  // namespace qtf::model
