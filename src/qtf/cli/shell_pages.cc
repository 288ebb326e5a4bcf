#include "qtf/cli/shell_pages.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "qtf/cli/cli.h"
#include "qtf/cli/help.h"

namespace qtf::cli {
namespace {

std::vector<const Command*> shown_commands() {
  std::vector<const Command*> shown;
  std::ranges::copy_if(commands(), std::back_inserter(shown), [](const Command* c) { return !c->hidden; });
  return shown;
}

/// Text that roff takes as it stands: no escapes, no requests at a line's beginning, dashes that can be
/// copied.
std::string roff(std::string_view text) {
  std::string out;
  bool begins = true;
  for (const char c : text) {
    if (begins && (c == '.' || c == '\'')) out += "\\&";
    begins = c == '\n';
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if (c == '\'') {
      out += "\\(aq";
    } else if (c == '`') {
      out += "\\(ga";
    } else if (c == '^') {
      out += "\\(ha";
    } else if (c == '~') {
      out += "\\(ti";
    } else {
      out += c;
    }
  }
  return out;
}

std::string man_label(const Option& option) {
  if (option.positional()) return fmt::format("\\fI{}\\fR", roff(option.name));
  if (option.type == ValueType::flag) return fmt::format("\\fB{}\\fR", roff(option.name));
  return fmt::format("\\fB{}\\fR \\fI{}\\fR", roff(option.name), roff(option.value));
}

std::string man_section(const Command& command) {
  std::string text = fmt::format(".SS {}\n{}.\n", roff(command.name), roff(command.summary));
  if (!command.details.empty()) text += fmt::format(".PP\n{}\n", roff(command.details));
  text += fmt::format(".PP\n.EX\n{}\n.EE\n", roff(usage_line(command)));
  for (const Option& option : command.options)
    text += fmt::format(".TP\n{}\n{}\n", man_label(option), roff(option_help(option)));
  if (!command.example.call.empty()) {
    text += fmt::format(".PP\nExample:\n.PP\n.EX\n$ {}\n{}", roff(command.example.call),
                        roff(command.example.output));
    text += ".EE\n";
  }
  return text;
}

/// The patterns of a case in the shell, their words in one line of text.
std::string completion_row(std::string_view patterns, const std::string& words) {
  return fmt::format("    {}) words='{}' ;;\n", patterns, words);
}

std::string option_words(const Command& command) {
  std::vector<std::string_view> names;
  for (const Option& option : command.options) {
    if (!option.positional()) names.push_back(option.name);
  }
  names.push_back("--help");
  return fmt::format("{}", fmt::join(names, " "));
}

/// What may follow: of an option the choices, or nothing where a number is due; "-" stands for files.
std::string value_words(const Option& option) {
  if (!option.choices.empty()) return fmt::format("{}", fmt::join(option.choices, " "));
  return option.type == ValueType::text ? "-" : "";
}

}  // namespace

std::string man_page() {
  std::string text = fmt::format(
      ".\\\" Made by `qtf docs man` from the command table.\n"
      ".TH QTF 1 \"\" \"qtf {}\" \"User Commands\"\n"
      ".SH NAME\nqtf \\- small language models made of tensor trains\n"
      ".SH SYNOPSIS\n\\fBqtf\\fR \\fICOMMAND\\fR [options]\n"
      ".SH DESCRIPTION\nTrains, compresses, evaluates and runs language models whose weight matrices may be "
      "tensor trains. \\fBqtf help\\fR \\fICOMMAND\\fR prints what stands below of one command.\n"
      ".SH COMMANDS\n",
      version());
  for (const Command* command : shown_commands()) text += man_section(*command);
  return text +
         ".SH EXIT STATUS\n.TP\n0\nDone.\n.TP\n2\nInput, options or files that the user can correct, said in "
         "one "
         "line on standard error.\n.TP\n1\nAnything else.\n";
}

std::string bash_completion() {
  std::vector<std::string_view> names;
  std::string options, values, places;
  for (const Command* command : shown_commands()) {
    names.push_back(command->name);
    options += completion_row(command->name, option_words(*command));
    bool first = true;
    for (const Option& option : command->options) {
      if (!option.positional() && option.type != ValueType::flag) {
        values += completion_row(fmt::format("{}:{}", command->name, option.name), value_words(option));
      } else if (option.positional() && first) {
        if (!option.choices.empty()) places += completion_row(command->name, value_words(option));
        first = false;
      }
    }
  }
  const std::string all = fmt::format("{}", fmt::join(names, " "));
  places += completion_row("help", all);
  return fmt::format(
      R"(# Completion of qtf in bash, made by `qtf docs completion` from the command table.
_qtf() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command=${{COMP_WORDS[1]}}
  local words=- place=$COMP_CWORD
  # bash takes "--option=value" as three words.
  if [ "$current" = = ]; then
    current=''
  elif [ "$previous" = = ]; then
    previous=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  if [ "$place" -eq 1 ]; then
    words='{}'
  elif [[ $current = -* ]]; then
    case $command in
{}    esac
  else
    [ "$place" -ne 2 ] || case $command in
{}    esac
    case $command:$previous in
{}    esac
  fi
  if [ "$words" = - ]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  fi
}}
complete -F _qtf qtf
)",
      all, options, places, values);
}

}  // namespace qtf::cli
