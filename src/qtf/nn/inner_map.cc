#include "qtf/nn/inner_map.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>
#include <vector>

#include "qtf/base/error.h"
#include "qtf/base/parse.h"
#include "qtf/quantum/simulator.h"
#include "qtf/quantum/templates.h"

namespace qtf::nn {

namespace {

constexpr std::array<InnerKindInfo, 5> kKinds = {{
    {InnerKind::strongly, "strongly", "StronglyEntanglingLayers: Rot on every wire, a ring of CNOTs", 3},
    {InnerKind::basic, "basic", "BasicEntanglerLayers: RX on every wire, a ring of CNOTs", 1},
    {InnerKind::ladder, "ladder", "RY on every wire, CNOTs from each to the next", 1},
    {InnerKind::product, "none", "Rot on every wire, no CNOTs: nothing is entangled", 3},
    {InnerKind::classical, "classical", "no circuit: tanh layers with the weights and neighbours of strongly",
     3},
}};

/// The neighbour that layer `layer` couples a wire with, as StronglyEntanglingLayers does.
int64_t neighbour(int64_t wire, int64_t qubits, int64_t layer) {
  const int64_t range = qubits > 1 ? layer % (qubits - 1) + 1 : 0;
  return (wire + range) % qubits;
}

}  // namespace

std::span<const InnerKindInfo> inner_kinds() {
  return kKinds;
}

const InnerKindInfo& info(InnerKind kind) {
  return kKinds[static_cast<size_t>(kind)];
}

InnerKind parse_inner_kind(std::string_view name) {
  std::vector<std::string_view> names;
  for (const InnerKindInfo& row : kKinds) {
    if (row.name == name) return row.kind;
    names.push_back(row.name);
  }
  throw_input_error("quantum", "unknown ansatz '{}'{}; choose one of {}", name, did_you_mean(name, names),
                    fmt::join(names, ", "));
}

void validate(const InnerSpec& spec, std::string_view place) {
  if (spec.qubits < 1 || spec.qubits > quantum::kMaxQubits) {
    throw_input_error(place, "qubits must be 1 to {}, got {}", quantum::kMaxQubits, spec.qubits);
  }
  constexpr int kMostLayers = 64;
  if (spec.layers < 1 || spec.layers > kMostLayers)
    throw_input_error(place, "layers must be 1 to {}, got {}", kMostLayers, spec.layers);
}

std::optional<quantum::Circuit> inner_circuit(const InnerSpec& spec) {
  if (spec.kind == InnerKind::classical) return {};
  if (spec.kind != InnerKind::product) {
    const auto ansatz = quantum::parse_ansatz(info(spec.kind).name);
    return quantum::layered_circuit({.qubits = spec.qubits, .layers = spec.layers, .ansatz = ansatz});
  }
  quantum::Circuit circuit(spec.qubits);
  quantum::angle_embedding(circuit);
  for (int i = 0; i < spec.qubits * spec.layers; ++i) {
    circuit.add(quantum::Gate::rot, {i % spec.qubits},
                {quantum::weight(3 * i), quantum::weight(3 * i + 1), quantum::weight(3 * i + 2)});
  }
  return circuit;
}

namespace {

/// Scratch of this thread's calls.
template <class T>
quantum::Workspace<T>& workspace() {
  thread_local quantum::Workspace<T> mine;
  return mine;
}

std::vector<double> in_double(const auto* values, int64_t n) {
  return {values, values + n};
}

template <class T>
class CircuitMap final : public InnerMap<T> {
 public:
  explicit CircuitMap(quantum::Circuit circuit) : simulator_(std::move(circuit)) {}

  void prepare(const T* weights) override {
    weights_ = in_double(weights, simulator_.weights());
    simulator_.prepare({weights, static_cast<size_t>(simulator_.weights())});
  }

  void forward(ConstMatrix<T> angles, Matrix<T> z) const override {
    simulator_.forward(angles, z, workspace<T>());
  }

  void backward(ConstMatrix<T> angles, ConstMatrix<T> dz, Matrix<T> dangles, T* dweights) const override {
    simulator_.vjp(angles, dz, {}, dangles, {dweights, weights_.size()}, workspace<T>());
  }

  void entropies(ConstMatrix<T> angles, T* nats) const override {
    const int n = qubits();
    for (int64_t t = 0; t < angles.rows; ++t)
      nats[t] = n < 2 ? T{0} : static_cast<T>(quantum::cut_entropy(state(angles, t), n / 2));
  }

  void measure(ConstMatrix<T> angles, const Measurement& m, Matrix<T> z) const override {
    if (m.exact()) return forward(angles, z);
    for (int64_t t = 0; t < angles.rows; ++t) {
      const std::vector<double> chances = outcome_probabilities(angles, t, m.noise);
      const auto read = [&](auto&& mean) {
        for (int wire = 0; wire < qubits(); ++wire)
          z(t, wire) = static_cast<T>(mean(quantum::pauli_z(qubits(), wire).z));
      };
      if (m.shots == 0) {
        read([&](int64_t mask) { return quantum::expectation_z(chances, mask); });
      } else {
        const quantum::Counts counts =
            quantum::sample(state_of(chances), m.shots, own_seed(angles, t, m.seed));
        read([&](int64_t mask) { return counts.mean(mask); });
      }
    }
  }

 private:
  int qubits() const { return simulator_.circuit().qubits(); }

  std::vector<double> inputs(ConstMatrix<T> angles, int64_t token) const {
    std::vector<double> row;
    for (int64_t i = 0; i < angles.cols; ++i) row.push_back(static_cast<double>(angles(token, i)));
    return row;
  }

  quantum::State state(ConstMatrix<T> angles, int64_t token) const {
    return quantum::run(simulator_.circuit(), inputs(angles, token), weights_);
  }

  /// Of reading every outcome, with the noise of gates and of reading.
  std::vector<double> outcome_probabilities(ConstMatrix<T> angles, int64_t token,
                                            const quantum::NoiseModel& noise) const {
    if (noise.empty()) return quantum::probabilities(state(angles, token));
    return quantum::probabilities(
        quantum::run_noisy(simulator_.circuit(), inputs(angles, token), weights_, noise),
        noise.readout_error);
  }

  /// A state with these probabilities: shots see nothing else of it.
  quantum::State state_of(const std::vector<double>& chances) const {
    std::vector<quantum::Complex> amplitudes;
    for (const double p : chances) amplitudes.emplace_back(std::sqrt(std::max(p, 0.0)), 0.0);
    return {qubits(), std::move(amplitudes)};
  }

  uint64_t own_seed(ConstMatrix<T> angles, int64_t token, uint64_t seed) const {
    for (const double angle : inputs(angles, token))
      seed = Random{seed, std::bit_cast<uint64_t>(angle)}.bits(0);
    return seed;
  }

  quantum::Simulator<T> simulator_;
  std::vector<double> weights_;
};

/// h ← tanh(u·h + v·h[neighbour] + b), elementwise, a layer; h = angles/π at first. Weights as [layer, 3, Q]:
/// u, v, b.
template <class T>
class ClassicalMap final : public InnerMap<T> {
 public:
  explicit ClassicalMap(const InnerSpec& spec) : spec_(spec) {}

  void prepare(const T* weights) override { weights_.assign(weights, weights + spec_.weights()); }

  void forward(ConstMatrix<T> angles, Matrix<T> z) const override {
    for (int64_t t = 0; t < angles.rows; ++t) {
      const std::vector<T> h = run(angles, t);
      std::copy(h.end() - spec_.qubits, h.end(), z.row(t));
    }
  }

  void backward(ConstMatrix<T> angles, ConstMatrix<T> dz, Matrix<T> dangles, T* dweights) const override {
    const int64_t n = spec_.qubits;
    std::vector<T> dh(static_cast<size_t>(n)), before(dh);
    for (int64_t t = 0; t < angles.rows; ++t) {
      const std::vector<T> h = run(angles, t);
      for (int64_t i = 0; i < n; ++i) dh[static_cast<size_t>(i)] = dz(t, i);
      for (int64_t layer = spec_.layers; layer-- > 0;) {
        backward_layer(layer, h.data() + layer * n, dh.data(), before.data(), dweights);
        std::swap(dh, before);
      }
      for (int64_t i = 0; i < n; ++i)
        dangles(t, i) = dh[static_cast<size_t>(i)] * static_cast<T>(std::numbers::inv_pi);
    }
  }

  void entropies(ConstMatrix<T> angles, T* nats) const override { std::fill_n(nats, angles.rows, T{0}); }

  void measure(ConstMatrix<T> angles, const Measurement& measurement, Matrix<T> z) const override {
    if (!measurement.exact())
      throw_input_error("quantum", "the classical map has no shots and no noise; leave them out");
    forward(angles, z);
  }

 private:
  const T* layer_weights(int64_t layer) const { return weights_.data() + layer * 3 * spec_.qubits; }

  /// h of every layer, the first layer's input first.
  std::vector<T> run(ConstMatrix<T> angles, int64_t token) const {
    const int64_t n = spec_.qubits;
    std::vector<T> h(static_cast<size_t>((spec_.layers + 1) * n));
    for (int64_t i = 0; i < n; ++i)
      h[static_cast<size_t>(i)] = angles(token, i) * static_cast<T>(std::numbers::inv_pi);
    for (int64_t layer = 0; layer < spec_.layers; ++layer) {
      const T *w = layer_weights(layer), *x = h.data() + layer * n;
      T* y = h.data() + (layer + 1) * n;
      for (int64_t i = 0; i < n; ++i)
        y[i] = std::tanh(w[i] * x[i] + w[n + i] * x[neighbour(i, n, layer)] + w[2 * n + i]);
    }
    return h;
  }

  /// x: the layer's input, followed by its output. dx is overwritten.
  void backward_layer(int64_t layer, const T* x, const T* dy, T* dx, T* dweights) const {
    const int64_t n = spec_.qubits;
    const T *w = layer_weights(layer), *y = x + n;
    T* dw = dweights + layer * 3 * n;
    std::fill_n(dx, n, T{0});
    for (int64_t i = 0; i < n; ++i) {
      const int64_t j = neighbour(i, n, layer);
      const T d = dy[i] * (1 - y[i] * y[i]);
      dw[i] += d * x[i];
      dw[n + i] += d * x[j];
      dw[2 * n + i] += d;
      dx[i] += d * w[i];
      dx[j] += d * w[n + i];
    }
  }

  InnerSpec spec_;
  std::vector<T> weights_;
};

}  // namespace

template <class T>
std::unique_ptr<InnerMap<T>> make_inner_map(const InnerSpec& spec) {
  if (auto circuit = inner_circuit(spec)) return std::make_unique<CircuitMap<T>>(std::move(*circuit));
  return std::make_unique<ClassicalMap<T>>(spec);
}

template std::unique_ptr<InnerMap<float>> make_inner_map(const InnerSpec&);
template std::unique_ptr<InnerMap<double>> make_inner_map(const InnerSpec&);

}  // namespace qtf::nn
