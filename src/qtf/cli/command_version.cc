#include <fmt/format.h>

#include <ostream>

#include "qtf/cli/command.h"
#include "qtf/cli/help.h"

namespace qtf::cli {

extern const Command kVersionCommand;
const Command kVersionCommand{
    .name = "version",
    .summary = "Print the version",
    .example = {.call = "qtf version", .output = "qtf " QTF_VERSION "\n", .exact = true},
    .run = [](const Arguments&, const Streams& streams) { streams.out << "qtf " << version() << "\n"; },
};

}  // namespace qtf::cli
