#include <ostream>

#include "qtf/cli/cli.h"
#include "qtf/cli/help.h"

namespace qtf::cli {
namespace {

void run_help(const Arguments& arguments, const Streams& streams) {
  const std::string name = arguments.text("COMMAND");
  streams.out << (name.empty() ? overview_text() : help_text(find_command(name)));
}

}  // namespace

extern const Command kHelpCommand;
const Command kHelpCommand{
    .name = "help",
    .summary = "List the commands, or explain one",
    .example = {.call = "qtf help version",
                .output =
                    "Print the version\n\nUsage: qtf version\n\nExample:\n  $ qtf version\n  qtf " QTF_VERSION
                    "\n",
                .exact = true},
    .options = {{.name = "COMMAND", .help = "the command to explain"}},
    .run = run_help,
};

}  // namespace qtf::cli
