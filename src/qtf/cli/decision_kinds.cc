#include "qtf/cli/decision_kinds.h"

#include "qtf/adapt/decision_records.h"
#include "qtf/model/rank_choice_record.h"

namespace qtf::cli {

std::span<const audit::DecisionKind> decision_kinds() {
  static const std::vector<audit::DecisionKind> all = [] {
    std::vector<audit::DecisionKind> table;
    for (const auto kinds : {adapt::decision_kinds(), model::decision_kinds()})
      table.insert(table.end(), kinds.begin(), kinds.end());
    return table;
  }();
  return all;
}

}  // namespace qtf::cli
