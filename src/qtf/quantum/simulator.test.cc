#include "qtf/quantum/simulator.h"

#include <cmath>

#include "qtf/kernels/targets.h"
#include "qtf/quantum/quantum_test.h"

namespace qtf::quantum {
namespace {

/// A batch with everything that vjp takes and gives.
template <class T>
struct Batch {
  int64_t tokens, inputs, outputs;
  std::vector<T> x, dy, y, dx, dw;

  Batch(const Simulator<T>& simulator, int64_t count, uint64_t seed = 1)
      : tokens(count),
        inputs(simulator.inputs()),
        outputs(simulator.outputs()),
        x(normal_values<T>(tokens * inputs, seed, 1.5)),
        dy(normal_values<T>(tokens * outputs, seed + 1)),
        y(dy.size()),
        dx(x.size()),
        dw(static_cast<size_t>(simulator.weights())) {}

  void forward(const Simulator<T>& s, Workspace<T>& w, ThreadPool* pool = nullptr) {
    s.forward({x.data(), tokens, inputs}, {y.data(), tokens, outputs}, w, pool);
  }
  void vjp(const Simulator<T>& s, Workspace<T>& w, ThreadPool* pool = nullptr) {
    s.vjp({x.data(), tokens, inputs}, {dy.data(), tokens, outputs}, {y.data(), tokens, outputs},
          {dx.data(), tokens, inputs}, dw, w, pool);
  }
};

/// What State says of a batch: values, and central differences of Σ dy·y.
template <class T>
struct Wanted {
  std::vector<double> y, dx, dw;

  Wanted(const Simulator<T>& s, const Batch<T>& batch, std::span<const T> weights) {
    const std::vector<double> w(weights.begin(), weights.end());
    const auto values = [&](int64_t t, const std::vector<double>& x, const std::vector<double>& at) {
      const State state = run(s.circuit(), x, at);
      double loss = 0;
      for (int64_t i = 0; i < batch.outputs; ++i) {
        loss += static_cast<double>(batch.dy[static_cast<size_t>(t * batch.outputs + i)]) *
                expectation(state, s.observables()[static_cast<size_t>(i)]);
      }
      return loss;
    };
    constexpr double kStep = 1e-5;
    dw.resize(w.size());
    for (int64_t t = 0; t < batch.tokens; ++t) {
      std::vector<double> x(batch.x.begin() + t * batch.inputs, batch.x.begin() + (t + 1) * batch.inputs);
      for (const PauliString& pauli : s.observables())
        y.push_back(expectation(run(s.circuit(), x, w), pauli));
      const auto difference = [&](double& v, const std::vector<double>& at) {
        const double before = v;
        v = before + kStep;
        const double above = values(t, x, at);
        v = before - kStep;
        const double below = values(t, x, at);
        v = before;
        return (above - below) / (2 * kStep);
      };
      for (double& v : x) dx.push_back(difference(v, w));
      std::vector<double> at = w;
      for (size_t j = 0; j < w.size(); ++j) dw[j] += difference(at[j], at);
    }
  }
};

template <class T>
double worst(std::span<const T> got, std::span<const double> want) {
  const std::vector<double> values(got.begin(), got.end());
  return largest_difference(values, want);
}

/// Values and gradients of one circuit by one path, against State.
template <class T>
void check(const Circuit& circuit, std::vector<PauliString> observables, Path path, int64_t tokens) {
  SCOPED_TRACE(fmt::format("{} qubits, {} gates, path {}, {} tokens", circuit.qubits(),
                           circuit.operations().size(), static_cast<int>(path), tokens));
  Simulator<T> simulator(circuit, std::move(observables), path);
  const auto w = normal_values<T>(simulator.weights(), 5, 1.5);
  simulator.prepare(w);
  Workspace<T> workspace;
  Batch<T> batch(simulator, tokens);
  batch.forward(simulator, workspace);
  const Wanted<T> want(simulator, batch, w);
  const auto gates = static_cast<double>(circuit.operations().size() + 1), size = static_cast<double>(tokens);
  const double epsilon = std::numeric_limits<T>::epsilon() * 4 * gates;
  EXPECT_LT(worst<T>(batch.y, want.y), epsilon);
  batch.vjp(simulator, workspace);
  EXPECT_LT(worst<T>(batch.y, want.y), epsilon);
  const double differences = 1e-8 * size;  // of the central difference, 1e-5² and 1e-16/1e-5
  EXPECT_LT(worst<T>(batch.dx, want.dx), 8 * epsilon + differences);
  EXPECT_LT(worst<T>(batch.dw, want.dw), 8 * size * epsilon + differences);
}

TEST(Simulator, LayeredCircuitsByBothPaths) {
  for (int n = 1; n <= 9; ++n) {
    for (int layers = 0; layers <= (n < 5 ? 3 : 2); ++layers) {
      const Circuit circuit = layered_circuit({.qubits = n, .layers = layers});
      if (n > 7 && layers != 2) continue;
      for (Path path : {Path::layered, Path::generic}) check<double>(circuit, {}, path, n > 5 ? 2 : 5);
    }
  }
}

TEST(Simulator, EveryAnsatzAndEmbedding) {
  for (int n : {2, 3, 5}) {
    for (Ansatz ansatz : {Ansatz::strongly, Ansatz::basic, Ansatz::ladder}) {
      for (Embedding embedding : {Embedding::angle_x, Embedding::angle_y, Embedding::angle_z, Embedding::iqp,
                                  Embedding::amplitude}) {
        const Circuit circuit =
            layered_circuit({.qubits = n, .layers = 2, .ansatz = ansatz, .embedding = embedding});
        const Simulator<double> simulator(circuit);
        EXPECT_EQ(simulator.path(), embedding <= Embedding::angle_z ? Path::layered : Path::generic);
        check<double>(circuit, {}, Path::automatic, 2);
      }
      check<double>(layered_circuit({.qubits = n, .layers = 2, .ansatz = ansatz, .reupload = true}), {},
                    Path::automatic, 2);
    }
  }
}

TEST(Simulator, FloatIsAsExactAsFloatIs) {
  for (int n : {1, 4, 6, 8}) {
    for (Path path : {Path::layered, Path::generic})
      check<float>(layered_circuit({.qubits = n}), {}, path, 3);
  }
}

/// A circuit of random gates of the whole table, some angles numbers, some inputs, weights or products of
/// both.
Circuit random_circuit(int qubits, int gates, uint64_t seed) {
  const Random random{seed, 3};
  uint64_t draw = 0;
  const auto below = [&](size_t n) { return static_cast<int>(random.below(draw++, n)); };
  Circuit circuit(qubits);
  while (static_cast<int>(circuit.operations().size()) < gates) {
    const GateInfo& gate = gate_table()[static_cast<size_t>(below(gate_table().size()))];
    const int count = gate.wires > 0 ? gate.wires : 1 + below(static_cast<size_t>(qubits));
    if (count > qubits) continue;
    std::vector<int> wires;
    while (static_cast<int>(wires.size()) < count) {
      const int w = below(static_cast<size_t>(qubits));
      if (std::find(wires.begin(), wires.end(), w) == wires.end()) wires.push_back(w);
    }
    if (gate.gate == Gate::unitary) {
      if (count == 2) circuit.add_unitary(gate_matrix(Gate::iswap, {}, 2), wires);
      continue;
    }
    std::vector<Angle> angles;
    for (int a = 0; a < gate.parameters; ++a) {
      const double number = random.normal(draw++);
      const Angle kinds[] = {Angle(number), Angle(input(below(3)), number), Angle(weight(below(4)), number),
                             Angle(input(below(3)), weight(below(4)), number),
                             Angle(input(below(3)), input(below(3)))};
      angles.push_back(kinds[below(5)]);
      angles.back().offset += 0.25;
    }
    circuit.add(gate.gate, wires, angles);
  }
  return circuit;
}

TEST(Simulator, AnyGatesAndObservables) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    const int n = 3 + static_cast<int>(seed % 3);
    const Circuit circuit = random_circuit(n, 15, seed);
    check<double>(circuit, {parse_pauli("X0 Y1", n), parse_pauli("Z2", n), parse_pauli("Y0 Y1 Z2", n), {}},
                  Path::automatic, 2);
  }
}

/// One-wire gates, CNOT, SWAP, CZ and ZZ rotations in any order: the fast path must find every layer.
TEST(Simulator, FastPathTakesAnyOrderOfItsGates) {
  constexpr Gate kGates[] = {Gate::rot,      Gate::ry,         Gate::rx,   Gate::rz, Gate::hadamard,
                             Gate::s,        Gate::u3,         Gate::cnot, Gate::cz, Gate::ising_zz,
                             Gate::swap,     Gate::pauli_x,    Gate::cnot, Gate::sx, Gate::u2,
                             Gate::t_dagger, Gate::phase_shift};
  int taken = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    const int n = 2 + static_cast<int>(seed % 4);
    const Random random{seed, 4};
    Circuit circuit(n);
    for (int w = 0; w < n; ++w) circuit.add(w % 2 ? Gate::ry : Gate::rx, {w}, {Angle(input(w), 0.5 + w)});
    for (uint64_t i = 0; i < 24; ++i) {
      const GateInfo& gate = info(kGates[random.below(3 * i, std::size(kGates))]);
      const int a = static_cast<int>(random.below(3 * i + 1, static_cast<uint64_t>(n)));
      const int b = (a + 1 + static_cast<int>(random.below(3 * i + 2, static_cast<uint64_t>(n - 1)))) % n;
      std::vector<Angle> angles;
      for (int p = 0; p < gate.parameters; ++p) angles.push_back(weight(static_cast<int>(3 * i) + p));
      circuit.add(gate.gate, gate.wires == 1 ? std::vector{a} : std::vector{a, b}, angles);
    }
    taken += Simulator<double>(circuit).path() == Path::layered;
    check<double>(circuit, {parse_pauli("Z0", n), parse_pauli("Z0 Z1", n)}, Path::automatic, 2);
  }
  EXPECT_GT(taken, 20);
}

TEST(Simulator, EveryInstructionSetAndTail) {
  for (const auto& set : kernels::instruction_sets()) {
    SCOPED_TRACE(set.name);
    const kernels::UseInstructionSet use(set);
    for (int64_t tokens : {1, 7, 19}) {
      for (Path path : {Path::layered, Path::generic}) {
        check<float>(layered_circuit({.qubits = 5}), {}, path, tokens);
        check<double>(layered_circuit({.qubits = 8}), {}, path, 1);
      }
      check<double>(layered_circuit({.qubits = 2, .embedding = Embedding::amplitude}), {}, Path::generic,
                    tokens);
    }
  }
}

TEST(Simulator, NoTokensAreNoWork) {
  Simulator<float> simulator(layered_circuit({}));
  simulator.prepare(normal_values<float>(simulator.weights(), 1));
  Workspace<float> workspace;
  Batch<float> batch(simulator, 0);
  batch.forward(simulator, workspace);
  batch.vjp(simulator, workspace);
  EXPECT_EQ(batch.dw, std::vector<float>(batch.dw.size()));
}

TEST(Simulator, BitsDependNeitherOnThreadsNorOnNeighbours) {
  for (Path path : {Path::layered, Path::generic}) {
    Simulator<float> simulator(layered_circuit({}), {}, path);
    simulator.prepare(normal_values<float>(simulator.weights(), 1));
    Workspace<float> workspace, other;
    Batch<float> alone(simulator, 1000), shared(simulator, 1000);
    ThreadPool pool(3);
    alone.vjp(simulator, workspace);
    shared.vjp(simulator, other, &pool);
    EXPECT_EQ(alone.y, shared.y);
    EXPECT_EQ(alone.dx, shared.dx);
    EXPECT_EQ(alone.dw, shared.dw);
    // One token by itself, and in a forward pass.
    Batch<float> one(simulator, 1);
    std::copy_n(alone.x.begin() + 6 * 777, 6, one.x.begin());
    one.forward(simulator, workspace);
    EXPECT_TRUE(std::equal(one.y.begin(), one.y.end(), alone.y.begin() + 6 * 777));
    shared.forward(simulator, other, &pool);
    EXPECT_EQ(alone.y, shared.y);
  }
}

TEST(Simulator, WireMajorInputsAreTheSame) {
  Simulator<float> simulator(layered_circuit({.qubits = 4}));
  simulator.prepare(normal_values<float>(simulator.weights(), 1));
  Workspace<float> workspace;
  Batch<float> batch(simulator, 37);
  batch.forward(simulator, workspace);
  std::vector<float> turned(batch.x.size()), y(batch.y.size());
  for (size_t t = 0; t < 37; ++t) {
    for (size_t i = 0; i < 4; ++i) turned[i * 37 + t] = batch.x[t * 4 + i];
  }
  simulator.forward(ConstMatrix<float>(turned.data(), 4, 37).transposed(), {y.data(), 37, 4}, workspace);
  EXPECT_EQ(y, batch.y);
}

TEST(Simulator, AddsToWeightGradients) {
  Simulator<double> simulator(layered_circuit({.qubits = 3}));
  simulator.prepare(normal_values(simulator.weights(), 1));
  Workspace<double> workspace;
  Batch<double> once(simulator, 5), twice(simulator, 5);
  once.vjp(simulator, workspace);
  twice.vjp(simulator, workspace);
  twice.vjp(simulator, workspace);
  for (size_t i = 0; i < once.dw.size(); ++i) EXPECT_DOUBLE_EQ(twice.dw[i], 2 * once.dw[i]);
}

/// Under ⟨Z⟩ the last layer's last RZ only turns phases.
TEST(Simulator, LastOmegaGradientsAreExactlyZero) {
  Simulator<float> simulator(layered_circuit({.qubits = 4, .layers = 2}));
  simulator.prepare(normal_values<float>(simulator.weights(), 1));
  Workspace<float> workspace;
  Batch<float> batch(simulator, 33);
  batch.vjp(simulator, workspace);
  for (size_t wire = 0; wire < 4; ++wire) EXPECT_EQ(batch.dw[3 * (4 + wire) + 2], 0);
}

TEST(Simulator, StatesAreThoseOfState) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const Circuit circuit = random_circuit(4, 12, seed);
    Simulator<double> simulator(circuit);
    const auto w = normal_values(simulator.weights(), 5, 1.5), x = normal_values(7 * simulator.inputs(), 2);
    simulator.prepare(w);
    Workspace<double> workspace;
    std::vector<Complex> states(7 * 16);
    simulator.states({x.data(), 7, simulator.inputs()}, states, workspace);
    for (size_t t = 0; t < 7; ++t) {
      const auto n = static_cast<size_t>(simulator.inputs());
      const State want = run(circuit, std::span(x).subspan(t * n, n), w);
      for (size_t k = 0; k < 16; ++k) EXPECT_LT(std::abs(states[t * 16 + k] - want.amplitudes[k]), 1e-14);
    }
  }
}

TEST(Simulator, LargeAnglesAreReducedExactly) {
  for (double size : {1e3, 1e7, 1e12}) {
    for (Path path : {Path::layered, Path::generic}) {
      Simulator<double> simulator(layered_circuit({.qubits = 3}), {}, path);
      const auto w = normal_values(simulator.weights(), 5);
      simulator.prepare(w);
      Workspace<double> workspace;
      Batch<double> batch(simulator, 9);
      for (double& v : batch.x) v *= size;
      batch.forward(simulator, workspace);
      EXPECT_LT(largest_difference(batch.y, Wanted<double>(simulator, batch, w).y), 1e-11);
    }
  }
}

TEST(Simulator, RefusesBadCalls) {
  for (Path path : {Path::layered, Path::generic}) {
    Simulator<float> simulator(layered_circuit({.qubits = 3}), {}, path);
    Workspace<float> workspace;
    Batch<float> batch(simulator, 40);
    expect_refused([&] { batch.forward(simulator, workspace); }, "prepare() must give the 18 weights");
    std::vector<float> w(18, 0.1F);
    expect_refused([&] { simulator.prepare(std::span(w).first(4)); }, "must have 18 numbers, got 4");
    w[7] = NAN;
    expect_refused([&] { simulator.prepare(w); }, "weight 7 of token 0 is nan");
    w[7] = 1;
    simulator.prepare(w);
    std::vector<float> y(120);
    expect_refused(
        [&] {
          simulator.forward({batch.x.data(), 40, 2}, {y.data(), 40, 3}, workspace);
        },
        "x must be 40 tokens × 3");
    expect_refused(
        [&] {
          simulator.forward({batch.x.data(), 40, 3}, {y.data(), 30, 3}, workspace);
        },
        "y must be 40 tokens");
    batch.x[3 * 35 + 1] = NAN;
    expect_refused([&] { batch.forward(simulator, workspace); }, "input 1 of token 35 is nan");
    expect_refused([&] { batch.vjp(simulator, workspace); }, "input 1 of token 35 is nan");
    batch.x[3 * 35 + 1] = 0;
    batch.dy[2] = INFINITY;
    expect_refused([&] { batch.vjp(simulator, workspace); }, "derivative 2 of token 0 is inf");
  }
  expect_refused([] { Simulator<float>(layered_circuit({.embedding = Embedding::iqp}), {}, Path::layered); },
                 "use Path::automatic");
  expect_refused(
      [] {
        Simulator<float>(layered_circuit({.qubits = 2}), {{0, 8}});
      },
      "wires that a circuit of 2");
  Circuit wide(8);
  GateMatrix identity(size_t{1} << 14);
  for (size_t i = 0; i < 128; ++i) identity[i * 129] = 1;
  wide.add_unitary(identity, {0, 1, 2, 3, 4, 5, 6});
  expect_refused([&] { Simulator<float>{wide}; }, "on 7 wires; a batch takes at most 6");
}

TEST(Simulator, RefusesVectorsOfZeros) {
  Simulator<float> simulator(layered_circuit({.qubits = 2, .embedding = Embedding::amplitude}));
  simulator.prepare(normal_values<float>(simulator.weights(), 1));
  Workspace<float> workspace;
  Batch<float> batch(simulator, 3);
  batch.forward(simulator, workspace);
  std::fill_n(batch.x.begin() + 4, 4, 0.0F);
  expect_refused([&] { batch.forward(simulator, workspace); }, "vector of zeros");
}

}  // namespace
}  // namespace qtf::quantum
