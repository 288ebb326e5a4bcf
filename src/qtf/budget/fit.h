// Ranks that keep budgets as measured: solve by the table, measure the assembled model, solve again by what
// was measured, until it holds. A measurement that another contradicts is repeated before anything follows
// from it.
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
  int most_measurements = 5;  ///< of one model; of all together three times most_tries
};

/// Times a model of this configuration for the query.
using Measure = std::function<QueryMeasurement(const model::ModelConfig&)>;

struct Fit {
  bool feasible = false;
  std::vector<int64_t> chosen;  ///< sizes of the table
  QueryMeasurement measured;    ///< of the chosen, or of the fastest if not feasible; runs 0: none was made
  double bound_gap = 0;         ///< of the last solution: the largest share by which its loss could be less
  int tries = 0;                ///< models measured
  int measurements = 0;         ///< of them, together
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

/// Whether two measured models cannot both be right. strain: measured by the budget; table: the same by the
/// table. A model takes the table's share of its time, and something besides that all models of a search
/// share: so the one that the table says is smaller takes no longer, and not less than in proportion. What is
/// off by more than a tenth was disturbed, or the other was.
bool contradict(double strain, double table, double other_strain, double other_table);

/// The strain of a model measured several times: the middle one, of an even number the lower middle, as
/// disturbances rarely make anything faster. strains: at least one.
double settled(std::vector<double> strains);

/// Whether a made model keeps its budgets time after time.
struct Confirmation {
  bool holds = false;
  QueryMeasurement measured;        ///< the one with the settled strain
  double strain = 0;                ///< settled
  double worst = 0;                 ///< strain of those that count
  QueryMeasurement worst_measured;  ///< which has it
};

/// Measures three times (once without a budget of time or energy), and twice more where the worst is a tenth
/// above the middle: then the worst counts as disturbed and is left out. Holds if the settled strain is at
/// most 1 and the worst at most kTolerance.
Confirmation confirm(const Budgets& budgets, const std::function<QueryMeasurement()>& measure);

/// The margin to draw the budgets to after a made model did not hold: by as much as it was over, no less than
/// 1 % and no more than 15 %.
double tightened(double margin, const Confirmation& failed);

}  // namespace qtf::budget
