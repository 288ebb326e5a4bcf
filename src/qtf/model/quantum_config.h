// The quantum layer of a model: what it is made of and how many tokens pass it. Read from `--quantum`,
// written to config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "qtf/nn/inner_map.h"

namespace qtf::model {

/// What picks the tokens, within the quota.
enum class Routing : uint8_t {
  gate,    ///< the layer's score
  random,  ///< a draw by the token's own numbers: as many tokens, any of them (to compare with)
};

/// Quantiles of attention entropies that the router keeps.
inline constexpr int64_t kEntropyQuantiles = 33;

struct QuantumConfig {
  nn::InnerSpec circuit;
  int64_t fraction_ppm = 200'000;  ///< most of any prefix' tokens, in 1e-6; below adapt::kRouteLimitPpm
  bool train = true;               ///< else the circuit's weights stay random
  Routing routing = Routing::gate;
  bool operator==(const QuantumConfig&) const = default;

  double fraction() const { return static_cast<double>(fraction_ppm) / 1e6; }
};

/// "qubits=6,layers=2,ansatz=strongly,fraction=0.2": any of these in any order, and train=0, routing=random.
/// Throws InputError for other keys, values out of range and keys given twice.
QuantumConfig parse_quantum(std::string_view text);

/// The text that parse_quantum reads back; what has its default is left out, but for the four main keys.
std::string to_string(const QuantumConfig& quantum);

/// Throws InputError naming `place` for sizes or shares out of range.
void validate(const QuantumConfig& quantum, std::string_view place);

/// A share as the file or the command line has it. Throws InputError unless it is above 0 and below 0.3.
int64_t fraction_to_ppm(double fraction, std::string_view place);

/// "gate", "random". Throws InputError for others.
Routing parse_routing(std::string_view name, std::string_view place);
std::string_view to_string(Routing routing);

}  // namespace qtf::model
