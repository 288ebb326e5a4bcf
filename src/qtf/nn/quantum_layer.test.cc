#include "qtf/nn/quantum_layer.h"

#include <gtest/gtest.h>

#include <limits>

#include "qtf/base/error.h"
#include "qtf/nn/nn_test.h"

namespace qtf::nn {
namespace {

constexpr int64_t kWidth = 10;

/// A layer with random weights, all in one vector.
template <class T>
struct Fixture {
  explicit Fixture(const InnerSpec& spec, double deviation = 0.6) {
    layer.spec = spec, layer.width = kWidth;
    const int64_t q = spec.qubits;
    int64_t end = 0;
    const auto place = [&](int64_t& offset, int64_t n) { offset = end, end += n; };
    place(layer.at.norm, kWidth), place(layer.at.in_weight, q * kWidth), place(layer.at.in_bias, q);
    place(layer.at.inner, spec.weights()), place(layer.at.out_weight, kWidth * q), place(layer.at.gate, 1);
    place(layer.at.score_weight, kWidth), place(layer.at.score_bias, 1), place(layer.at.signal_weight, 1);
    weights = random_values<T>(end, 5, deviation);
    layer.parameters = weights.data();
    layer.inner = make_inner_map<T>(spec);
    prepare();
  }
  void prepare() { layer.inner->prepare(weights.data() + layer.at.inner); }

  /// x after the layer; saved: what it kept.
  std::vector<T> forward(std::vector<T> x, const std::vector<T>& signal, std::span<const int64_t> routed,
                         const Dropout& dropout, QuantumSaved<T>& saved,
                         const Measurement* measurement = nullptr) {
    const Matrix<T> rows(x.data(), static_cast<int64_t>(x.size()) / kWidth, kWidth);
    quantum_scores<T>(layer, rows, signal.data(), saved, arena);
    quantum_forward<T>(layer, routed, dropout, rows, saved, arena, measurement);
    return x;
  }

  QuantumLayer<T> layer;
  std::vector<T> weights;
  Arena arena;
};

std::vector<InnerSpec> specs() {
  std::vector<InnerSpec> all;
  for (const InnerKindInfo& row : inner_kinds()) {
    all.push_back({row.kind, 4, 2});
    all.push_back({row.kind, 1, 3});
    all.push_back({row.kind, 2, 1});
  }
  return all;
}

TEST(QuantumLayer, GradientsEqualCentralDifferences) {
  for (const InnerSpec& spec : specs()) {
    for (const double rate : {0.0, 0.4}) {
      Fixture<double> f(spec);
      auto x = random_values<double>(7 * kWidth, 1);
      const auto dy = random_values<double>(7 * kWidth, 2), signal = random_values<double>(7, 3);
      const std::vector<int64_t> routed = {0, 2, 5};
      const Dropout dropout{rate, 4, 30};
      const auto loss = [&] {
        QuantumSaved<double> unused;
        f.prepare();
        return inner_product(f.forward(x, signal, routed, dropout, unused), dy);
      };
      QuantumSaved<double> saved;
      f.forward(x, signal, routed, dropout, saved);
      auto dx = dy;
      std::vector<double> gradients(f.weights.size(), 3);
      quantum_backward<double>(f.layer, dropout, saved, {dx.data(), 7, kWidth}, gradients.data(), f.arena);
      for (double& g : gradients) g -= 3;
      const std::string what =
          fmt::format("{}, {} qubits, dropout {}", info(spec.kind).name, spec.qubits, rate);
      // Angles of slope π: third derivatives of some hundreds, times 1e-10.
      EXPECT_LT(gradient_error(x, dx, loss, 100), 1e-7) << what;
      EXPECT_LT(gradient_error(f.weights, gradients, loss, 300), 1e-7) << what;
    }
  }
}

TEST(QuantumLayer, AFixedInnerMapGetsNoGradientAndTheRestTheSame) {
  Fixture<double> f({});
  const auto x = random_values<double>(4 * kWidth, 1), signal = random_values<double>(4, 3);
  const std::vector<int64_t> routed = {1, 3};
  QuantumSaved<double> saved;
  f.forward(x, signal, routed, {}, saved);
  const auto gradients = [&](bool trains) {
    f.layer.trains_inner = trains;
    auto dx = random_values<double>(4 * kWidth, 2);
    std::vector<double> result(f.weights.size());
    quantum_backward<double>(f.layer, {}, saved, {dx.data(), 4, kWidth}, result.data(), f.arena);
    result.insert(result.end(), dx.begin(), dx.end());
    return result;
  };
  const auto trained = gradients(true), fixed = gradients(false);
  for (size_t i = 0; i < trained.size(); ++i) {
    const auto at = static_cast<int64_t>(i) - f.layer.at.inner;
    EXPECT_EQ(fixed[i], at >= 0 && at < f.layer.spec.weights() ? 0 : trained[i]) << i;
  }
}

TEST(QuantumLayer, ChangesRoutedTokensOnlyAndNoneWhileItsGateIsZero) {
  Fixture<float> f({});
  const auto x = random_values<float>(5 * kWidth, 1), signal = random_values<float>(5, 3);
  const std::vector<int64_t> routed = {1, 4};
  QuantumSaved<float> saved;
  const auto y = f.forward(x, signal, routed, {}, saved);
  for (int64_t row = 0; row < 5; ++row) {
    const bool same =
        std::equal(x.begin() + row * kWidth, x.begin() + (row + 1) * kWidth, y.begin() + row * kWidth);
    EXPECT_EQ(same, row != 1 && row != 4) << row;
  }
  f.weights[static_cast<size_t>(f.layer.at.gate)] = 0;
  EXPECT_EQ(f.forward(x, signal, routed, {}, saved), x);
  EXPECT_EQ(f.forward(x, signal, {}, {}, saved), x);
}

TEST(QuantumLayer, ATokensBitsDoNotDependOnTheTokensBesideIt) {
  for (const InnerSpec& spec : specs()) {
    Fixture<float> f(spec);
    const int64_t rows = 150;
    const auto x = random_values<float>(rows * kWidth, 1), signal = random_values<float>(rows, 3);
    std::vector<int64_t> routed;
    for (int64_t i = 0; i < rows; i += 1 + i % 2) routed.push_back(i);
    QuantumSaved<float> saved, alone;
    const auto y = f.forward(x, signal, routed, {}, saved);
    for (const int64_t row : routed) {
      const std::vector<float> mine(x.begin() + row * kWidth, x.begin() + (row + 1) * kWidth);
      const int64_t zero = 0;
      const auto own = f.forward(mine, {signal[static_cast<size_t>(row)]}, {&zero, 1}, {}, alone);
      EXPECT_TRUE(std::equal(own.begin(), own.end(), y.begin() + row * kWidth)) << row;
      EXPECT_EQ(alone.scores[0], saved.scores[row]);
    }
  }
}

TEST(QuantumLayer, NumbersThatAreNoneStayInTheirToken) {
  Fixture<float> f({});
  auto x = random_values<float>(3 * kWidth, 1);
  const std::vector<float> signal(3, 0.5F);
  const std::vector<int64_t> routed = {0, 1, 2};
  QuantumSaved<float> saved;
  const auto clean = f.forward(x, signal, routed, {}, saved);
  x[kWidth + 3] = std::numeric_limits<float>::quiet_NaN();
  const auto y = f.forward(x, signal, routed, {}, saved);
  EXPECT_TRUE(std::isnan(y[kWidth + 3]));
  EXPECT_TRUE(std::equal(y.begin(), y.begin() + kWidth, clean.begin()));
  EXPECT_TRUE(std::equal(y.begin() + 2 * kWidth, y.end(), clean.begin() + 2 * kWidth));
  std::vector<float> dx(3 * kWidth, std::numeric_limits<float>::infinity()), gradients(f.weights.size());
  quantum_backward<float>(f.layer, {}, saved, {dx.data(), 3, kWidth}, gradients.data(), f.arena);
}

TEST(InnerMap, TheClassicalMapHasTheCircuitsSize) {
  for (int qubits : {1, 4, 6}) {
    const InnerSpec circuit{InnerKind::strongly, qubits, 2}, classical{InnerKind::classical, qubits, 2};
    EXPECT_EQ(circuit.weights(), classical.weights());
    EXPECT_EQ(inner_circuit(circuit)->weights(), circuit.weights());
    EXPECT_FALSE(inner_circuit(classical).has_value());
  }
}

TEST(InnerMap, OnlyEntanglersEntangle) {
  for (const InnerSpec& spec : specs()) {
    Fixture<double> f(spec, 1);
    const auto angles = random_values<double>(20 * spec.qubits, 6);
    std::vector<double> nats(20, -1);
    f.layer.inner->entropies({angles.data(), 20, spec.qubits}, nats.data());
    const bool entangles =
        spec.qubits > 1 && spec.kind != InnerKind::product && spec.kind != InnerKind::classical;
    const double most = static_cast<double>(spec.qubits / 2) * std::log(2);
    for (double s : nats) {
      EXPECT_LE(s, most + 1e-12);
      EXPECT_TRUE(entangles ? s > 1e-6 : s < 1e-7) << info(spec.kind).name << " " << spec.qubits << " " << s;
    }
  }
}

TEST(InnerMap, ShotsScatterAboutTheExactValues) {
  Fixture<float> f({InnerKind::strongly, 3, 2});
  const auto angles = random_values<float>(30 * 3, 6);
  const ConstMatrix<float> a(angles.data(), 30, 3);
  const auto read = [&](const Measurement& m) {
    std::vector<float> z(90);
    f.layer.inner->measure(a, m, {z.data(), 30, 3});
    return z;
  };
  const auto exact = read({});
  const Measurement shots{.shots = 4000, .noise = {}, .seed = 3};
  const auto sampled = read(shots);
  // Five standard deviations of a mean of 4000 draws of ±1.
  for (size_t i = 0; i < 90; ++i) EXPECT_NEAR(sampled[i], exact[i], 5 / std::sqrt(4000.0)) << i;
  EXPECT_NE(sampled, exact);
  EXPECT_EQ(sampled, read(shots)) << "the same seed draws the same";
  EXPECT_NE(sampled, read({.shots = 4000, .noise = {}, .seed = 4}));
  std::vector<float> alone(3);
  f.layer.inner->measure(a.row_block(7, 1), shots, {alone.data(), 1, 3});
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), sampled.begin() + 21));
}

TEST(InnerMap, NoiseShrinksExpectationValues) {
  Fixture<float> f({InnerKind::strongly, 3, 2});
  const auto angles = random_values<float>(5 * 3, 6);
  const ConstMatrix<float> a(angles.data(), 5, 3);
  std::vector<float> exact(15), noisy(15), flipped(15);
  f.layer.inner->forward(a, {exact.data(), 5, 3});
  f.layer.inner->measure(a, {.shots = 0, .noise = quantum::parse_noise("depolarizing=0.2"), .seed = 0},
                         {noisy.data(), 5, 3});
  f.layer.inner->measure(a, {.shots = 0, .noise = quantum::parse_noise("readout=0.1"), .seed = 0},
                         {flipped.data(), 5, 3});
  for (size_t i = 0; i < 15; ++i) {
    EXPECT_LT(std::abs(noisy[i]), 0.8 * std::abs(exact[i]) + 1e-6) << i;
    EXPECT_NEAR(flipped[i], 0.8 * exact[i], 1e-5) << "1 − 2·0.1 of it";
  }
}

TEST(InnerMap, RefusesWhatItCannot) {
  EXPECT_THROW(parse_inner_kind("stronly"), InputError);
  EXPECT_EQ(parse_inner_kind("none"), InnerKind::product);
  EXPECT_THROW(validate({InnerKind::strongly, 0, 2}, "test"), InputError);
  EXPECT_THROW(validate({InnerKind::strongly, 17, 2}, "test"), InputError);
  EXPECT_THROW(validate({InnerKind::strongly, 4, 0}, "test"), InputError);
  EXPECT_THROW(validate({InnerKind::strongly, 4, 65}, "test"), InputError);
  Fixture<float> classical({InnerKind::classical, 2, 1});
  const std::vector<float> angles(2);
  std::vector<float> z(2);
  EXPECT_THROW(classical.layer.inner->measure({angles.data(), 1, 2}, {.shots = 10, .noise = {}, .seed = 0},
                                              {z.data(), 1, 2}),
               InputError);
}

}  // namespace
}  // namespace qtf::nn
