#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <ostream>

#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/base/parse.h"
#include "qtf/cli/circuit_source.h"
#include "qtf/quantum/drawing.h"
#include "qtf/quantum/noise.h"
#include "qtf/quantum/qasm.h"
#include "qtf/quantum/reference_vectors.h"
#include "qtf/quantum/resources.h"

namespace qtf::cli {
namespace {

using nlohmann::ordered_json;
using namespace quantum;

constexpr size_t kShownOutcomes = 8;

void print_json(const ordered_json& json, const Streams& streams) {
  streams.out << json.dump() << "\n";
}

/// To --out, or to the standard output.
void deliver(const std::string& text, const Arguments& arguments, const Streams& streams) {
  if (arguments.given("--out")) {
    write_file_atomically(arguments.text("--out"), text);
  } else {
    streams.out << text;
  }
}

// ---- draw, export, resources ----

void draw(const Arguments& arguments, const Streams& streams) {
  const Circuit circuit = read_circuit(arguments).circuit;
  const auto width = static_cast<int>(arguments.integer("--width"));
  deliver(arguments.flag("--svg") ? draw_svg(circuit) : draw_text(circuit, width), arguments, streams);
}

void write_qasm(const Arguments& arguments, const Streams& streams) {
  const CircuitSource source = read_circuit(arguments);
  const bool bound = arguments.flag("--bind");
  deliver(to_qasm(bound ? bind_variables(source.circuit, source.inputs, source.weights) : source.circuit,
                  {.measure = arguments.flag("--measure")}),
          arguments, streams);
}

void resources(const Arguments& arguments, const Streams& streams) {
  const Resources r = count_resources(read_circuit(arguments).circuit);
  const auto shots = arguments.integer("--shots");
  ordered_json by_gate = ordered_json::object();
  for (const auto& [name, count] : r.by_gate) by_gate[std::string(name)] = count;
  const ordered_json json = {{"qubits", r.qubits},
                             {"gates", r.gates},
                             {"two_qubit_gates", r.two_qubit_gates},
                             {"depth", r.depth},
                             {"two_qubit_depth", r.two_qubit_depth},
                             {"inputs", r.inputs},
                             {"weights", r.weights},
                             {"by_gate", by_gate},
                             {"shift_evaluations", r.shift_evaluations},
                             {"shots", shots},
                             {"gradient_shots", shots * r.shift_evaluations},
                             {"state_bytes", r.state_bytes}};
  if (arguments.flag("--json")) return print_json(json, streams);
  streams.out << fmt::format("qubits           {}\n", r.qubits);
  streams.out << fmt::format("gates            {} ({} on two qubits or more)\n", r.gates, r.two_qubit_gates);
  for (const auto& [name, count] : r.by_gate) streams.out << fmt::format("  {:<14} {}\n", name, count);
  streams.out << fmt::format("depth            {} ({} of gates on two qubits or more)\n", r.depth,
                             r.two_qubit_depth);
  streams.out << fmt::format("variables        {} inputs, {} weights\n", r.inputs, r.weights);
  streams.out << fmt::format("on hardware      {} circuits a gradient by parameter shifts{}\n",
                             r.shift_evaluations,
                             shots > 0 ? fmt::format(", {} shots", shots * r.shift_evaluations) : "");
  streams.out << fmt::format("state            {}\n", format_bytes(r.state_bytes));
}

// ---- run ----

/// Exact values of a circuit, noisy or not, and what shots say of them.
struct Outcome {
  std::vector<double> probabilities;
  std::vector<double> values;     // of the observables
  std::vector<double> errors;     // standard errors; empty without shots
  std::vector<double> entropies;  // of every cut; of pure states only
};

/// Shots measure in the Z basis: an observable with X or Y gets the gates that turn it there.
Circuit measured_in(const Circuit& circuit, const PauliString& pauli) {
  Circuit turned = circuit;
  for (int w = 0; w < circuit.qubits(); ++w) {
    const int64_t bit = wire_bit(circuit.qubits(), w);
    if (!(pauli.x & bit)) continue;
    if (pauli.z & bit) turned.add(Gate::s_dagger, {w});
    turned.add(Gate::hadamard, {w});
  }
  return turned;
}

Counts take_shots(const CircuitSource& source, const Circuit& circuit, const NoiseModel& noise,
                  const Arguments& arguments) {
  const int64_t shots = arguments.integer("--shots");
  const auto seed = static_cast<uint64_t>(arguments.integer("--seed"));
  if (!noise.after_gates.empty())
    return sample_noisy(circuit, source.inputs, source.weights, noise, shots, seed);
  return sample(quantum::run(circuit, source.inputs, source.weights), shots, seed, noise.readout_error);
}

void add_shots(const CircuitSource& source, const std::vector<PauliString>& observables,
               const NoiseModel& noise, const Arguments& arguments, Outcome& outcome) {
  const Counts counts = take_shots(source, source.circuit, noise, arguments);
  outcome.probabilities.clear();
  for (int64_t count : counts.counts) {
    outcome.probabilities.push_back(static_cast<double>(count) / static_cast<double>(counts.shots));
  }
  outcome.values.clear();
  for (const PauliString& pauli : observables) {
    const int64_t mask = pauli.x | pauli.z;
    const Counts own =
        pauli.x == 0 ? counts : take_shots(source, measured_in(source.circuit, pauli), noise, arguments);
    outcome.values.push_back(own.mean(mask));
    outcome.errors.push_back(own.standard_error(mask));
  }
}

Outcome compute(const CircuitSource& source, const std::vector<PauliString>& observables,
                const NoiseModel& noise, const Arguments& arguments) {
  Outcome outcome;
  if (arguments.integer("--shots") > 0) {
    add_shots(source, observables, noise, arguments, outcome);
  } else if (!noise.empty()) {
    for (const PauliString& pauli : observables) {
      const Circuit turned = measured_in(source.circuit, pauli);
      const auto p =
          probabilities(run_noisy(turned, source.inputs, source.weights, noise), noise.readout_error);
      outcome.values.push_back(expectation_z(p, pauli.x | pauli.z));
    }
    outcome.probabilities =
        probabilities(run_noisy(source.circuit, source.inputs, source.weights, noise), noise.readout_error);
  }
  if (!noise.empty()) return outcome;
  const State state = quantum::run(source.circuit, source.inputs, source.weights);
  for (int cut = 1; cut < state.qubits; ++cut) outcome.entropies.push_back(cut_entropy(state, cut));
  if (outcome.errors.empty()) {
    outcome.probabilities = probabilities(state);
    for (const PauliString& pauli : observables) outcome.values.push_back(expectation(state, pauli));
  }
  return outcome;
}

std::string bits(size_t outcome, int qubits) {
  std::string text;
  for (int w = 0; w < qubits; ++w) text += static_cast<int64_t>(outcome) & wire_bit(qubits, w) ? '1' : '0';
  return text;
}

void print_outcome(const Outcome& outcome, const std::vector<std::string>& names, const CircuitSource& source,
                   const Arguments& arguments, std::ostream& out) {
  const int n = source.circuit.qubits();
  if (source.drawn) {
    out << fmt::format("variables        drawn by --seed {}\n", arguments.integer("--seed"));
  }
  for (size_t i = 0; i < names.size(); ++i) {
    out << fmt::format("⟨{}⟩{:<{}} {:+.6f}{}\n", names[i], "",
                       std::max<int>(0, 14 - static_cast<int>(names[i].size())), outcome.values[i],
                       outcome.errors.empty() ? "" : fmt::format(" ± {:.6f}", outcome.errors[i]));
  }
  std::vector<size_t> order(outcome.probabilities.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(
      order, [&](size_t a, size_t b) { return outcome.probabilities[a] > outcome.probabilities[b]; });
  order.resize(std::min(order.size(), kShownOutcomes));
  for (size_t k : order) {
    if (outcome.probabilities[k] > 0)
      out << fmt::format("P({}){:<{}} {:.6f}\n", bits(k, n), "", std::max(0, 13 - n),
                         outcome.probabilities[k]);
  }
  for (size_t i = 0; i < outcome.entropies.size(); ++i) {
    out << fmt::format("entropy, cut {:<3} {:.6f} nats\n", i + 1, outcome.entropies[i]);
  }
}

void run_on_inputs(const Arguments& arguments, const Streams& streams) {
  const CircuitSource source = read_circuit(arguments);
  const int n = source.circuit.qubits();
  const NoiseModel noise = parse_noise(arguments.text("--noise"));
  std::vector<PauliString> observables;
  std::vector<std::string> names;
  for (const std::string& text : arguments.list("--observable")) {
    observables.push_back(parse_pauli(text, n));
    names.push_back(text);
  }
  for (int w = 0; observables.size() < static_cast<size_t>(n) && !arguments.given("--observable"); ++w) {
    observables.push_back(pauli_z(n, w));
    names.push_back(fmt::format("Z{}", w));
  }
  const Outcome outcome = compute(source, observables, noise, arguments);
  if (!arguments.flag("--json")) return print_outcome(outcome, names, source, arguments, streams.out);
  ordered_json expectations = ordered_json::object();
  ordered_json errors = ordered_json::object();
  for (size_t i = 0; i < names.size(); ++i) {
    expectations[names[i]] = outcome.values[i];
    if (!outcome.errors.empty()) errors[names[i]] = outcome.errors[i];
  }
  ordered_json json = {{"qubits", n},
                       {"inputs", source.inputs},
                       {"weights", source.weights},
                       {"expectations", expectations},
                       {"probabilities", outcome.probabilities}};
  if (!outcome.errors.empty()) json["standard_errors"] = errors, json["shots"] = arguments.integer("--shots");
  if (!outcome.entropies.empty()) json["entropies"] = outcome.entropies;
  print_json(json, streams);
}

// ---- verify ----

void verify(const Arguments& arguments, const Streams& streams) {
  const std::vector<std::string> files = arguments.list("FILE");
  if (files.empty()) throw UsageError("verify needs FILEs of reference vectors");
  const double tolerance = arguments.number("--tolerance");
  bool failed = false;
  ordered_json all = ordered_json::array();
  for (const std::string& file : files) {
    const Verification v = verify_reference_vectors(file);
    const bool good = v.worst_error <= tolerance;
    failed = failed || !good;
    all.push_back(
        {{"file", v.file},
         {"cases", v.cases},
         {"numbers", v.numbers},
         {"worst_error", std::isfinite(v.worst_error) ? ordered_json(v.worst_error) : ordered_json("nan")},
         {"tolerance", tolerance},
         {"ok", good}});
    if (arguments.flag("--json")) continue;
    streams.out << fmt::format("{:<40} {:>4} cases {:>6} numbers, worst error {:.1e}, tolerance {:.0e}: {}\n",
                               v.file, v.cases, v.numbers, v.worst_error, tolerance,
                               good ? "ok" : fmt::format("TOO FAR ({})", v.worst_case));
  }
  if (arguments.flag("--json")) print_json(all, streams);
  if (failed) throw ExitStatus(1);
}

struct Action {
  std::string_view name;
  void (*run)(const Arguments&, const Streams&);
};
constexpr Action kActions[] = {{"draw", draw},
                               {"run", run_on_inputs},
                               {"export", write_qasm},
                               {"resources", resources},
                               {"verify", verify}};

void run_circuit(const Arguments& arguments, const Streams& streams) {
  const std::string name = arguments.text("ACTION");
  const auto* action = std::ranges::find(kActions, name, &Action::name);
  action->run(arguments, streams);
}

}  // namespace

extern const Command kCircuitCommand;
const Command kCircuitCommand{
    .name = "circuit",
    .summary = "Draw, run, export, count and verify quantum circuits",
    .details =
        "draw: as text, or with --svg as a picture. run: expectation values, outcomes and entropies, exactly "
        "or "
        "with --shots, without noise or with --noise. export: OpenQASM 3. resources: gates, depth, and what "
        "gradients would take on hardware. These take an OpenQASM FILE, or a template described by --qubits "
        "and "
        "its like. verify: holds this program against FILEs of reference vectors; exit status 1 if any is "
        "too "
        "far.",
    .example = {.call = "qtf circuit draw --qubits 2 --layers 1",
                .output = "q0: ─┤RY(x0)├──┤Rot(w0…2)├──●──⊕──\n"
                          "                            │  │\n"
                          "q1: ─┤RY(x1)├──┤Rot(w3…5)├──⊕──●──\n",
                .exact = true},
    .options =
        {{.name = "ACTION",
          .help = "what to do",
          .required = true,
          .choices = {"draw", "run", "export", "resources", "verify"}},
         {.name = "FILE",
          .help = "an OpenQASM 3 file; for verify, JSON files of reference vectors",
          .repeated = true},
         {.name = "--qubits",
          .type = ValueType::integer,
          .value = "N",
          .initial = "6",
          .help = "of the template",
          .min = 1,
          .max = kMaxQubits},
         {.name = "--layers",
          .type = ValueType::integer,
          .value = "N",
          .initial = "2",
          .help = "of the template",
          .min = 0,
          .max = 1000},
         {.name = "--ansatz",
          .value = "NAME",
          .initial = "strongly",
          .help = "of the template: PennyLane's StronglyEntanglingLayers or BasicEntanglerLayers, or RY and "
                  "a ladder of CNOTs",
          .choices = {"strongly", "basic", "ladder"}},
         {.name = "--embedding",
          .value = "NAME",
          .initial = "angle-y",
          .help = "of the template: how inputs enter",
          .choices = {"angle-x", "angle-y", "angle-z", "iqp", "amplitude"}},
         {.name = "--reupload",
          .type = ValueType::flag,
          .help = "embed before every layer, scaled by weights"},
         {.name = "--inputs", .value = "X,…", .help = "numbers for x0, x1, …; else drawn by --seed"},
         {.name = "--weights", .value = "W,…", .help = "numbers for w0, w1, …; else drawn by --seed"},
         {.name = "--observable",
          .value = "PAULI",
          .help = "run: a product of Pauli operators, as XIZ or 'X0 Z2'; else Z of every wire",
          .repeated = true},
         {.name = "--shots",
          .type = ValueType::integer,
          .value = "N",
          .initial = "0",
          .help = "measurements; 0: exact values",
          .min = 0,
          .max = 1e9},
         {.name = "--noise",
          .value = "C=P,…",
          .help = "run: channels after every gate (depolarizing, amplitude-damping, phase-damping, bit-flip, "
                  "phase-flip) and readout, each with its strength"},
         {.name = "--seed",
          .type = ValueType::integer,
          .value = "N",
          .initial = "0",
          .help = "of variables and shots",
          .min = 0},
         {.name = "--bind", .type = ValueType::flag, .help = "export: numbers in the place of variables"},
         {.name = "--measure", .type = ValueType::flag, .help = "export: end with a measurement"},
         {.name = "--svg", .type = ValueType::flag, .help = "draw: a picture"},
         {.name = "--width",
          .type = ValueType::integer,
          .value = "N",
          .initial = "0",
          .help = "draw: columns after which the drawing continues below; 0: never",
          .min = 0,
          .max = 1e6},
         {.name = "--out", .value = "FILE", .help = "draw, export: write here"},
         {.name = "--tolerance",
          .type = ValueType::number,
          .value = "E",
          .initial = "1e-12",
          .help = "verify: largest error allowed",
          .min = 0},
         {.name = "--json", .type = ValueType::flag, .help = "run, resources, verify: print JSON"}},
    .run = run_circuit,
};

}  // namespace qtf::cli
