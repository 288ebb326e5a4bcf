// How long a model takes for a query on this machine, and with how much energy: the judge of budgets.
#pragma once

#include "qtf/adapt/energy.h"
#include "qtf/adapt/query.h"
#include "qtf/budget/steady.h"
#include "qtf/model/transformer.h"

namespace qtf::budget {

struct QueryTimerOptions {
  int runs = 100;           ///< as many as fit into most_seconds, at least least_runs
  int least_runs = 20;      ///< the fewest of which the 95th percentile is not the maximum
  double most_seconds = 4;  ///< with references and repetitions
  SteadyOptions steady{.most_repeats = 20, .uninterrupted = true};
};

struct QueryMeasurement {
  int64_t runs = 0, repeated = 0, unsteady = 0;  ///< see SteadyRuns
  int64_t reference_ns = 0;                      ///< of the speed that the times are scaled to
  int64_t p50_ns = 0, p95_ns = 0;
  adapt::Energy energy;  ///< of a query that takes p95_ns, at the mean power of all runs
  bool operator==(const QueryMeasurement&) const = default;
};

/// The value that a share of the values does not exceed, by nearest rank. values: at least one.
int64_t percentile(std::vector<int64_t> values, double share);

/// Times of a run that says how long it took, between references, and its energy.
QueryMeasurement measure_runs(const std::function<int64_t()>& run_ns, SteadyRuns& steady,
                              adapt::EnergyMeter& meter, const QueryTimerOptions& options = {});

/// Throws InputError for a query that is longer than the model's context. Tokens are random; of each
/// generated one the most likely follows. model: prepared for inference.
void check_query(const model::ModelConfig& config, const adapt::Query& query);
QueryMeasurement measure_query(const model::Transformer<float>& model, const adapt::Query& query,
                               ThreadPool& pool, adapt::EnergyMeter& meter, int64_t reference_ns,
                               const QueryTimerOptions& options = {});

}  // namespace qtf::budget
