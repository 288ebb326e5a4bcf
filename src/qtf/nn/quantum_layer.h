// The quantum layer: of the tokens that are routed to it, the normalised residual is projected to Q angles, a
// circuit runs on each token's qubits, and its expectation values ⟨Z⟩ are projected back and added.
//
//   n = norm(x)                          score = w·n + b + v·Ŝ, Ŝ a signal of the token from outside
//   a = π·tanh(W_in·n + b_in)            y = x + σ(score)·g·W_out·⟨Z⟩(a), g a number that begins at 0
//
// The score decides which tokens are routed (adapt/router.h), which has no derivative; through σ(score) the
// routed ones train it. Unrouted tokens pass unchanged.
#pragma once

#include <memory>
#include <span>

#include "qtf/base/arena.h"
#include "qtf/nn/block.h"
#include "qtf/nn/inner_map.h"

namespace qtf::nn {

/// Where the layer's weights lie in the model's parameters; their gradients lie at the same places.
struct QuantumOffsets {
  int64_t norm = 0;           ///< [D]
  int64_t in_weight = 0;      ///< [Q, D]
  int64_t in_bias = 0;        ///< [Q]
  int64_t inner = 0;          ///< [InnerSpec::weights()]
  int64_t out_weight = 0;     ///< [D, Q]
  int64_t gate = 0;           ///< [1]
  int64_t score_weight = 0;   ///< [D]
  int64_t score_bias = 0;     ///< [1]
  int64_t signal_weight = 0;  ///< [1]
};

template <class T>
struct QuantumLayer {
  InnerSpec spec;
  bool trains_inner = true;  ///< else the inner map's weights get no gradient and stay as they began
  T epsilon = T{1e-5};       ///< of the norm
  int64_t width = 0;         ///< D
  QuantumOffsets at;
  const T* parameters = nullptr;
  std::unique_ptr<InnerMap<T>> inner;  ///< prepared
};

/// What forward keeps, for backward and for reports; all in the worker's arena.
template <class T>
struct QuantumSaved {
  int64_t rows = 0;
  const T* signal = nullptr;                   ///< [rows]
  T *stats, *normed;                           ///< [rows], [rows, D]
  T* scores = nullptr;                         ///< [rows]
  std::span<const int64_t> routed;             ///< rows of x, rising
  T *routed_x, *routed_normed, *routed_stats;  ///< the routed tokens' x, norm(x) and statistics
  T *squashed, *angles, *z, *out;  ///< tanh(…), π·tanh(…) and ⟨Z⟩ [R, Q], W_out·⟨Z⟩ [R, D]
};

/// scores[rows] of x[rows, D], contiguous, and what quantum_forward needs of x. signal[rows] must outlive
/// saved.
template <class T>
void quantum_scores(const QuantumLayer<T>& layer, ConstMatrix<T> x, const T* signal, QuantumSaved<T>& saved,
                    Arena& arena);

/// Adds to the rows `routed` of x, with saved as quantum_scores left it; `routed` must outlive saved. Angles
/// that are not finite become 0: the token's own numbers show the fault. measurement: null, or how
/// expectation values are read.
template <class T>
void quantum_forward(const QuantumLayer<T>& layer, std::span<const int64_t> routed, const Dropout& dropout,
                     Matrix<T> x, QuantumSaved<T>& saved, Arena& arena,
                     const Measurement* measurement = nullptr);

/// dx[rows, D] holds dy on entry and the gradient by x on return; the weights' is added to `gradients`.
template <class T>
void quantum_backward(const QuantumLayer<T>& layer, const Dropout& dropout, const QuantumSaved<T>& saved,
                      Matrix<T> dx, T* gradients, Arena& arena);

/// Multiply-accumulates of the projections of a routed token, and of the norm and score of every token.
int64_t quantum_macs_routed(const InnerSpec& spec, int64_t width);
int64_t quantum_macs_any(int64_t width);

}  // namespace qtf::nn
