// Ranks that keep budgets as measured: solve by the table, measure the assembled model, solve again by what
// was measured, until it holds.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "qtf/adapt/budget_judgement.h"
#include "qtf/budget/query_timer.h"
#include "qtf/budget/size_table.h"

namespace qtf::budget {

/// What a budget may limit. One at least is given.
struct Budgets {
  std::optional<int64_t> parameters = {}, bytes = {}, latency_ns = {}, energy_nj = {};
  /// Predicted, 1e-9 nats/token. Alone it asks for the fewest parameters.
  std::optional<int64_t> loss = {};
};

/// A budget by its name on the command line and in JSON, and a value in whole units.
struct NamedLimit {
  std::string name;  ///< "max_params", "max_bytes", "max_latency_ms", "max_energy_j"
  int64_t value = 0;
  bool operator==(const NamedLimit&) const = default;
};

/// How much more than the budget a measured 95th percentile may be: what remains between two measurements
/// after scaling.
constexpr double kTolerance = 1.03;

struct FitOptions {
  double margin = 0.99;  ///< of time and energy budgets, that the search aims at
  int most_tries = 10;
};

/// Times a model of this configuration for the query.
using Measure = std::function<QueryMeasurement(const model::ModelConfig&)>;

struct Fit {
  bool feasible = false;
  std::vector<int64_t> chosen;  ///< sizes of the table
  QueryMeasurement measured;    ///< of the chosen, or of the fastest if not feasible; runs 0: none was made
  double bound_gap = 0;         ///< of the last solution: the largest share by which its loss could be less
  int tries = 0;                ///< models measured
  std::vector<NamedLimit> nearest;  ///< if not feasible: what these budgets would have to be, at once
  audit::DecisionList decisions;    ///< every solution and measurement
};

/// Throws InputError if no budget is given. source: what the table was made of.
Fit fit_budgets(const model::ModelConfig& source, const SizeTable& table, const Budgets& budgets,
                const Measure& measure, const FitOptions& options = {});

/// Whether what was measured keeps the budgets of time and energy.
adapt::Judgement judge(const Budgets& budgets, const QueryMeasurement& measured,
                       int64_t tolerance_ppm = 1'000'000);

/// The largest of p95/budget over the budgets of time and energy; 0 without one.
double strain(const Budgets& budgets, const QueryMeasurement& measured);

}  // namespace qtf::budget
