#include <ostream>

#include "qtf/base/file.h"
#include "qtf/cli/command.h"
#include "qtf/cli/comparison.h"
#include "qtf/cli/html_report.h"
#include "qtf/cli/run_metrics.h"
#include "qtf/cli/terminal_plot.h"

namespace qtf::cli {
namespace {

void run_report(const Arguments& arguments, const Streams& streams) {
  std::vector<RunMetrics> runs;
  for (const std::string& folder : arguments.list("RUN")) runs.push_back(read_run(folder));
  const Terminal terminal = detect_terminal(streams.out);
  streams.out << terminal_table(runs, terminal.utf8) << "\n"
              << terminal_plot(loss_curves(runs, Over::steps), "steps", "loss, nats a token", terminal);
  if (arguments.given("--out")) write_file_atomically(arguments.text("--out"), html_report(runs));
}

}  // namespace

extern const Command kReportCommand;
const Command kReportCommand{
    .name = "report",
    .summary = "Compare training runs: a table, a plot, an HTML page",
    .details =
        "Reads metrics.jsonl of each model folder. Runs that have not finished are shown as far as they are.",
    .example = {.call = "qtf report quickstart-out/dense quickstart-out/chain --out report.html"},
    .options =
        {{.name = "RUN", .help = "a model folder that 'qtf train' wrote", .required = true, .repeated = true},
         {.name = "--out",
          .value = "FILE",
          .help = "write an HTML page with all curves and samples; it needs no network"}},
    .run = run_report,
};

}  // namespace qtf::cli
