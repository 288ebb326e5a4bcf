#include <ostream>

#include "qtf/cli/command.h"
#include "qtf/cli/help.h"

namespace qtf::cli {

extern const Command kDocsCommand;
const Command kDocsCommand{
    .name = "docs",
    .summary = "Print docs/cli.md",
    .example = {.call = "qtf docs"},
    .hidden = true,
    .run = [](const Arguments&, const Streams& streams) { streams.out << markdown_reference(); },
};

}  // namespace qtf::cli
