#include "qtf/cli/help.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "qtf/cli/cli.h"

namespace qtf::cli {
namespace {

constexpr size_t kHelpWidth = 100;

/// "--tokens N", "--json", "MODEL".
std::string option_label(const Option& option) {
  if (option.type == ValueType::flag || option.positional()) return std::string(option.name);
  return fmt::format("{} {}", option.name, option.value);
}

std::string usage_word(const Option& option) {
  std::string word = option_label(option);
  if (option.repeated && option.positional()) word += fmt::format(" [{}…]", word);
  return option.required ? word : "[" + word + "]";
}

std::string range_note(const Option& option) {
  const bool low = std::isfinite(option.min), high = std::isfinite(option.max);
  if (low && high) return fmt::format("{} to {}", option.min, option.max);
  if (low) return fmt::format("at least {}", option.min);
  if (high) return fmt::format("at most {}", option.max);
  return {};
}

/// Default, range, choices and repetition: "default 1, 0 to 2".
std::string option_notes(const Option& option) {
  std::vector<std::string> notes;
  if (!option.initial.empty()) notes.push_back(fmt::format("default {}", option.initial));
  if (const std::string range = range_note(option); !range.empty()) notes.push_back(range);
  if (!option.choices.empty()) notes.push_back(fmt::format("{}", fmt::join(option.choices, " | ")));
  if (option.repeated && !option.positional()) notes.push_back("may be repeated");
  if (option.required && !option.positional()) notes.push_back("required");
  return fmt::format("{}", fmt::join(notes, ", "));
}

/// `text` broken at spaces into lines of at most `width` bytes, each after the first led by `indent` spaces.
std::string wrap(std::string_view text, size_t indent, size_t width) {
  std::string result;
  size_t column = indent;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (column > indent && column + end + 1 > width) {
      result += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      result += ' ', ++column;
    }
    result += text.substr(0, end);
    column += end;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

std::string option_lines(const Command& command) {
  size_t width = 0;
  for (const Option& option : command.options) width = std::max(width, option_label(option).size());
  width = std::min<size_t>(width, 26);
  std::string lines;
  for (const Option& option : command.options) {
    lines += fmt::format("  {:<{}}  {}\n", option_label(option), width,
                         wrap(option_help(option), width + 4, kHelpWidth));
  }
  return lines;
}

std::string markdown_options(const Command& command) {
  if (command.options.empty()) return {};
  std::string text = "\n| option | meaning | default, range |\n|---|---|---|\n";
  for (const Option& option : command.options) {
    std::string notes = option_notes(option);
    for (size_t at = 0; (at = notes.find('|', at)) != std::string::npos; at += 2) notes.insert(at, "\\");
    text += fmt::format("| `{}` | {} | {} |\n", option_label(option), option.help, notes);
  }
  return text;
}

std::string markdown_section(const Command& command) {
  std::string text = fmt::format("\n## qtf {}\n\n{}.\n", command.name, command.summary);
  if (!command.details.empty()) text += fmt::format("\n{}\n", command.details);
  text += fmt::format("\n```\n{}\n```\n{}", usage_line(command), markdown_options(command));
  if (!command.example.call.empty()) {
    text +=
        fmt::format("\nExample:\n\n```console\n$ {}\n{}```\n", command.example.call, command.example.output);
  }
  return text;
}

}  // namespace

std::string_view version() {
  return QTF_VERSION;
}

std::string usage_line(const Command& command) {
  std::string line = fmt::format("qtf {}", command.name);
  for (const Option& option : command.options) {
    if (option.positional() || option.required) line += " " + usage_word(option);
  }
  const auto optional = [](const Option& o) { return !o.positional() && !o.required; };
  if (std::ranges::any_of(command.options, optional)) line += " [options]";
  return line;
}

std::string option_help(const Option& option) {
  const std::string notes = option_notes(option);
  return notes.empty() ? std::string(option.help) : fmt::format("{} ({})", option.help, notes);
}

std::string overview_text() {
  size_t width = 0;
  for (const Command* command : commands()) width = std::max(width, command->name.size());
  std::string text = fmt::format(
      "qtf {}: small language models made of tensor trains\n\nUsage: qtf COMMAND [options]\n\nCommands:\n",
      version());
  for (const Command* command : commands()) {
    if (!command->hidden) text += fmt::format("  {:<{}}  {}\n", command->name, width, command->summary);
  }
  return text + "\n'qtf help COMMAND' explains one, with an example.\n";
}

std::string help_text(const Command& command) {
  std::string text = fmt::format("{}\n\nUsage: {}\n", command.summary, usage_line(command));
  if (!command.details.empty()) text += fmt::format("\n{}\n", wrap(command.details, 0, kHelpWidth));
  if (!command.options.empty()) text += "\nOptions:\n" + option_lines(command);
  if (!command.example.call.empty()) {
    text += fmt::format("\nExample:\n  $ {}\n", command.example.call);
    std::string_view rest = command.example.output;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      text += fmt::format("  {}\n", rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  return text;
}

std::string markdown_reference() {
  std::string text =
      "# The command line\n\n"
      "Made by `qtf docs` from the command table (`src/qtf/cli/`); a test holds this file against it. Do not "
      "edit "
      "it by hand.\n\n"
      "Exit status: 0 done; 2 input, options or files that the user can correct, said in one line on "
      "standard "
      "error; 1 anything else.\n\n"
      "| command | what it does |\n|---|---|\n";
  for (const Command* command : commands()) {
    if (!command->hidden) {
      text += fmt::format("| [`{}`](#qtf-{}) | {} |\n", command->name, command->name, command->summary);
    }
  }
  for (const Command* command : commands()) {
    if (!command->hidden) text += markdown_section(*command);
  }
  return text;
}

}  // namespace qtf::cli
