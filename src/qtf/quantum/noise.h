// Measuring: shots from a state, and circuits with noise, exactly by density matrix or sampled by
// trajectories. All random draws are functions of a seed and a shot's number.
#pragma once

#include <string>

#include "qtf/base/random.h"
#include "qtf/quantum/channels.h"
#include "qtf/quantum/state.h"

namespace qtf::quantum {

/// A channel of a given strength on every wire that a gate touches, after the gate.
struct NoiseChannel {
  Channel channel;
  double strength = 0;
};

struct NoiseModel {
  std::vector<NoiseChannel> after_gates;
  /// Probability that a measured bit is read wrongly, 0 as 1 or 1 as 0.
  double readout_error = 0;

  bool empty() const { return after_gates.empty() && readout_error == 0; }
};

/// "depolarizing=0.01,readout=0.02": channels by name, and readout. Throws InputError for what is neither,
/// and for strengths out of [0, 1].
NoiseModel parse_noise(std::string_view text);

/// Outcomes of measuring all wires.
struct Counts {
  int64_t shots = 0;
  std::vector<int64_t> counts;  ///< [2^n]

  /// Mean of a product of Zs, ±1 each shot.
  double mean(int64_t z_mask) const;
  /// Standard error of that mean.
  double standard_error(int64_t z_mask) const;
};

/// `shots` measurements of one state. Throws InputError for less than one shot.
Counts sample(const State& state, int64_t shots, uint64_t seed, double readout_error = 0);

/// `shots` runs of a noisy circuit, each with Kraus operators of its own, drawn with their probabilities
/// (quantum trajectories), and one measurement.
Counts sample_noisy(const Circuit& circuit, std::span<const double> inputs, std::span<const double> weights,
                    const NoiseModel& noise, int64_t shots, uint64_t seed);

/// A mixed state, ρ by rows; wire 0 is the most significant bit.
struct DensityMatrix {
  int qubits = 0;
  std::vector<Complex> elements;  ///< [2^n, 2^n]
};

/// The exact mixed state of a noisy circuit, before readout. Throws InputError if ρ needs more memory than
/// there is, saying how much.
DensityMatrix run_noisy(const Circuit& circuit, std::span<const double> inputs,
                        std::span<const double> weights, const NoiseModel& noise);

double trace(const DensityMatrix& density);
double expectation(const DensityMatrix& density, const PauliString& pauli);

/// Of every outcome, after readout errors.
std::vector<double> probabilities(const DensityMatrix& density, double readout_error = 0);

/// Σ p·(±1) of a product of Zs.
double expectation_z(std::span<const double> probabilities, int64_t z_mask);

}  // namespace qtf::quantum
