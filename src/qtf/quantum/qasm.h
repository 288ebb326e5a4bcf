// OpenQASM 3 out and in. Inputs and weights are written as input variables x0, x1, … and w0, w1, …, so that a
// circuit survives the round trip as it is; gates that stdgates.inc lacks are written with their definition.
#pragma once

#include <string>
#include <string_view>

#include "qtf/quantum/circuit.h"

namespace qtf::quantum {

struct QasmOptions {
  bool measure = false;  ///< end with a measurement of every wire
};

/// Throws InputError for amplitude embeddings and caller's matrices, which OpenQASM has no form for.
std::string to_qasm(const Circuit& circuit, const QasmOptions& options = {});

/// Reads a program of gates: versions 3 and 3.x, registers, input variables x<i> and w<i>, every gate of the
/// table and of stdgates.inc, gate definitions, constant expressions, barriers and final measurements. Global
/// phases are dropped. Throws InputError with line and column for anything else, `name` telling whose they
/// are.
Circuit parse_qasm(std::string_view text, std::string_view name = "qasm");

/// The circuit with numbers for its variables: the same gates with constant angles. Throws as
/// check_variables.
Circuit bind_variables(const Circuit& circuit, std::span<const double> inputs,
                       std::span<const double> weights);

}  // namespace qtf::quantum
