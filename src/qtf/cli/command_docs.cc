#include <ostream>

#include "qtf/cli/command.h"
#include "qtf/cli/help.h"
#include "qtf/serve/api.h"

namespace qtf::cli {

extern const Command kDocsCommand;
const Command kDocsCommand{
    .name = "docs",
    .summary = "Print docs/cli.md, or docs/api.md",
    .example = {.call = "qtf docs"},
    .options = {{.name = "PAGE", .initial = "cli", .help = "cli or api", .choices = {"cli", "api"}}},
    .hidden = true,
    .run =
        [](const Arguments& arguments, const Streams& streams) {
          streams.out << (arguments.text("PAGE") == "api" ? serve::markdown_api() : markdown_reference());
        },
};

}  // namespace qtf::cli
