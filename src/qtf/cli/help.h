// Help texts and docs/cli.md, made from the command table.
#pragma once

#include <string>

#include "qtf/cli/command.h"

namespace qtf::cli {

/// "0.1.0"
std::string_view version();

/// What `qtf help` prints: the commands, a line each.
std::string overview_text();

/// What `qtf help COMMAND` prints: usage, options with defaults and ranges, an example.
std::string help_text(const Command& command);

/// "qtf generate MODEL [options]"
std::string usage_line(const Command& command);

/// The option's help with its default, range and choices in brackets.
std::string option_help(const Option& option);

/// docs/cli.md, whole.
std::string markdown_reference();

}  // namespace qtf::cli
