#include "qtf/cli/circuit_source.h"

#include <fmt/format.h>

#include <charconv>
#include <numbers>

#include "qtf/base/file.h"
#include "qtf/base/random.h"
#include "qtf/quantum/qasm.h"
#include "qtf/quantum/templates.h"

namespace qtf::cli {
namespace {

constexpr std::string_view kTemplateOptions[] = {"--qubits", "--layers", "--ansatz", "--embedding",
                                                 "--reupload"};

quantum::Circuit circuit_of(const Arguments& arguments) {
  const std::vector<std::string> files = arguments.list("FILE");
  if (files.size() > 1) throw UsageError("give one circuit's FILE; only 'verify' takes several");
  if (files.size() == 1) {
    for (std::string_view option : kTemplateOptions) {
      if (arguments.given(option))
        throw UsageError(fmt::format("{} describes a template; leave it out with a FILE", option));
    }
    return quantum::parse_qasm(read_file(files[0]), files[0]);
  }
  return quantum::layered_circuit({.qubits = static_cast<int>(arguments.integer("--qubits")),
                                   .layers = static_cast<int>(arguments.integer("--layers")),
                                   .ansatz = quantum::parse_ansatz(arguments.text("--ansatz")),
                                   .embedding = quantum::parse_embedding(arguments.text("--embedding")),
                                   .reupload = arguments.flag("--reupload")});
}

/// The option's numbers, or as many drawn: uniform in [-π, π).
std::vector<double> variables(const Arguments& arguments, std::string_view option, int count, uint64_t stream,
                              bool& drawn) {
  if (arguments.given(option)) {
    const std::vector<double> values = parse_numbers(arguments.text(option), option);
    if (static_cast<int>(values.size()) != count) {
      throw_input_error("circuit", "{} must give {} numbers, got {}", option, count, values.size());
    }
    return values;
  }
  const Random random{static_cast<uint64_t>(arguments.integer("--seed")), stream};
  std::vector<double> values;
  for (int i = 0; i < count; ++i) {
    values.push_back(std::numbers::pi * (2 * random.uniform(static_cast<uint64_t>(i)) - 1));
  }
  drawn = drawn || count > 0;
  return values;
}

}  // namespace

std::vector<double> parse_numbers(std::string_view text, std::string_view option) {
  std::vector<double> values;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(item.size() + 1, text.size()));
    double value = 0;
    const auto [end, error] = std::from_chars(item.data(), item.data() + item.size(), value);
    if (error != std::errc() || end != item.data() + item.size()) {
      throw_input_error("circuit", "{}: '{}' is not a number; separate numbers by commas", option, item);
    }
    values.push_back(value);
  }
  return values;
}

CircuitSource read_circuit(const Arguments& arguments) {
  CircuitSource source{circuit_of(arguments), {}, {}};
  source.inputs = variables(arguments, "--inputs", source.circuit.inputs(), 1, source.drawn);
  source.weights = variables(arguments, "--weights", source.circuit.weights(), 2, source.drawn);
  return source;
}

}  // namespace qtf::cli
