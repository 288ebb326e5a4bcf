// Every kind of decision that qtf records and can take again: one table. `qtf audit` and `qtf explain` read
// it.
#pragma once

#include <span>

#include "qtf/audit/decision.h"

namespace qtf::cli {

/// To add a kind, write its record and its row where the decision lives (as adapt/decision_records.cc), and
/// add that table in decision_kinds.cc.
std::span<const audit::DecisionKind> decision_kinds();

}  // namespace qtf::cli
