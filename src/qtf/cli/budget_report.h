// What `qtf budget` says of a model that it made: JSON, text, and budget.html.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "qtf/budget/fit.h"
#include "qtf/cli/command.h"

namespace qtf::cli {

/// What is asked for, in whole units; a perplexity as it is.
struct BudgetAsked {
  budget::Budgets limits;
  std::optional<double> target_perplexity;
  adapt::Query query;
};

/// What was measured of a model.
struct BudgetMeasured {
  int64_t parameters = 0, bytes = 0;
  budget::QueryMeasurement query;
  std::optional<double> perplexity;
};

struct BudgetReport {
  std::string name, source;
  BudgetAsked asked;
  bool feasible = false;
  std::string binding;                      ///< the budget that binds most
  std::vector<budget::NamedLimit> nearest;  ///< if not feasible
  std::optional<double> nearest_perplexity;
  std::optional<BudgetMeasured> measured;
  double bound_gap = 0;
  // Of the page only.
  double predicted_loss = 0;  ///< nats/token
  budget::SizeTotals totals;
  std::vector<budget::FrontPoint> by_parameters, by_time;
  std::vector<std::pair<std::string, std::string>> maps;  ///< name and chosen size
  std::string machine, energy_source;
};

/// The budget that takes the largest share of what it allows.
std::string tightest_budget(const BudgetAsked& asked, const BudgetMeasured& measured);

/// Whether all budgets hold: parameters, bytes and perplexity exactly, time and energy within
/// budget::kTolerance.
bool keeps_budgets(const BudgetAsked& asked, const BudgetMeasured& measured);

/// The keys of docs/budgets.md.
nlohmann::ordered_json to_json(const BudgetReport& report);
nlohmann::ordered_json to_json(const BudgetAsked& asked);
nlohmann::ordered_json to_json(const BudgetMeasured& measured);

/// What to_json(BudgetAsked) wrote. Throws like nlohmann's readers.
BudgetAsked asked_from(const nlohmann::ordered_json& json);

/// "max_latency_ms is 12.3 ms at the least", and of several budgets all.
std::string nearest_text(const BudgetReport& report);

/// One page that needs nothing else: no script, no font, no network.
std::string budget_page(const BudgetReport& report);

}  // namespace qtf::cli
