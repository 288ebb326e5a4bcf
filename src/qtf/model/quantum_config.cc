#include "qtf/model/quantum_config.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <vector>

#include "qtf/adapt/router.h"
#include "qtf/base/error.h"
#include "qtf/base/parse.h"

namespace qtf::model {

namespace {

constexpr const char* kPlace = "quantum";

template <class Number>
Number parse_number(std::string_view key, std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw_input_error(kPlace, "{} must be a number, got '{}'", key, text);
  return value;
}

void set_key(std::string_view key, std::string_view value, QuantumConfig& quantum) {
  static const std::vector<std::string_view> kKeys = {"qubits",   "layers", "ansatz",
                                                      "fraction", "train",  "routing"};
  if (key == "qubits") {
    quantum.circuit.qubits = parse_number<int>(key, value);
  } else if (key == "layers") {
    quantum.circuit.layers = parse_number<int>(key, value);
  } else if (key == "ansatz") {
    quantum.circuit.kind = nn::parse_inner_kind(value);
  } else if (key == "fraction") {
    quantum.fraction_ppm = fraction_to_ppm(parse_number<double>(key, value), kPlace);
  } else if (key == "train") {
    if (value != "0" && value != "1") throw_input_error(kPlace, "train must be 0 or 1, got '{}'", value);
    quantum.train = value == "1";
  } else if (key == "routing") {
    quantum.routing = parse_routing(value, kPlace);
  } else {
    throw_input_error(kPlace, "unknown key '{}'{}; choose among {}", key, did_you_mean(key, kKeys),
                      fmt::join(kKeys, ", "));
  }
}

}  // namespace

QuantumConfig parse_quantum(std::string_view text) {
  QuantumConfig quantum;
  std::vector<std::string_view> seen;
  for (std::string_view rest = text;;) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view item = rest.substr(0, comma);
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) {
      throw_input_error(kPlace,
                        "expected KEY=VALUE such as qubits=6,layers=2,ansatz=strongly,fraction=0.2, got '{}'",
                        item);
    }
    const std::string_view key = item.substr(0, equals);
    for (const std::string_view before : seen)
      if (before == key) throw_input_error(kPlace, "{} is given twice", key);
    seen.push_back(key);
    set_key(key, item.substr(equals + 1), quantum);
    if (comma == rest.size()) break;
    rest.remove_prefix(comma + 1);
  }
  validate(quantum, kPlace);
  return quantum;
}

std::string to_string(const QuantumConfig& q) {
  return fmt::format("qubits={},layers={},ansatz={},fraction={}{}{}", q.circuit.qubits, q.circuit.layers,
                     nn::info(q.circuit.kind).name, q.fraction(), q.train ? "" : ",train=0",
                     q.routing == Routing::gate ? "" : ",routing=random");
}

void validate(const QuantumConfig& quantum, std::string_view place) {
  nn::validate(quantum.circuit, place);
  fraction_to_ppm(quantum.fraction(), place);
}

int64_t fraction_to_ppm(double fraction, std::string_view place) {
  const double ppm = std::round(fraction * 1e6);
  if (!(ppm >= 1 && ppm < static_cast<double>(adapt::kRouteLimitPpm))) {
    throw_input_error(
        place,
        "fraction, the share of tokens that may pass the circuit, must be above 0 and below {}, got {}",
        static_cast<double>(adapt::kRouteLimitPpm) / 1e6, fraction);
  }
  return static_cast<int64_t>(ppm);
}

Routing parse_routing(std::string_view name, std::string_view place) {
  for (const Routing routing : {Routing::gate, Routing::random})
    if (name == to_string(routing)) return routing;
  throw_input_error(place, "routing must be gate or random, got '{}'", name);
}

std::string_view to_string(Routing routing) {
  return routing == Routing::gate ? "gate" : "random";
}

}  // namespace qtf::model
