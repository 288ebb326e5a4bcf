// The command line as a function, so that tests drive it in process. main.cc calls it.
#pragma once

#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/cli/command.h"

namespace qtf::cli {

/// Every subcommand, in help's order.
const std::vector<const Command*>& commands();

/// The subcommand of that name. Throws UsageError with a suggestion if there is none.
const Command& find_command(std::string_view name);

/// Runs `qtf ARGS…` (without the program's name) and returns the exit status: 0, or, after one line on `err`,
/// 2 for input, usage and files, and 1 for anything else.
int run_cli(const std::vector<std::string>& args, const Streams& streams);

}  // namespace qtf::cli
