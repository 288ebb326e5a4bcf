// Drawings of circuits, as text for terminals and as SVG.
#pragma once

#include <string>

#include "qtf/quantum/circuit.h"

namespace qtf::quantum {

/// A line a wire and one between; gates that share no wire stand in one column. Ends with a newline. Drawings
/// wider than `width` columns continue below; 0: never.
std::string draw_text(const Circuit& circuit, int width = 0);

/// An SVG file of its own, in black on a transparent ground that follows a dark page's colours.
std::string draw_svg(const Circuit& circuit);

}  // namespace qtf::quantum
