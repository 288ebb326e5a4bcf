// Where `qtf circuit` takes its circuit and the numbers for its variables from.
#pragma once

#include "qtf/cli/command.h"
#include "qtf/quantum/circuit.h"

namespace qtf::cli {

/// A circuit with numbers for its variables.
struct CircuitSource {
  quantum::Circuit circuit;
  std::vector<double> inputs, weights;
  bool drawn = false;  ///< some numbers were drawn by --seed
};

/// The OpenQASM file named, or the template that the options describe; variables from --inputs and --weights,
/// else drawn by --seed. Throws UsageError for options that exclude each other, InputError for wrong numbers.
CircuitSource read_circuit(const Arguments& arguments);

/// Numbers separated by commas. Throws InputError naming the option.
std::vector<double> parse_numbers(std::string_view text, std::string_view option);

}  // namespace qtf::cli
