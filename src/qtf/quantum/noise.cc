#include "qtf/quantum/noise.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "qtf/base/error.h"

namespace qtf::quantum {
namespace {

void check_shots(int64_t shots) {
  if (shots < 1) throw_input_error("shots", "shots must be at least 1, got {}", shots);
}

void check_probability(double p, const char* what) {
  if (!(p >= 0 && p <= 1)) throw_input_error("noise", "{} must be from 0 to 1, got {}", what, p);
}

/// Draws of one shot, in order.
class Draws {
 public:
  Draws(uint64_t seed, int64_t shot) : random_{seed, static_cast<uint64_t>(shot)} {}
  double next() { return random_.uniform(index_++); }

 private:
  Random random_;
  uint64_t index_ = 0;
};

/// The outcome as it is read: each bit flipped with probability `error`.
int64_t read_out(int64_t outcome, int qubits, double error, Draws& draws) {
  for (int w = 0; error > 0 && w < qubits; ++w) {
    if (draws.next() < error) outcome ^= wire_bit(qubits, w);
  }
  return outcome;
}

/// The first index whose cumulated probability exceeds the draw.
int64_t pick(std::span<const double> cumulated, double draw) {
  const auto found = std::ranges::upper_bound(cumulated, draw * cumulated.back());
  return std::min<int64_t>(found - cumulated.begin(), static_cast<int64_t>(cumulated.size()) - 1);
}

std::vector<double> cumulate(std::vector<double> values) {
  for (size_t i = 1; i < values.size(); ++i) values[i] += values[i - 1];
  return values;
}

/// Kraus matrices of every channel of a model.
std::vector<std::vector<GateMatrix>> all_kraus(const NoiseModel& noise) {
  check_probability(noise.readout_error, "readout error");
  std::vector<std::vector<GateMatrix>> all;
  for (const auto& [channel, strength] : noise.after_gates) all.push_back(kraus_matrices(channel, strength));
  return all;
}

/// A gate of the circuit as a matrix on its wires.
struct PlacedMatrix {
  std::span<const int> wires;
  GateMatrix matrix;
};

std::vector<PlacedMatrix> placed_matrices(const Circuit& circuit, std::span<const double> inputs,
                                          std::span<const double> weights) {
  check_variables(circuit, inputs, weights);
  std::vector<PlacedMatrix> all;
  for (const Operation& operation : circuit.operations()) {
    all.push_back({operation.wires, operation_matrix(operation, inputs, weights)});
  }
  return all;
}

std::vector<Complex> first_amplitudes(const Circuit& circuit, std::span<const double> inputs) {
  if (circuit.amplitude_embedding()) {
    return embedded_amplitudes(*circuit.amplitude_embedding(), circuit.qubits(), inputs);
  }
  return State(circuit.qubits()).amplitudes;
}

/// Replaces ψ by Kψ/‖Kψ‖ for one Kraus matrix K, drawn with probability ‖Kψ‖².
void draw_kraus(std::vector<Complex>& amplitudes, int qubits, int wire, const std::vector<GateMatrix>& kraus,
                double draw) {
  std::vector<Complex> tried;
  for (size_t i = 0; i < kraus.size(); ++i) {
    tried = amplitudes;
    apply_matrix(tried, qubits, {&wire, 1}, kraus[i]);
    double probability = 0;
    for (const Complex& a : tried) probability += std::norm(a);
    draw -= probability;
    // The last one takes what rounding leaves over, unless it is impossible.
    if ((draw < 0 || i + 1 == kraus.size()) && probability > 0) {
      for (Complex& a : tried) a /= std::sqrt(probability);
      amplitudes = std::move(tried);
      return;
    }
  }
}

/// ρ ← Σ K ρ K† as one matrix Σ K ⊗ conj(K) on a row's and a column's wire.
GateMatrix superoperator(const std::vector<GateMatrix>& kraus) {
  GateMatrix sum(16);
  for (const GateMatrix& k : kraus) {
    for (size_t i = 0; i < 4; ++i) {
      for (size_t j = 0; j < 4; ++j) {
        sum[i * 4 + j] += k[(i >> 1) * 2 + (j >> 1)] * std::conj(k[(i & 1) * 2 + (j & 1)]);
      }
    }
  }
  return sum;
}

}  // namespace

NoiseModel parse_noise(std::string_view text) {
  NoiseModel noise;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(item.size() + 1, text.size()));
    const size_t equals = item.find('=');
    const std::string_view name = item.substr(0, equals);
    const std::string_view number = equals == std::string_view::npos ? "" : item.substr(equals + 1);
    double value = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
    if (error != std::errc() || end != number.data() + number.size()) {
      throw_input_error("noise", "'{}' is not of the form channel=strength", item);
    }
    if (name == "readout") {
      check_probability(value, "readout");
      noise.readout_error = value;
    } else {
      const Channel channel = parse_channel(name);
      kraus_matrices(channel, value);  // checks the strength
      noise.after_gates.push_back({channel, value});
    }
  }
  return noise;
}

double Counts::mean(int64_t z_mask) const {
  int64_t sum = 0;
  for (size_t k = 0; k < counts.size(); ++k)
    sum += odd_parity(static_cast<int64_t>(k) & z_mask) ? -counts[k] : counts[k];
  return static_cast<double>(sum) / static_cast<double>(shots);
}

double Counts::standard_error(int64_t z_mask) const {
  const double m = mean(z_mask);
  return std::sqrt(std::max(0.0, 1 - m * m) / static_cast<double>(shots));
}

Counts sample(const State& state, int64_t shots, uint64_t seed, double readout_error) {
  check_shots(shots);
  check_probability(readout_error, "readout error");
  const std::vector<double> cumulated = cumulate(probabilities(state));
  Counts counts{shots, std::vector<int64_t>(state.amplitudes.size())};
  for (int64_t shot = 0; shot < shots; ++shot) {
    Draws draws(seed, shot);
    const int64_t outcome = pick(cumulated, draws.next());
    ++counts.counts[static_cast<size_t>(read_out(outcome, state.qubits, readout_error, draws))];
  }
  return counts;
}

Counts sample_noisy(const Circuit& circuit, std::span<const double> inputs, std::span<const double> weights,
                    const NoiseModel& noise, int64_t shots, uint64_t seed) {
  check_shots(shots);
  const auto kraus = all_kraus(noise);
  const auto gates = placed_matrices(circuit, inputs, weights);
  const std::vector<Complex> first = first_amplitudes(circuit, inputs);
  const int n = circuit.qubits();
  Counts counts{shots, std::vector<int64_t>(first.size())};
  for (int64_t shot = 0; shot < shots; ++shot) {
    Draws draws(seed, shot);
    State state(n);
    state.amplitudes = first;
    for (const auto& [wires, matrix] : gates) {
      apply_matrix(state.amplitudes, n, wires, matrix);
      for (const auto& channel : kraus) {
        for (int wire : wires) draw_kraus(state.amplitudes, n, wire, channel, draws.next());
      }
    }
    const int64_t outcome = pick(cumulate(probabilities(state)), draws.next());
    ++counts.counts[static_cast<size_t>(read_out(outcome, n, noise.readout_error, draws))];
  }
  return counts;
}

DensityMatrix run_noisy(const Circuit& circuit, std::span<const double> inputs,
                        std::span<const double> weights, const NoiseModel& noise) {
  const int n = circuit.qubits();
  check_memory(std::ldexp(16, 2 * n), "a density matrix");
  const auto kraus = all_kraus(noise);
  const std::vector<Complex> first = first_amplitudes(circuit, inputs);
  // ρ's elements are the amplitudes of 2n wires: rows first, then columns.
  DensityMatrix density{n, std::vector<Complex>(first.size() * first.size())};
  for (size_t i = 0; i < first.size(); ++i) {
    for (size_t j = 0; j < first.size(); ++j)
      density.elements[i * first.size() + j] = first[i] * std::conj(first[j]);
  }
  for (const auto& [wires, matrix] : placed_matrices(circuit, inputs, weights)) {
    std::vector<int> columns;
    GateMatrix conjugate;
    for (int w : wires) columns.push_back(n + w);
    for (const Complex& value : matrix) conjugate.push_back(std::conj(value));
    apply_matrix(density.elements, 2 * n, wires, matrix);
    apply_matrix(density.elements, 2 * n, columns, conjugate);
    for (const auto& channel : kraus) {
      for (int w : wires) {
        const int both[] = {w, n + w};
        apply_matrix(density.elements, 2 * n, both, superoperator(channel));
      }
    }
  }
  return density;
}

double trace(const DensityMatrix& density) {
  double sum = 0;
  for (double p : probabilities(density)) sum += p;
  return sum;
}

double expectation(const DensityMatrix& density, const PauliString& pauli) {
  // tr(ρP) = Σ_k ρ[k, k ⊕ x]·⟨k ⊕ x|P|k⟩.
  const int64_t size = int64_t{1} << density.qubits;
  Complex sum = 0;
  for (int64_t k = 0; k < size; ++k) {
    const Complex element = density.elements[static_cast<size_t>(k * size + (k ^ pauli.x))];
    sum += odd_parity(k & pauli.z) ? -element : element;
  }
  constexpr Complex kPowers[] = {1, {0, 1}, -1, {0, -1}};
  return (sum * kPowers[std::popcount(static_cast<uint64_t>(pauli.x & pauli.z)) & 3]).real();
}

std::vector<double> probabilities(const DensityMatrix& density, double readout_error) {
  check_probability(readout_error, "readout error");
  const size_t size = size_t{1} << density.qubits;
  std::vector<double> values(size);
  for (size_t k = 0; k < size; ++k) values[k] = density.elements[k * size + k].real();
  for (size_t bit = 1; readout_error > 0 && bit < size; bit *= 2) {
    for (size_t k = 0; k < size; ++k) {
      if (k & bit) continue;
      const double zero = values[k], one = values[k | bit];
      values[k] = (1 - readout_error) * zero + readout_error * one;
      values[k | bit] = (1 - readout_error) * one + readout_error * zero;
    }
  }
  return values;
}

double expectation_z(std::span<const double> values, int64_t z_mask) {
  double sum = 0;
  for (size_t k = 0; k < values.size(); ++k)
    sum += odd_parity(static_cast<int64_t>(k) & z_mask) ? -values[k] : values[k];
  return sum;
}

}  // namespace qtf::quantum
