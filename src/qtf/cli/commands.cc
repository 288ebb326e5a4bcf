#include <algorithm>

#include "qtf/base/parse.h"
#include "qtf/cli/cli.h"

namespace qtf::cli {

extern const Command kTrainCommand;
extern const Command kCompressCommand;
extern const Command kBudgetCommand;
extern const Command kProfileCommand;
extern const Command kCalibrateCommand;
extern const Command kEntropyCommand;
extern const Command kEvalCommand;
extern const Command kGenerateCommand;
extern const Command kInfoCommand;
extern const Command kConvertCommand;
extern const Command kQuantizeCommand;
extern const Command kReportCommand;
extern const Command kServeCommand;
extern const Command kCircuitCommand;
extern const Command kAuditCommand;
extern const Command kExplainCommand;
extern const Command kTokenizeCommand;
extern const Command kHelpCommand;
extern const Command kVersionCommand;
extern const Command kDocsCommand;

const std::vector<const Command*>& commands() {
  static const std::vector<const Command*> table{
      &kTrainCommand,    &kCompressCommand, &kBudgetCommand,   &kProfileCommand, &kCalibrateCommand,
      &kEvalCommand,     &kEntropyCommand,  &kGenerateCommand, &kInfoCommand,    &kConvertCommand,
      &kQuantizeCommand, &kTokenizeCommand, &kReportCommand,   &kServeCommand,   &kCircuitCommand,
      &kExplainCommand,  &kAuditCommand,    &kHelpCommand,     &kVersionCommand, &kDocsCommand,
  };
  return table;
}

const Command& find_command(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Command* command : commands()) {
    if (command->name == name) return *command;
    if (!command->hidden) names.push_back(command->name);
  }
  throw UsageError(
      fmt::format("unknown command '{}'{} ('qtf help' lists them)", name, did_you_mean(name, names)));
}

}  // namespace qtf::cli
