#include "qtf/quantum/state.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/tensor/svd.h"

namespace qtf::quantum {
namespace {

constexpr double kLengthTolerance = 1e-6;

double squared_length(std::span<const Complex> amplitudes) {
  double sum = 0;
  for (const Complex& a : amplitudes) sum += std::norm(a);
  return sum;
}

void check_length(double length, const char* what) {
  if (!(std::abs(length - 1) <= kLengthTolerance)) {
    throw_input_error("state", "{} must have length 1, got {:.9g}", what, length);
  }
}

void check_finite(std::span<const double> values, const char* what) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      throw_input_error("circuit", "{} {} is {}, it must be finite", what, i, values[i]);
    }
  }
}

void check_subset(int qubits, std::span<const int> wires) {
  int64_t seen = 0;
  for (int w : wires) {
    if (w < 0 || w >= qubits) {
      throw_input_error("state", "wire {} is out of range: the wires are 0 to {}", w, qubits - 1);
    }
    if (seen & wire_bit(qubits, w)) throw_input_error("state", "wire {} is given twice", w);
    seen |= wire_bit(qubits, w);
  }
}

/// The index whose bits on `wires` (the first the most significant) are those of `value`.
int64_t scatter(int64_t value, int qubits, std::span<const int> wires) {
  int64_t index = 0;
  for (size_t i = 0; i < wires.size(); ++i) {
    if (value >> (wires.size() - 1 - i) & 1) index |= wire_bit(qubits, wires[i]);
  }
  return index;
}

std::vector<int64_t> offsets(int qubits, std::span<const int> wires) {
  std::vector<int64_t> all(size_t{1} << wires.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = scatter(static_cast<int64_t>(i), qubits, wires);
  return all;
}

std::vector<int> other_wires(int qubits, std::span<const int> wires) {
  std::vector<int> others;
  for (int w = 0; w < qubits; ++w) {
    if (std::ranges::find(wires, w) == wires.end()) others.push_back(w);
  }
  return others;
}

}  // namespace

State::State(int num_qubits) : qubits(num_qubits), amplitudes(size_t{1} << num_qubits) {
  amplitudes[0] = 1;
}

State::State(int num_qubits, std::vector<Complex> values)
    : qubits(num_qubits), amplitudes(std::move(values)) {
  if (amplitudes.size() != size_t{1} << num_qubits) {
    throw_input_error("state", "{} qubits have {} amplitudes, got {}", num_qubits, int64_t{1} << num_qubits,
                      amplitudes.size());
  }
  check_length(std::sqrt(squared_length(amplitudes)), "a state");
}

void apply_matrix(std::span<Complex> amplitudes, int qubits, std::span<const int> wires,
                  std::span<const Complex> matrix) {
  const std::vector<int64_t> offset = offsets(qubits, wires);
  const int64_t touched = offset.back();
  std::vector<Complex> in(offset.size());
  for (int64_t base = 0; base < static_cast<int64_t>(amplitudes.size()); ++base) {
    if (base & touched) continue;
    for (size_t i = 0; i < offset.size(); ++i) in[i] = amplitudes[static_cast<size_t>(base + offset[i])];
    for (size_t i = 0; i < offset.size(); ++i) {
      Complex sum = 0;
      for (size_t j = 0; j < offset.size(); ++j) sum += matrix[i * offset.size() + j] * in[j];
      amplitudes[static_cast<size_t>(base + offset[i])] = sum;
    }
  }
}

std::vector<Complex> embedded_amplitudes(const AmplitudeEmbedding& embedding, int qubits,
                                         std::span<const double> inputs) {
  std::vector<Complex> amplitudes(size_t{1} << qubits, embedding.pad);
  std::copy_n(inputs.begin(), embedding.features, amplitudes.begin());
  const double length = std::sqrt(squared_length(amplitudes));
  if (!embedding.normalize) {
    check_length(length, "a vector that is embedded without normalisation");
    return amplitudes;
  }
  if (!(length > 0)) {
    throw_input_error("circuit", "amplitude embedding of a vector of zeros: it has no direction");
  }
  for (Complex& a : amplitudes) a /= length;
  return amplitudes;
}

void check_variables(const Circuit& circuit, std::span<const double> inputs,
                     std::span<const double> weights) {
  const auto check = [](std::span<const double> given, int wanted, const char* what) {
    if (static_cast<int>(given.size()) < wanted) {
      throw_input_error("circuit", "the circuit takes {} {}s, got {}", wanted, what, given.size());
    }
    check_finite(given, what);
  };
  check(inputs, circuit.inputs(), "input");
  check(weights, circuit.weights(), "weight");
}

State run(const Circuit& circuit, std::span<const double> inputs, std::span<const double> weights) {
  check_variables(circuit, inputs, weights);
  State state(circuit.qubits());
  if (circuit.amplitude_embedding()) {
    state.amplitudes = embedded_amplitudes(*circuit.amplitude_embedding(), circuit.qubits(), inputs);
  }
  for (const Operation& operation : circuit.operations()) {
    apply_matrix(state.amplitudes, state.qubits, operation.wires,
                 operation_matrix(operation, inputs, weights));
  }
  return state;
}

PauliString parse_pauli(std::string_view text, int qubits) {
  PauliString pauli;
  int64_t seen = 0;
  const bool by_wire = text.find_first_of("0123456789") != std::string_view::npos;
  int wire = 0;
  for (size_t i = 0; i < text.size();) {
    const char letter = text[i++];
    if (letter == ' ' && by_wire) continue;
    if (std::string_view("IXYZ").find(letter) == std::string_view::npos) {
      throw_input_error("pauli", "'{}' at position {} of '{}' is none of I, X, Y, Z", letter, i, text);
    }
    if (by_wire) {
      const auto [end, error] = std::from_chars(text.data() + i, text.data() + text.size(), wire);
      if (error != std::errc())
        throw_input_error("pauli", "a wire's number is missing after '{}' in '{}'", letter, text);
      i = static_cast<size_t>(end - text.data());
    }
    if (wire >= qubits) {
      throw_input_error("pauli", "'{}' names wire {}: the wires are 0 to {}", text, wire, qubits - 1);
    }
    const int64_t bit = wire_bit(qubits, wire++);
    if (seen & bit) throw_input_error("pauli", "'{}' names wire {} twice", text, wire - 1);
    seen |= bit;
    if (letter == 'X' || letter == 'Y') pauli.x |= bit;
    if (letter == 'Z' || letter == 'Y') pauli.z |= bit;
  }
  if (!by_wire && wire != qubits) {
    throw_input_error("pauli", "'{}' has {} letters, the circuit {} wires", text, wire, qubits);
  }
  return pauli;
}

std::string to_string(const PauliString& pauli, int qubits) {
  std::string text;
  for (int w = 0; w < qubits; ++w) {
    const int64_t bit = wire_bit(qubits, w);
    text += "IXZY"[(pauli.x & bit ? 1 : 0) + (pauli.z & bit ? 2 : 0)];
  }
  return text;
}

double expectation(const State& state, const PauliString& pauli) {
  // P|k⟩ = i^{#Y} (−1)^{|k & z|} |k ⊕ x⟩.
  Complex sum = 0;
  for (int64_t k = 0; k < static_cast<int64_t>(state.amplitudes.size()); ++k) {
    const Complex term = std::conj(state.amplitudes[static_cast<size_t>(k ^ pauli.x)]) *
                         state.amplitudes[static_cast<size_t>(k)];
    sum += std::popcount(static_cast<uint64_t>(k & pauli.z)) & 1 ? -term : term;
  }
  constexpr Complex kPowers[] = {1, {0, 1}, -1, {0, -1}};
  return (sum * kPowers[std::popcount(static_cast<uint64_t>(pauli.x & pauli.z)) & 3]).real();
}

std::vector<double> expectations_z(const State& state) {
  std::vector<double> values;
  for (int w = 0; w < state.qubits; ++w) values.push_back(expectation(state, pauli_z(state.qubits, w)));
  return values;
}

std::vector<double> probabilities(const State& state) {
  std::vector<double> values;
  for (const Complex& a : state.amplitudes) values.push_back(std::norm(a));
  return values;
}

std::vector<double> probabilities(const State& state, std::span<const int> wires) {
  check_subset(state.qubits, wires);
  const std::vector<int64_t> kept = offsets(state.qubits, wires),
                             summed = offsets(state.qubits, other_wires(state.qubits, wires));
  std::vector<double> values(kept.size());
  for (size_t i = 0; i < kept.size(); ++i) {
    for (int64_t other : summed)
      values[i] += std::norm(state.amplitudes[static_cast<size_t>(kept[i] + other)]);
  }
  return values;
}

std::vector<Complex> reduced_density(const State& state, std::span<const int> wires) {
  check_subset(state.qubits, wires);
  check_memory(std::ldexp(16, 2 * static_cast<int>(wires.size())), "a reduced density matrix");
  const std::vector<int64_t> kept = offsets(state.qubits, wires),
                             summed = offsets(state.qubits, other_wires(state.qubits, wires));
  const auto at = [&](int64_t index) { return state.amplitudes[static_cast<size_t>(index)]; };
  std::vector<Complex> density(kept.size() * kept.size());
  for (size_t i = 0; i < kept.size(); ++i) {
    for (size_t j = 0; j < kept.size(); ++j) {
      for (int64_t other : summed) {
        density[i * kept.size() + j] += at(kept[i] + other) * std::conj(at(kept[j] + other));
      }
    }
  }
  return density;
}

double von_neumann_entropy(std::span<const Complex> density, int64_t size) {
  // [Re −Im; Im Re] is real and symmetric, and has every eigenvalue twice.
  const int64_t n = 2 * size;
  std::vector<double> real(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = 0; j < size; ++j) {
      const Complex value = density[static_cast<size_t>(i * size + j)];
      real[static_cast<size_t>(i * n + j)] = real[static_cast<size_t>((i + size) * n + j + size)] =
          value.real();
      real[static_cast<size_t>((i + size) * n + j)] = value.imag();
      real[static_cast<size_t>(i * n + j + size)] = -value.imag();
    }
  }
  double entropy = 0;
  for (double p : symmetric_eigen<double>(ConstMatrix<double>(real.data(), n, n)).values) {
    if (p > 0) entropy -= p * std::log(p);
  }
  return std::max(0.0, entropy / 2);
}

double cut_entropy(const State& state, int cut) {
  if (cut < 1 || cut >= state.qubits) {
    throw_input_error("state", "a cut of {} qubits lies after 1 to {} of them, got {}", state.qubits,
                      state.qubits - 1, cut);
  }
  // From Schmidt values: small ones come out of the state far more exactly than their squares out of ρ. The
  // real matrix [Re −Im; Im Re] has each of them twice.
  const int64_t rows = int64_t{1} << cut, cols = int64_t{1} << (state.qubits - cut);
  std::vector<double> real(static_cast<size_t>(4 * rows * cols));
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      const Complex value = state.amplitudes[static_cast<size_t>(i * cols + j)];
      const auto at = [&](int64_t r, int64_t c) -> double& {
        return real[static_cast<size_t>(r * 2 * cols + c)];
      };
      at(i, j) = at(i + rows, j + cols) = value.real();
      at(i + rows, j) = value.imag();
      at(i, j + cols) = -value.imag();
    }
  }
  double entropy = 0;
  for (double s : truncated_svd<double>(ConstMatrix<double>(real.data(), 2 * rows, 2 * cols)).s) {
    if (s > 0) entropy -= s * s * std::log(s * s);
  }
  return std::max(0.0, entropy / 2);
}

double fidelity(const State& a, const State& b) {
  if (a.qubits != b.qubits) {
    throw_input_error("state", "a kernel compares states of equal size, got {} and {} qubits", a.qubits,
                      b.qubits);
  }
  Complex sum = 0;
  for (size_t i = 0; i < a.amplitudes.size(); ++i) sum += std::conj(a.amplitudes[i]) * b.amplitudes[i];
  return std::norm(sum);
}

}  // namespace qtf::quantum
