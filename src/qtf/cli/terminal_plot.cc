#include "qtf/cli/terminal_plot.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <iostream>

namespace qtf::cli {
namespace {

/// ANSI foreground colours of the runs: cyan, yellow, magenta, green, blue, red.
constexpr std::array<int, 6> kColors{36, 33, 35, 32, 34, 31};
constexpr int kLabelWidth = 8;

std::string colored(std::string text, int run, const Terminal& terminal) {
  if (!terminal.color || run < 0) return text;
  return fmt::format("\x1b[{}m{}\x1b[0m", kColors[static_cast<size_t>(run) % kColors.size()], text);
}

/// A code point of the basic plane as UTF-8.
std::string utf8(int code) {
  return {static_cast<char>(0xE0 | (code >> 12)), static_cast<char>(0x80 | ((code >> 6) & 0x3F)),
          static_cast<char>(0x80 | (code & 0x3F))};
}

struct Cell {
  int dots = 0;  ///< braille pattern bits
  char letter = 0;
  int run = -1;
};

/// Character cells of 2 × 4 dots.
class Canvas {
 public:
  Canvas(int columns, int rows)
      : columns_(columns), rows_(rows), cells_(static_cast<size_t>(columns * rows)) {}

  int dots_wide() const { return 2 * columns_; }
  int dots_high() const { return 4 * rows_; }

  /// Sets the dot at (x, y), counted from the top left; what lies outside is dropped.
  void dot(int x, int y, int run) {
    static constexpr int kBits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    if (x < 0 || y < 0 || x >= dots_wide() || y >= dots_high()) return;
    Cell& cell = at(x / 2, y / 4);
    cell.dots |= kBits[y % 4][x % 2];
    if (!cell.letter) cell.run = run;
  }

  void line(double x0, double y0, double x1, double y1, int run) {
    const int steps =
        std::max(1, static_cast<int>(std::ceil(std::max(std::abs(x1 - x0), std::abs(y1 - y0)))));
    for (int i = 0; i <= steps; ++i) {
      const double t = static_cast<double>(i) / steps;
      dot(static_cast<int>(std::lround(x0 + t * (x1 - x0))),
          static_cast<int>(std::lround(y0 + t * (y1 - y0))), run);
    }
  }

  void letter(int x, int y, char letter, int run) {
    if (x < 0 || y < 0 || x >= dots_wide() || y >= dots_high()) return;
    at(x / 2, y / 4) = {.letter = letter, .run = run};
  }

  std::string row_text(int row, const Terminal& terminal) {
    std::string text;
    for (int column = 0; column < columns_; ++column) {
      const Cell& cell = at(column, row);
      if (cell.letter) {
        text += colored(std::string(1, cell.letter), cell.run, terminal);
      } else if (cell.dots && terminal.utf8) {
        text += colored(utf8(0x2800 + cell.dots), cell.run, terminal);
      } else {
        text += cell.dots
                    ? colored(std::string(1, static_cast<char>('a' + cell.run % 26)), cell.run, terminal)
                    : " ";
      }
    }
    return text;
  }

 private:
  Cell& at(int column, int row) { return cells_[static_cast<size_t>(row * columns_ + column)]; }

  int columns_;
  int rows_;
  std::vector<Cell> cells_;
};

struct Frame {
  Interval x, y;
};

void draw(Canvas& canvas, const Curve& curve, const Frame& frame) {
  const auto px = [&](const Point& p) { return frame.x.share(p.x) * (canvas.dots_wide() - 1); };
  const auto py = [&](const Point& p) { return (1 - frame.y.share(p.y)) * (canvas.dots_high() - 1); };
  if (curve.marked) {
    for (const Point& p : curve.points) {
      canvas.letter(static_cast<int>(std::lround(px(p))), static_cast<int>(std::lround(py(p))),
                    static_cast<char>('A' + curve.run % 26), curve.run);
    }
    return;
  }
  for (size_t i = 1; i < curve.points.size(); ++i) {
    const Point &a = curve.points[i - 1], &b = curve.points[i];
    // The fall from the start may come from far above the frame; the canvas drops what lies outside.
    canvas.line(px(a), py(a), px(b), py(b), curve.run);
  }
}

/// Labels of the y axis, one a row, empty where no tick lies.
std::vector<std::string> row_labels(const Interval& y, int rows) {
  std::vector<std::string> labels(static_cast<size_t>(rows));
  for (const double tick : ticks(y, std::max(2, rows / 3))) {
    const auto row = static_cast<int>(std::lround((1 - y.share(tick)) * (rows - 1)));
    if (row >= 0 && row < rows) labels[static_cast<size_t>(row)] = format_tick(tick);
  }
  return labels;
}

std::string x_axis(const Interval& x, int columns, const Terminal& terminal) {
  std::string line;
  std::string labels(static_cast<size_t>(columns + kLabelWidth), ' ');
  std::vector<bool> ticked(static_cast<size_t>(columns));
  for (const double tick : ticks(x, std::max(2, columns / 12))) {
    const auto column =
        std::clamp(static_cast<int>(std::lround(x.share(tick) * (columns - 1))), 0, columns - 1);
    ticked[static_cast<size_t>(column)] = true;
    const std::string label = format_tick(tick);
    const auto from = std::min(static_cast<size_t>(column), labels.size() - label.size());
    labels.replace(from, label.size(), label);
  }
  for (const bool tick : ticked) {
    if (terminal.utf8)
      line += tick ? "┬" : "─";
    else
      line += tick ? '+' : '-';
  }
  labels.erase(labels.find_last_not_of(' ') + 1);
  return fmt::format("{:>{}}{}\n{:>{}}{}\n", terminal.utf8 ? "└" : "+", kLabelWidth, line, "", kLabelWidth,
                     labels);
}

std::string legend(const std::vector<Curve>& curves, const Terminal& terminal) {
  std::string text;
  for (const Curve& curve : curves) {
    const char letter = static_cast<char>((curve.marked ? 'A' : 'a') + curve.run % 26);
    std::string sign = !curve.marked && terminal.utf8 ? "⠒⠒" : std::string(1, letter);
    text += fmt::format("{:>{}} {}\n", "", kLabelWidth - 1,
                        colored(sign, curve.run, terminal) + " " + curve.label);
  }
  return text;
}

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = variable(name);
    if (value.empty()) continue;
    return value.find("UTF-8") != value.npos || value.find("utf8") != value.npos ||
           value.find("UTF8") != value.npos;
  }
  return false;
}

}  // namespace

Terminal detect_terminal(const std::ostream& out) {
  Terminal terminal{.utf8 = locale_is_utf8()};
  if (&out != &std::cout || !isatty(STDOUT_FILENO)) return terminal;
  terminal.color = variable("NO_COLOR").empty() && variable("TERM") != "dumb";
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    terminal.columns = std::clamp<int>(size.ws_col, 40, 120);
  }
  return terminal;
}

size_t display_width(std::string_view text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string terminal_plot(const std::vector<Curve>& curves, std::string_view x_title,
                          std::string_view y_title, const Terminal& terminal, int rows) {
  const int columns = terminal.columns - kLabelWidth - 2;
  Canvas canvas(columns, rows);
  const Frame frame{x_interval(curves), y_interval(curves)};
  for (const bool marked : {false, true}) {
    for (const Curve& curve : curves) {
      if (curve.marked == marked) draw(canvas, curve, frame);
    }
  }
  std::string text = fmt::format("{}\n", y_title);
  const auto labels = row_labels(frame.y, rows);
  for (int row = 0; row < rows; ++row) {
    const std::string& label = labels[static_cast<size_t>(row)];
    const char* bar = terminal.utf8 ? (label.empty() ? "│" : "┤") : (label.empty() ? "|" : "+");
    std::string cells = canvas.row_text(row, terminal);
    cells.erase(cells.find_last_not_of(' ') + 1);
    text += fmt::format("{:>{}}{}{}\n", label, kLabelWidth - 1, bar, cells);
  }
  text += x_axis(frame.x, columns, terminal);
  text += fmt::format("{:>{}}\n", x_title, kLabelWidth + columns);
  return text + legend(curves, terminal);
}

}  // namespace qtf::cli
