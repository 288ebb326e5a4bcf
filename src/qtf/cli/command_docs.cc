#include <ostream>

#include "qtf/cli/command.h"
#include "qtf/cli/help.h"
#include "qtf/cli/shell_pages.h"
#include "qtf/serve/api.h"

namespace qtf::cli {
namespace {

void run_docs(const Arguments& arguments, const Streams& streams) {
  const std::string page = arguments.text("PAGE");
  streams.out << (page == "api"          ? serve::markdown_api()
                  : page == "man"        ? man_page()
                  : page == "completion" ? bash_completion()
                                         : markdown_reference());
}

}  // namespace

extern const Command kDocsCommand;
const Command kDocsCommand{
    .name = "docs",
    .summary = "Print docs/cli.md, docs/api.md, the man page or bash's completion",
    .example = {.call = "qtf docs"},
    .options = {{.name = "PAGE",
                 .initial = "cli",
                 .help = "which one",
                 .choices = {"cli", "api", "man", "completion"}}},
    .hidden = true,
    .run = run_docs,
};

}  // namespace qtf::cli
