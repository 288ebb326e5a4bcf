#include "qtf/quantum/drawing.h"

#include <fmt/format.h>

#include <algorithm>

namespace qtf::quantum {
namespace {

/// What stands on one wire of a gate.
struct Mark {
  enum class Kind { box, control, cross, target };
  int wire;
  Kind kind;
  std::string label;
};

/// One gate of the drawing: its marks and the wires its line spans.
struct Drawn {
  int first, last;
  std::vector<Mark> marks;
};

using Column = std::vector<Drawn>;

std::string short_number(double value) {
  std::string text = fmt::format("{:.3g}", value);
  return text == "-0" ? "0" : text;
}

std::string label_of(const Angle& angle) {
  if (angle.constant()) return short_number(angle.offset);
  const auto name = [](Variable v) {
    return fmt::format("{}{}", v.kind == Variable::Kind::input ? 'x' : 'w', v.index);
  };
  std::string text = angle.scale == 1 ? "" : angle.scale == -1 ? "-" : short_number(angle.scale) + "·";
  text += name(angle.first);
  if (angle.second.kind != Variable::Kind::none) text += "·" + name(angle.second);
  if (angle.offset != 0) text += (angle.offset < 0 ? "" : "+") + short_number(angle.offset);
  return text;
}

/// The symbol with its angles: "RX(x0)"; weights in a row as "Rot(w0…2)".
std::string label_of(const Operation& operation) {
  std::string text(info(operation.gate).symbol);
  const auto& angles = operation.angles;
  if (angles.empty()) return text;
  bool row = angles.size() > 2;
  for (size_t i = 0; row && i < angles.size(); ++i) {
    row = angles[i] == Angle(weight(angles[0].first.index + static_cast<int>(i)));
  }
  if (row) return fmt::format("{}(w{}…{})", text, angles[0].first.index, angles.back().first.index);
  for (size_t i = 0; i < angles.size(); ++i) text += (i == 0 ? "(" : ",") + label_of(angles[i]);
  return text + ")";
}

Drawn draw(const Operation& operation) {
  const GateInfo& gate = info(operation.gate);
  const auto [first, last] = std::ranges::minmax_element(operation.wires);
  Drawn drawn{*first, *last, {}};
  for (size_t i = 0; i < operation.wires.size(); ++i) {
    Mark mark{operation.wires[i], Mark::Kind::box, {}};
    const bool flips = gate.base == Gate::pauli_x && gate.controls > 0;
    const bool swaps = gate.gate == Gate::swap || gate.base == Gate::swap;
    if (static_cast<int>(i) < gate.controls) {
      mark.kind = Mark::Kind::control;
    } else if (flips) {
      mark.kind = Mark::Kind::target;
    } else if (swaps) {
      mark.kind = Mark::Kind::cross;
    } else {
      mark.label = label_of(operation);
    }
    drawn.marks.push_back(std::move(mark));
  }
  return drawn;
}

/// Gates as far to the left as the wires that they span let them be.
std::vector<Column> layout(const Circuit& circuit) {
  std::vector<Column> columns;
  std::vector<size_t> free(static_cast<size_t>(circuit.qubits()));
  if (circuit.amplitude_embedding()) {
    Drawn whole{0, circuit.qubits() - 1, {}};
    for (int w = 0; w < circuit.qubits(); ++w) whole.marks.push_back({w, Mark::Kind::box, "|x⟩"});
    columns.push_back({whole});
    std::ranges::fill(free, size_t{1});
  }
  for (const Operation& operation : circuit.operations()) {
    Drawn drawn = draw(operation);
    size_t column = 0;
    for (int w = drawn.first; w <= drawn.last; ++w) column = std::max(column, free[static_cast<size_t>(w)]);
    for (int w = drawn.first; w <= drawn.last; ++w) free[static_cast<size_t>(w)] = column + 1;
    if (columns.size() <= column) columns.resize(column + 1);
    columns[column].push_back(std::move(drawn));
  }
  return columns;
}

/// Characters of UTF-8, all of them one cell wide.
int cells(const std::string& text) {
  return static_cast<int>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string repeated(std::string_view piece, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += piece;
  return text;
}

/// `text` in the middle of `width` cells of `filling`.
std::string centred(const std::string& text, int width, std::string_view filling) {
  const int left = (width - cells(text)) / 2;
  return repeated(filling, left) + text + repeated(filling, width - cells(text) - left);
}

std::string symbol(const Mark& mark) {
  switch (mark.kind) {
    case Mark::Kind::control:
      return "●";
    case Mark::Kind::target:
      return "⊕";
    case Mark::Kind::cross:
      return "╳";
    default:
      return "┤" + mark.label + "├";
  }
}

/// One column as text, a string a line: wires on even ones.
std::vector<std::string> column_text(const Column& column, int qubits) {
  std::vector<std::string> marks(static_cast<size_t>(2 * qubits - 1));
  std::vector<bool> crossed(marks.size());
  for (const Drawn& drawn : column) {
    for (int line = 2 * drawn.first + 1; line < 2 * drawn.last; ++line)
      crossed[static_cast<size_t>(line)] = true;
    for (const Mark& mark : drawn.marks) marks[static_cast<size_t>(2 * mark.wire)] = symbol(mark);
  }
  int width = 1;
  for (const std::string& text : marks) width = std::max(width, cells(text));
  width += 2;
  for (size_t line = 0; line < marks.size(); ++line) {
    const bool wire = line % 2 == 0;
    if (marks[line].empty() && crossed[line]) marks[line] = wire ? "┼" : "│";
    marks[line] = centred(marks[line], width, wire ? "─" : " ");
  }
  return marks;
}

constexpr int kCell = 40;  // pixels between wires
constexpr int kBoxHeight = 26;
constexpr int kGap = 12;         // between columns
constexpr double kLetter = 7.3;  // pixels of a letter of the font

std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else
      out += c;
  }
  return out;
}

std::string svg_mark(const Mark& mark, double x) {
  const int y = kCell / 2 + kCell * mark.wire;
  const double half = 4.5 + kLetter * cells(mark.label) / 2;
  switch (mark.kind) {
    case Mark::Kind::control:
      return fmt::format("<circle class=\"dot\" cx=\"{:.1f}\" cy=\"{}\" r=\"4\"/>\n", x, y);
    case Mark::Kind::target:
      return fmt::format("<path d=\"M{0:.1f} {1}m-9 0a9 9 0 1 0 18 0a9 9 0 1 0 -18 0h18m-9 -9v18\"/>\n", x,
                         y);
    case Mark::Kind::cross:
      return fmt::format("<path d=\"M{0:.1f} {1}m-6 -6l12 12m0 -12l-12 12\"/>\n", x, y);
    default:
      return fmt::format(
          "<rect x=\"{:.1f}\" y=\"{}\" width=\"{:.1f}\" height=\"{}\" rx=\"3\"/><text x=\"{:.1f}\" "
          "y=\"{}\">{}</text>\n",
          x - half, y - kBoxHeight / 2, 2 * half, kBoxHeight, x, y + 4, escaped(mark.label));
  }
}

double svg_width(const Column& column) {
  double width = 18;
  for (const Drawn& drawn : column) {
    for (const Mark& mark : drawn.marks) width = std::max(width, 9 + kLetter * cells(mark.label));
  }
  return width;
}

}  // namespace

std::string draw_text(const Circuit& circuit, int width) {
  const int n = circuit.qubits();
  const std::vector<Column> columns = layout(circuit);
  const size_t lines = static_cast<size_t>(2 * n - 1);
  const int margin = cells(fmt::format("q{}: ", n - 1));
  std::string text;
  size_t next = 0;
  do {
    std::vector<std::string> rows(lines);
    for (size_t line = 0; line < lines; ++line) {
      rows[line] = line % 2 == 0 ? fmt::format("{:<{}}", fmt::format("q{}:", line / 2), margin)
                                 : std::string(static_cast<size_t>(margin), ' ');
    }
    int used = margin;
    const size_t first = next;
    for (; next < columns.size(); ++next) {
      const std::vector<std::string> added = column_text(columns[next], n);
      const int more = cells(added[0]);
      if (width > 0 && next > first && used + more + 1 > width) break;
      for (size_t line = 0; line < lines; ++line) rows[line] += added[line];
      used += more;
    }
    for (size_t line = 0; line < lines; ++line) {
      if (line % 2 == 0) rows[line] += next < columns.size() ? "…" : "─";
      rows[line].erase(rows[line].find_last_not_of(' ') + 1);
      text += rows[line] + "\n";
    }
    if (next < columns.size()) text += "\n";
  } while (next < columns.size());
  return text;
}

std::string draw_svg(const Circuit& circuit) {
  const int n = circuit.qubits();
  constexpr double kMargin = 40;
  double x = kMargin;
  std::string lines, marks;
  for (const Column& column : layout(circuit)) {
    const double width = svg_width(column), middle = x + width / 2;
    for (const Drawn& drawn : column) {
      if (drawn.first < drawn.last) {
        lines += fmt::format("<path d=\"M{:.1f} {}V{}\"/>\n", middle, kCell / 2 + kCell * drawn.first,
                             kCell / 2 + kCell * drawn.last);
      }
      for (const Mark& mark : drawn.marks) marks += svg_mark(mark, middle);
    }
    x += width + kGap;
  }
  std::string text = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1}\" width=\"{0:.0f}\" "
      "height=\"{1}\">\n"
      "<style>path{{fill:none;stroke:#222}}rect{{fill:#fff;stroke:#222}}.dot{{fill:#222}}text{{fill:#222;"
      "font:12px "
      "monospace;text-anchor:middle}}@media(prefers-color-scheme:dark){{path,rect{{stroke:#ddd}}rect{{fill:#"
      "111}}"
      ".dot,text{{fill:#ddd}}}}</style>\n",
      x + 8, kCell * n);
  for (int w = 0; w < n; ++w) {
    const int y = kCell / 2 + kCell * w;
    text += fmt::format("<text x=\"18\" y=\"{}\">q{}</text><path d=\"M{} {}H{:.0f}\"/>\n", y + 4, w,
                        kMargin - 8, y, x);
  }
  return text + lines + marks + "</svg>\n";
}

}  // namespace qtf::quantum
