// The decisions of this layer as records, and their rows of the table of kinds (audit/decision.h).
#pragma once

#include <span>

#include "qtf/adapt/allocation.h"
#include "qtf/adapt/budget_solver.h"
#include "qtf/adapt/execution.h"
#include "qtf/adapt/latency.h"
#include "qtf/adapt/rank_policy.h"
#include "qtf/adapt/router.h"
#include "qtf/audit/decision.h"

namespace qtf::adapt {

audit::Decision record(const Allocation& allocation);
audit::Decision record(const BudgetAnswer& answer);
audit::Decision record(const ExecutionChoice& choice);
audit::Decision record(const RouteDecision& decision);
audit::Decision record(const RankThresholds& solved);
audit::Decision record(const RankDecision& decision);
audit::Decision record(const LatencyDecision& decision);

/// allocation, execution, route, rank_thresholds, rank, mean_rank, budget; those of budget_judgement.h too.
std::span<const audit::DecisionKind> decision_kinds();

}  // namespace qtf::adapt
