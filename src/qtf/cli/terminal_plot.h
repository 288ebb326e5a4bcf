// Line charts in a terminal.
#pragma once

#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/cli/chart.h"

namespace qtf::cli {

/// What the place that text goes to can show.
struct Terminal {
  int columns = 80;
  bool utf8 = false;   ///< braille dots and box characters, else plain ASCII
  bool color = false;  ///< ANSI colours
};

/// Of a stream: only standard output on a terminal has colours (unless NO_COLOR is set) and a width of its
/// own; UTF-8 is told by LC_ALL, LC_CTYPE or LANG.
Terminal detect_terminal(const std::ostream& out);

/// The number of terminal columns that UTF-8 text takes, each code point counted as one.
size_t display_width(std::string_view text);

/// A chart with axes and a legend. Dense curves are drawn as lines of dots (in ASCII: of the run's small
/// letter); marked ones as capital letters, A for the first run.
std::string terminal_plot(const std::vector<Curve>& curves, std::string_view x_title,
                          std::string_view y_title, const Terminal& terminal, int rows = 16);

}  // namespace qtf::cli
