// One state vector in double, and everything that can be read from it. This is the generic path: it applies
// every gate as the matrix of its table row. The batched simulator is tested against it; `qtf circuit`, noise
// and entropies use it.
#pragma once

#include <bit>
#include <string>
#include <string_view>

#include "qtf/quantum/circuit.h"

namespace qtf::quantum {

/// 2^n amplitudes; wire 0 is the most significant bit of the index.
struct State {
  int qubits = 0;
  std::vector<Complex> amplitudes;

  /// |0…0⟩.
  explicit State(int num_qubits);
  /// Given amplitudes. Throws InputError unless there are 2^n of them, of length 1 within 1e-6.
  State(int num_qubits, std::vector<Complex> values);
};

/// Bit of `wire` in an index over `qubits` wires.
inline int64_t wire_bit(int qubits, int wire) {
  return int64_t{1} << (qubits - 1 - wire);
}

/// Whether an odd number of bits is set: then a product of Pauli Zs on those wires is −1.
inline bool odd_parity(int64_t bits) {
  return std::popcount(static_cast<uint64_t>(bits)) & 1;
}

/// amplitudes ← matrix on `wires` (of `qubits`) · amplitudes.
void apply_matrix(std::span<Complex> amplitudes, int qubits, std::span<const int> wires,
                  std::span<const Complex> matrix);

/// The amplitudes that an embedding makes of `inputs`. Throws InputError for a vector of zeros, and for one
/// not of length 1 within 1e-6 where it is not to be normalised.
std::vector<Complex> embedded_amplitudes(const AmplitudeEmbedding& embedding, int qubits,
                                         std::span<const double> inputs);

/// The circuit's state for given variables. Throws InputError if their numbers are not the circuit's, or one
/// is not finite.
State run(const Circuit& circuit, std::span<const double> inputs, std::span<const double> weights);

/// Throws InputError unless there are as many inputs and weights as the circuit uses, or more, all finite.
void check_variables(const Circuit& circuit, std::span<const double> inputs, std::span<const double> weights);

/// A product of Pauli operators as bit masks over indices: X on the wires of x, Z on those of z, Y on both.
struct PauliString {
  int64_t x = 0;
  int64_t z = 0;
  bool operator==(const PauliString&) const = default;
};

/// "XIZ", a letter a wire from wire 0, or "X0 Z2". Throws InputError for other letters, and wires out of
/// range or named twice.
PauliString parse_pauli(std::string_view text, int qubits);
std::string to_string(const PauliString& pauli, int qubits);

/// Z on one wire.
inline PauliString pauli_z(int qubits, int wire) {
  return {0, wire_bit(qubits, wire)};
}

/// ⟨ψ|P|ψ⟩.
double expectation(const State& state, const PauliString& pauli);

/// ⟨Z⟩ of every wire.
std::vector<double> expectations_z(const State& state);

/// |amplitude|² of every index.
std::vector<double> probabilities(const State& state);

/// Probabilities of some wires' outcomes, the first wire given being the most significant bit. Throws
/// InputError for wires out of range or repeated.
std::vector<double> probabilities(const State& state, std::span<const int> wires);

/// ρ of some wires, the others traced out: [2^k, 2^k] by rows. Throws like probabilities().
std::vector<Complex> reduced_density(const State& state, std::span<const int> wires);

/// −tr ρ ln ρ of a Hermitian [size, size] matrix of trace 1, in nats; never below 0.
double von_neumann_entropy(std::span<const Complex> density, int64_t size);

/// Entanglement entropy, in nats, between wires 0 … cut-1 and the rest. Throws InputError unless 0 < cut < n.
double cut_entropy(const State& state, int cut);

/// |⟨a|b⟩|². Throws InputError for different numbers of qubits.
double fidelity(const State& a, const State& b);

}  // namespace qtf::quantum
