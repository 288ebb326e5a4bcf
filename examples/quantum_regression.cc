// qtf::quantum by itself: four qubits learn a function of two numbers. Data re-uploading gives the circuit's
// output as many waves of its inputs as it has layers; plain gradient descent on the mean squared error finds
// them.
//   quantum_regression [STEPS]      exit status 1 if it has not learnt
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "qtf/base/random.h"
#include "qtf/quantum/drawing.h"
#include "qtf/quantum/simulator.h"
#include "qtf/quantum/templates.h"

namespace {

using namespace qtf;
using namespace qtf::quantum;

constexpr int64_t kPoints = 256;
constexpr int kQubits = 4, kLayers = 3;

/// Both numbers on two wires each, scaled by weights of their own, before every layer.
Circuit make_circuit() {
  Circuit circuit(kQubits);
  const int scales = kLayers * kQubits;
  for (int layer = 0; layer < kLayers; ++layer) {
    for (int wire = 0; wire < kQubits; ++wire) {
      circuit.add(Gate::ry, {wire}, {Angle(input(wire % 2), weight(layer * kQubits + wire))});
    }
    strongly_entangling_layers(circuit, 1, scales + 3 * kQubits * layer);
  }
  return circuit;
}

double target(double a, double b) {
  return 0.5 * std::sin(2 * a) * std::cos(b) + 0.3 * std::cos(a - 2 * b);
}

double train(int steps) {
  const Circuit circuit = make_circuit();
  std::fputs(draw_text(circuit, 100).c_str(), stdout);
  Simulator<float> simulator(circuit, {pauli_z(kQubits, 0)});
  Workspace<float> workspace;

  const Random random{7, 0};
  std::vector<float> x, wanted, weights;
  for (uint64_t i = 0; i < kPoints; ++i) {
    const double a = 3 * (2 * random.uniform(2 * i) - 1), b = 3 * (2 * random.uniform(2 * i + 1) - 1);
    x.insert(x.end(), {static_cast<float>(a), static_cast<float>(b)});
    wanted.push_back(static_cast<float>(target(a, b)));
  }
  for (int i = 0; i < simulator.weights(); ++i) {
    const bool scale = i < kLayers * kQubits;
    weights.push_back(
        static_cast<float>((scale ? 1 : 0) + 0.3 * random.normal(10'000 + static_cast<uint64_t>(i))));
  }

  std::vector<float> y(kPoints), dy(kPoints), dx(2 * kPoints), gradient(weights.size());
  std::vector<double> mean(weights.size()), square(weights.size());  // Adam's
  double loss = 0;
  for (int step = 1; step <= steps; ++step) {
    simulator.prepare(weights);
    simulator.forward({x.data(), kPoints, 2}, {y.data(), kPoints, 1}, workspace);
    loss = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      const float error = y[i] - wanted[i];
      loss += static_cast<double>(error * error) / kPoints;
      dy[i] = 2 * error / kPoints;
    }
    gradient.assign(gradient.size(), 0);
    simulator.vjp({x.data(), kPoints, 2}, {dy.data(), kPoints, 1}, {}, {dx.data(), kPoints, 2}, gradient,
                  workspace);
    for (size_t i = 0; i < weights.size(); ++i) {
      const double g = static_cast<double>(gradient[i]);
      mean[i] = 0.9 * mean[i] + 0.1 * g;
      square[i] = 0.99 * square[i] + 0.01 * g * g;
      const double corrected = std::sqrt(square[i] / (1 - std::pow(0.99, step))) + 1e-8;
      weights[i] -= static_cast<float>(0.05 * mean[i] / (1 - std::pow(0.9, step)) / corrected);
    }
    if (step == 1 || step % 100 == 0 || step == steps)
      std::printf("step %4d  mean squared error %.5f\n", step, loss);
  }
  return loss;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const double loss = train(argc > 1 ? std::atoi(argv[1]) : 300);
    // The target's own variance is about 0.1.
    return loss < 0.02 ? 0 : 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quantum_regression: %s\n", e.what());
    return 2;
  }
}
