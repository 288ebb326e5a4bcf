#include "qtf/quantum/noise.h"

#include <cmath>

#include "qtf/quantum/quantum_test.h"

namespace qtf::quantum {
namespace {

/// Σ (got − want)²/want over outcomes; about one a degree of freedom.
double chi_square(const Counts& counts, std::span<const double> probabilities) {
  double sum = 0;
  for (size_t k = 0; k < probabilities.size(); ++k) {
    const double want = probabilities[k] * static_cast<double>(counts.shots);
    if (want > 0) sum += std::pow(static_cast<double>(counts.counts[k]) - want, 2) / want;
  }
  return sum;
}

TEST(Channels, KeepTheTrace) {
  for (const ChannelInfo& channel : channel_table()) {
    EXPECT_EQ(parse_channel(channel.name), channel.channel);
    for (double strength : {0.0, 0.3, 1.0}) {
      GateMatrix sum(4);
      for (const GateMatrix& k : kraus_matrices(channel.channel, strength)) {
        for (size_t i = 0; i < 2; ++i) {
          for (size_t j = 0; j < 2; ++j) {
            sum[2 * i + j] += std::conj(k[i]) * k[j] + std::conj(k[2 + i]) * k[2 + j];
          }
        }
      }
      for (size_t i = 0; i < 4; ++i)
        EXPECT_LT(std::abs(sum[i] - (i == 0 || i == 3 ? 1.0 : 0.0)), 1e-15) << channel.name;
    }
  }
}

TEST(Channels, RefuseBadOnes) {
  expect_refused([] { kraus_matrices(Channel::depolarizing, 1.1); }, "from 0 to 1, got 1.1");
  expect_refused([] { kraus_matrices(Channel::bit_flip, NAN); }, "from 0 to 1");
  expect_refused([] { parse_noise("depolarising=0.1"); }, "did you mean depolarizing?");
  expect_refused([] { parse_noise("bit-flip"); }, "channel=strength");
  expect_refused([] { parse_noise("bit-flip=x"); }, "channel=strength");
  expect_refused([] { parse_noise("bit-flip=2"); }, "from 0 to 1, got 2");
  expect_refused([] { parse_noise("readout=-1"); }, "from 0 to 1");
  const NoiseModel noise = parse_noise("depolarizing=0.01,readout=0.02");
  EXPECT_EQ(noise.after_gates.size(), 1U);
  EXPECT_EQ(noise.readout_error, 0.02);
  EXPECT_TRUE(parse_noise("").empty());
}

/// One gate, one channel: known by hand.
TEST(Density, ChannelsDoWhatTheirFormulasSay) {
  Circuit flipped(1), plus(1);
  flipped.add(Gate::pauli_x, {0});
  plus.add(Gate::hadamard, {0});
  const auto z = [&](std::string_view noise) {
    return expectation(run_noisy(flipped, {}, {}, parse_noise(noise)), parse_pauli("Z", 1));
  };
  const auto x = [&](std::string_view noise) {
    return expectation(run_noisy(plus, {}, {}, parse_noise(noise)), parse_pauli("X", 1));
  };
  EXPECT_NEAR(z("depolarizing=0.3"), -(1 - 4 * 0.3 / 3), 1e-15);
  EXPECT_NEAR(x("depolarizing=0.3"), 1 - 4 * 0.3 / 3, 1e-15);
  EXPECT_NEAR(z("amplitude-damping=0.2"), -1 + 2 * 0.2, 1e-15);
  EXPECT_NEAR(x("amplitude-damping=0.2"), std::sqrt(0.8), 1e-15);
  EXPECT_NEAR(z("phase-damping=0.2"), -1, 1e-15);
  EXPECT_NEAR(x("phase-damping=0.2"), std::sqrt(0.8), 1e-15);
  EXPECT_NEAR(z("bit-flip=0.1"), -0.8, 1e-15);
  EXPECT_NEAR(x("phase-flip=0.1"), 0.8, 1e-15);
}

TEST(Density, WithoutNoiseItIsTheState) {
  const Circuit circuit = layered_circuit({.qubits = 3});
  const auto x = normal_values(3, 1), w = normal_values(circuit.weights(), 2);
  const State state = run(circuit, x, w);
  const DensityMatrix density = run_noisy(circuit, x, w, {});
  for (const char* text : {"XYZ", "ZZI", "IYX"}) {
    EXPECT_NEAR(expectation(density, parse_pauli(text, 3)), expectation(state, parse_pauli(text, 3)), 1e-14);
  }
  EXPECT_LT(largest_difference(probabilities(density), probabilities(state)), 1e-14);
}

TEST(Density, ReadoutErrorsShrinkExpectations) {
  const Circuit circuit = layered_circuit({.qubits = 2});
  const auto x = normal_values(2, 1), w = normal_values(circuit.weights(), 2);
  const DensityMatrix density = run_noisy(circuit, x, w, parse_noise("depolarizing=0.05"));
  EXPECT_NEAR(trace(density), 1, 1e-14);
  const auto exact = probabilities(density), read = probabilities(density, 0.1);
  for (int64_t mask : {1, 2}) EXPECT_NEAR(expectation_z(read, mask), 0.8 * expectation_z(exact, mask), 1e-14);
  EXPECT_NEAR(expectation_z(read, 3), 0.64 * expectation_z(exact, 3), 1e-14);
}

TEST(Shots, FollowTheProbabilities) {
  const Circuit circuit = layered_circuit({.qubits = 3});
  const State state = run(circuit, normal_values(3, 1), normal_values(circuit.weights(), 2));
  const Counts counts = sample(state, 20000, 5);
  // 7 degrees of freedom: above 30 once in 10,000 seeds.
  EXPECT_LT(chi_square(counts, probabilities(state)), 30);
  for (int w = 0; w < 3; ++w) {
    const int64_t mask = wire_bit(3, w);
    EXPECT_NEAR(counts.mean(mask), expectation(state, {0, mask}), 5 * counts.standard_error(mask) + 1e-9);
  }
  EXPECT_EQ(sample(state, 100, 5).counts, sample(state, 100, 5).counts);
  EXPECT_NE(sample(state, 100, 5).counts, sample(state, 100, 6).counts);
}

TEST(Shots, TrajectoriesAverageToTheDensityMatrix) {
  const Circuit circuit = layered_circuit({.qubits = 2, .layers = 1});
  const auto x = normal_values(2, 1), w = normal_values(circuit.weights(), 2);
  for (const char* text :
       {"depolarizing=0.1", "amplitude-damping=0.2,readout=0.05", "phase-damping=0.3,bit-flip=0.1"}) {
    const NoiseModel noise = parse_noise(text);
    const auto exact = probabilities(run_noisy(circuit, x, w, noise), noise.readout_error);
    const Counts counts = sample_noisy(circuit, x, w, noise, 20000, 3);
    EXPECT_LT(chi_square(counts, exact), 25) << text;  // 3 degrees of freedom
  }
}

TEST(Shots, RefuseNone) {
  expect_refused([] { sample(State(1), 0, 1); }, "at least 1, got 0");
  expect_refused([] { sample(State(1), 1, 1, 2); }, "readout error must be");
}

TEST(Density, RefusesWhatMemoryCannotHold) {
  try {
    check_memory(68.7e9, "");
    GTEST_SKIP() << "skipped: this machine holds a density matrix of 16 qubits";
  } catch (const InputError&) {
  }
  expect_refused([] { run_noisy(Circuit(16), {}, {}, {}); }, "a density matrix needs 68.7 GB");
}

}  // namespace
}  // namespace qtf::quantum
