// The ranks of `--ratio` as a record, and their row of the table of kinds (audit/decision.h).
#pragma once

#include <span>

#include "qtf/audit/decision.h"
#include "qtf/model/rank_choice.h"

namespace qtf::model {

audit::Decision record(const RankChoice& choice);

/// ranks.
std::span<const audit::DecisionKind> decision_kinds();

}  // namespace qtf::model
