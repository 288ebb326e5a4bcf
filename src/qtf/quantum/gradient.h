// Whole Jacobians of one token, by the adjoint method and, as an independent check and for hardware, by
// parameter shifts; kernels between states and their gradients.
#pragma once

#include "qtf/quantum/simulator.h"

namespace qtf::quantum {

/// ∂⟨observable i⟩/∂(input or weight j), by rows.
struct Jacobian {
  std::vector<double> inputs;   ///< [outputs, inputs]
  std::vector<double> weights;  ///< [outputs, weights]
};

/// By `outputs` vector-Jacobian products, at the weights last prepared.
Jacobian adjoint_jacobian(const Simulator<double>& simulator, std::span<const double> inputs);

/// From expectation values of shifted circuits alone, two or four for each angle (Schuld et al. 2019; four
/// terms as in Anselmetti et al. 2021). Throws InputError for amplitude embedding, which has no shifts.
Jacobian parameter_shift_jacobian(const Circuit& circuit, std::span<const PauliString> observables,
                                  std::span<const double> inputs, std::span<const double> weights);

/// Circuits that parameter_shift_jacobian runs.
int64_t parameter_shift_evaluations(const Circuit& circuit);

/// K[i, j] = |⟨ψ(x_i; query weights)|ψ(x_j; key weights)⟩|². With one circuit of shared weights behind a
/// common embedding on both sides the weights cancel: the two sides' weights must differ to matter.
struct FidelityKernel {
  std::vector<double> values;              ///< [T, T]
  std::vector<double> dx, d_query, d_key;  ///< of Σ derivative·K; empty without a derivative
};

/// x [T, inputs]. `derivative`: [T, T], or empty.
FidelityKernel fidelity_kernel(const Circuit& circuit, ConstMatrix<double> x,
                               std::span<const double> query_weights, std::span<const double> key_weights,
                               std::span<const double> derivative = {});

}  // namespace qtf::quantum
