#include "qtf/quantum/reference_vectors.h"

#include <bit>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/quantum/gradient.h"
#include "qtf/quantum/templates.h"

namespace qtf::quantum {
namespace {

using nlohmann::json;
using Numbers = std::vector<double>;

constexpr Path kPaths[] = {Path::automatic, Path::generic};

/// An array, or a single number.
Numbers read_numbers(const json& value, const char* key) {
  const json& found = value.at(key);
  return found.is_number() ? Numbers{found.get<double>()} : found.get<Numbers>();
}

std::vector<Complex> complex_numbers(const json& value) {
  const Numbers re = read_numbers(value, "re"), im = read_numbers(value, "im");
  std::vector<Complex> out;
  for (size_t i = 0; i < re.size(); ++i) out.emplace_back(re[i], im.at(i));
  return out;
}

Numbers flattened(std::span<const Complex> values) {
  Numbers out;
  for (const Complex& v : values) out.push_back(v.real()), out.push_back(v.imag());
  return out;
}

/// Compares, and keeps the worst.
class Comparison {
 public:
  Comparison(Verification& result, const json& one) : result_(result), case_(one) {}

  void numbers(const char* what, std::span<const double> got, std::span<const double> want) {
    if (got.size() != want.size()) {
      throw_io_error("verify", "{} has {} numbers, {} were computed", what, want.size(), got.size());
    }
    for (size_t i = 0; i < want.size(); ++i) {
      const double error = std::abs(got[i] - want[i]);
      ++result_.numbers;
      if (error <= result_.worst_error) continue;  // not-a-number is the worst
      result_.worst_error = std::isnan(error) ? HUGE_VAL : error;
      result_.worst_case = fmt::format("{}, {}", case_.value("id", case_.value("gate", "?")), what);
    }
  }

  /// Against case[key], where there is one.
  void key(const char* key, std::span<const double> got) {
    if (has(key)) numbers(key, got, read_numbers(case_, key));
  }

  /// Against case[key].re and .im.
  void state(const char* key, std::span<const Complex> got) {
    if (has(key)) numbers(key, flattened(got), flattened(complex_numbers(case_.at(key))));
  }

 private:
  bool has(const char* key) const { return case_.contains(key) && !case_.at(key).is_null(); }

  Verification& result_;
  const json& case_;
};

Gate axis(const json& one, const char* key, const char* fallback) {
  const GateInfo* gate = find_gate("R" + one.value(key, fallback));
  if (gate == nullptr) throw_io_error("verify", "{} is none of X, Y, Z", key);
  return gate->gate;
}

void add_ansatz(Circuit& circuit, const json& one, int layers) {
  if (one.value("ansatz", "strongly") == "strongly") {
    const auto ranges = one.value("ranges", std::vector<int>{});
    return strongly_entangling_layers(circuit, layers, 0, ranges);
  }
  basic_entangler_layers(circuit, layers, axis(one, "rotation", "X"));
}

Circuit embedded_ansatz(const json& one) {
  Circuit circuit(one.at("n").get<int>());
  angle_embedding(circuit, axis(one, "embed", "Y"));
  add_ansatz(circuit, one, one.at("layers").get<int>());
  return circuit;
}

std::vector<PauliString> z_pairs(int n) {
  std::vector<PauliString> pairs;
  for (int i = 0; i < n; ++i) {
    for (int j = i + 1; j < n; ++j) pairs.push_back({0, wire_bit(n, i) | wire_bit(n, j)});
  }
  return pairs;
}

std::vector<PauliString> z_wires(int n) {
  std::vector<PauliString> all;
  for (int w = 0; w < n; ++w) all.push_back(pauli_z(n, w));
  return all;
}

Numbers cut_entropies(const State& state, double unit) {
  Numbers out;
  for (int cut = 1; cut < state.qubits; ++cut) out.push_back(cut_entropy(state, cut) / unit);
  return out;
}

void compare_state(Comparison& compare, const State& state) {
  const double log2 = std::log(2.0);
  compare.key("entropy_cut_nat", cut_entropies(state, 1));
  compare.key("entropy_cut_log2", cut_entropies(state, log2));
  if (state.qubits > 1) {
    const Numbers half = {cut_entropy(state, state.qubits / 2)};
    compare.key("entropy_half_nat", half);
  }
  compare.key("probs", probabilities(state));
}

/// Expectation values and Jacobians of one token, by every path and by parameter shifts.
void compare_circuit(Comparison& compare, const json& one, const Circuit& circuit, const Numbers& x,
                     const Numbers& w) {
  const int n = circuit.qubits();
  const State state = run(circuit, x, w);
  compare.key("expval_z", expectations_z(state));
  compare.state("state", state.amplitudes);
  compare_state(compare, state);
  Numbers pairs;
  for (const PauliString& pauli : z_pairs(n)) pairs.push_back(expectation(state, pauli));
  compare.key("zz_pairs", pairs);

  const auto rows = static_cast<int64_t>(x.size());
  for (const Path path : kPaths) {
    Simulator<double> simulator(circuit, {}, path);
    simulator.prepare(w);
    Workspace<double> workspace;
    Numbers y(static_cast<size_t>(n));
    simulator.forward({x.data(), 1, rows}, {y.data(), 1, n}, workspace);
    compare.key("expval_z", y);
    const Jacobian jacobian = adjoint_jacobian(simulator, x);
    compare.key("jac_x", jacobian.inputs);
    if (!one.contains("jac_scale")) compare.key("jac_w", jacobian.weights);
  }
  if (circuit.amplitude_embedding() || n > 8) return;
  const Jacobian shifts = parameter_shift_jacobian(circuit, z_wires(n), x, w);
  compare.key("jac_x", shifts.inputs);
  if (!one.contains("jac_scale")) compare.key("jac_w", shifts.weights);
}

void verify_gate(Comparison& compare, const json& one) {
  std::string name = one.at("gate");
  if (name.starts_with("MultiRZ")) name = "MultiRZ";
  const GateInfo* gate = find_gate(name);
  if (gate == nullptr) throw_io_error("verify", "gate '{}' is not in the table", name);
  const int wires = std::countr_zero(one.at("dim").get<unsigned>());
  compare.numbers("matrix", flattened(gate_matrix(gate->gate, read_numbers(one, "params"), wires)),
                  flattened(complex_numbers(one)));
}

void verify_circuit(Comparison& compare, const json& one) {
  compare_circuit(compare, one, embedded_ansatz(one), read_numbers(one, "x"), read_numbers(one, "w"));
}

void verify_shots(Comparison& compare, const json& one) {
  const Circuit circuit = embedded_ansatz(one);
  const State state = run(circuit, read_numbers(one, "x"), read_numbers(one, "w"));
  compare.key("subset_probs", probabilities(state, one.at("subset_wires").get<std::vector<int>>()));
  Numbers variances;
  for (double z : expectations_z(state)) variances.push_back(1 - z * z);
  compare.key("shot_variance_z", variances);
  verify_circuit(compare, one);
}

void verify_batch(Comparison& compare, const json& one) {
  const Circuit circuit = embedded_ansatz(one);
  const Numbers x = read_numbers(one, "x"), dy = read_numbers(one, "cotangent"), w = read_numbers(one, "w");
  const int64_t tokens = one.at("B"), n = circuit.qubits();
  for (const Path path : kPaths) {
    Simulator<double> simulator(circuit, {}, path);
    simulator.prepare(w);
    Workspace<double> workspace;
    Numbers y(x.size()), dx(x.size()), dw(w.size());
    simulator.vjp({x.data(), tokens, n}, {dy.data(), tokens, n}, {y.data(), tokens, n},
                  {dx.data(), tokens, n}, dw, workspace);
    compare.key("expval_z", y);
    compare.key("grad_x", dx);
    compare.key("grad_w", dw);
  }
}

void verify_kernel(Comparison& compare, const json& one) {
  const Circuit circuit = embedded_ansatz(one);
  const Numbers x = read_numbers(one, "x"), wq = read_numbers(one, "wq"), wk = read_numbers(one, "wk");
  const ConstMatrix<double> tokens(x.data(), one.at("T").get<int64_t>(), circuit.qubits());
  const FidelityKernel kernel = fidelity_kernel(circuit, tokens, wq, wk, read_numbers(one, "cotangent"));
  compare.key("kernel_qk", kernel.values);
  compare.key("grad_x", kernel.dx);
  compare.key("grad_wq", kernel.d_query);
  compare.key("grad_wk", kernel.d_key);
  compare.key("kernel_shared", fidelity_kernel(circuit, tokens, wq, wq).values);
}

void verify_amplitude(Comparison& compare, const json& one) {
  const Numbers features = read_numbers(one, "features");
  const auto m = static_cast<int64_t>(features.size());
  Circuit circuit(one.at("n").get<int>());
  circuit.embed_amplitudes({static_cast<int>(m),
                            one.at("pad_with").is_null() ? 0 : one.at("pad_with").get<double>(),
                            one.value("normalize", true)});
  compare.state("embedded_state", run(circuit, features, {}).amplitudes);
  strongly_entangling_layers(circuit, one.at("w_shape").at(0).get<int>());
  const Numbers w = read_numbers(one, "w"), dy = read_numbers(one, "cotangent");
  const int64_t n = circuit.qubits();
  Simulator<double> simulator(circuit);
  simulator.prepare(w);
  Workspace<double> workspace;
  Numbers y(dy.size()), dx(features.size()), dw(w.size());
  simulator.vjp({features.data(), 1, m}, {dy.data(), 1, n}, {y.data(), 1, n}, {dx.data(), 1, m}, dw,
                workspace);
  compare.key("expval_z", y);
  compare.key("grad_features", dx);
  compare.key("grad_w", dw);
}

void verify_iqp(Comparison& compare, const json& one) {
  Circuit circuit(one.at("n").get<int>());
  iqp_embedding(circuit, one.at("n_repeats").get<int>());
  const Numbers x = read_numbers(one, "x");
  const State state = run(circuit, x, {});
  compare.state("state", state.amplitudes);
  const Numbers kernel = {fidelity(state, run(circuit, read_numbers(one, "y"), {}))};
  compare.key("kernel_xy", kernel);
  strongly_entangling_layers(circuit, one.at("w_shape").at(0).get<int>());
  const Numbers w = read_numbers(one, "w");
  for (const Path path : kPaths) {
    Simulator<double> simulator(circuit, {}, path);
    simulator.prepare(w);
    const Jacobian jacobian = adjoint_jacobian(simulator, x);
    compare.key("jac_x", jacobian.inputs);
    compare.key("jac_w", jacobian.weights);
  }
  compare.key("expval_z", expectations_z(run(circuit, x, w)));
  const Jacobian shifts = parameter_shift_jacobian(circuit, z_wires(circuit.qubits()), x, w);
  compare.key("jac_x", shifts.inputs);
  compare.key("jac_w", shifts.weights);
}

/// Layer l: RY(scale[l, i]·x_i) on every wire, then one layer of the style's ansatz.
void verify_reupload(Comparison& compare, const json& one) {
  const int n = one.at("n"), layers = one.at("layers");
  const std::string style = one.at("style");
  Circuit circuit(n);
  for (int l = 0; l < layers; ++l) {
    for (int i = 0; i < n; ++i) circuit.add(Gate::ry, {i}, {Angle(input(i), weight(l * n + i))});
    const int range = style == "sel_full_ranges" ? l % (n - 1) + 1 : 1;
    if (style == "basic") {
      basic_entangler_layers(circuit, 1, Gate::rx, n * layers + l * n);
    } else {
      strongly_entangling_layers(circuit, 1, n * layers + 3 * l * n, {&range, 1});
    }
  }
  const Numbers x = read_numbers(one, "x"), scale = read_numbers(one, "scale");
  Numbers w = scale;
  for (double value : read_numbers(one, "w")) w.push_back(value);
  compare_circuit(compare, one, circuit, x, w);
  Simulator<double> simulator(circuit);
  simulator.prepare(w);
  const Jacobian jacobian = adjoint_jacobian(simulator, x);
  Numbers d_scale, d_w;
  for (size_t i = 0; i < jacobian.weights.size(); ++i) {
    (i % w.size() < scale.size() ? d_scale : d_w).push_back(jacobian.weights[i]);
  }
  compare.key("jac_scale", d_scale);
  compare.key("jac_w", d_w);
}

void verify_entropy(Comparison& compare, const json& one) {
  const State state(one.at("n").get<int>(), complex_numbers(one.at("state")));
  compare_state(compare, state);
  std::vector<int> half, ends = {0, state.qubits - 1};
  for (int w = 0; w < state.qubits / 2; ++w) half.push_back(w);
  double purity = 0;
  for (const Complex& v : reduced_density(state, half)) purity += std::norm(v);
  compare.key("purity_half", Numbers{purity});
  compare.key("renyi2_half_nat", Numbers{-std::log(purity)});
  const auto entropy = [&](std::span<const int> wires) {
    return von_neumann_entropy(reduced_density(state, wires), int64_t{1} << wires.size());
  };
  Numbers each;
  for (int w = 0; w < state.qubits; ++w) each.push_back(entropy({&w, 1}));
  compare.key("entropy_each_wire_nat", each);
  compare.key("mutual_info_first_last_nat", Numbers{each.front() + each.back() - entropy(ends)});
}

/// What a case is, by a key that only such cases have; the first that fits.
struct CaseKind {
  const char* key;
  void (*verify)(Comparison&, const json&);
};
constexpr CaseKind kCaseKinds[] = {
    {"gate", verify_gate},      {"features", verify_amplitude},  {"n_repeats", verify_iqp},
    {"scale", verify_reupload}, {"kernel_qk", verify_kernel},    {"subset_wires", verify_shots},
    {"B", verify_batch},        {"purity_half", verify_entropy}, {"jac_x", verify_circuit},
};

void verify_case(Comparison& compare, const json& one) {
  for (const CaseKind& kind : kCaseKinds) {
    if (one.contains(kind.key)) return kind.verify(compare, one);
  }
  throw_io_error("verify", "a case of no known kind");
}

}  // namespace

Verification verify_reference_vectors(const std::filesystem::path& path) {
  Verification result{.file = path.string(), .worst_case = "none"};
  const json file = json::parse(read_file(path), nullptr, false);
  if (!file.is_object() || !file.contains("cases") || !file.at("cases").is_array()) {
    throw_io_error("verify", "{} is no JSON object with an array \"cases\"", path.string());
  }
  for (const json& one : file.at("cases")) {
    Comparison compare(result, one);
    try {
      verify_case(compare, one);
    } catch (const json::exception& e) {
      throw_io_error("verify", "{}: case {}: {}", path.string(), result.cases, e.what());
    } catch (const std::runtime_error& e) {
      throw_io_error("verify", "{}: case {}: {}", path.string(), result.cases, e.what());
    }
    ++result.cases;
  }
  return result;
}

}  // namespace qtf::quantum
