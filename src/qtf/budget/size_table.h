// The sizes that each map of a model may have, with all that budgets limit: what the solver picks from.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "qtf/adapt/budget_solver.h"
#include "qtf/adapt/cost_table.h"
#include "qtf/model/config.h"
#include "qtf/tensor/quantized_matrix.h"

namespace qtf::budget {

/// One size of a map.
struct MapSize {
  int64_t rank = 0;     ///< of a chain with a fixed gauge; 0: as it is (dense, or a shape that is not cut)
  bool merged = false;  ///< a chain that runs as the matrix it multiplies out to: less time for the query
  int64_t parameters = 0;
  int64_t bytes = 0;      ///< in model.safetensors, names and places in its header included
  adapt::QueryCost cost;  ///< of the query
  int64_t loss = 0;       ///< predicted, in 1e-9 nats/token
};

struct SizedMap {
  model::MapSpec spec;
  std::vector<MapSize> sizes;  ///< at least one
};

struct SizeTable {
  std::vector<SizedMap> maps;    ///< in linear_maps() order
  int64_t other_parameters = 0;  ///< of what is not a map
  int64_t other_bytes = 0;
};

/// Predicted nats/token of a map cut to a rank: [map][rank], in linear_maps() order.
using PredictedLosses = std::vector<std::vector<double>>;

/// A dense map may stay so or become a chain that stores fewer numbers; a chain with one mode a side may lose
/// ranks; other maps stay as they are. Throws InputError where a cost was not measured.
struct SizeTableOptions {
  double loss_scale = 1;         ///< of all predicted losses, see docs/budgets.md
  int64_t bytes_per_number = 4;  ///< in the file
  /// Of cores, which the model then runs from: codes in place of numbers, and no chain runs as a matrix.
  std::optional<Coding> coding = {};
};
SizeTable make_size_table(const model::ModelConfig& source, const PredictedLosses& losses,
                          const adapt::CostTable& costs, const adapt::Query& query,
                          const SizeTableOptions& options = {});

/// The model of a selection, with its execution plan. Chains have no pivots yet (placed: as timing takes
/// them).
model::ModelConfig sized_config(const model::ModelConfig& source, const SizeTable& table,
                                const std::vector<int64_t>& chosen, bool placed_pivots = false);

/// Sums of a selection.
struct SizeTotals {
  int64_t parameters = 0, bytes = 0, loss = 0;
  adapt::QueryCost cost;
};
SizeTotals totals_of(const SizeTable& table, const std::vector<int64_t>& chosen);

/// What the solver can keep small or limit.
struct SizeMeasure {
  std::string_view name;  ///< with its unit
  int64_t (*of)(const MapSize&);
  int64_t (*fixed)(const SizeTable&);
};
extern const SizeMeasure kParameters, kBytes, kTime, kEnergy, kLoss;

struct SizeLimit {
  const SizeMeasure* measure;
  int64_t limit;
};

adapt::BudgetQuestion size_question(const SizeTable& table, const SizeMeasure& value,
                                    const std::vector<SizeLimit>& limits);

/// A point of the front of least predicted loss over a measure.
struct FrontPoint {
  SizeTotals totals;
  double gap = 0;
};

/// Selections of least loss at `points` limits of the measure, from the least that can be reached to where
/// nothing is lost; each once.
std::vector<FrontPoint> pareto_front(const SizeTable& table, const SizeMeasure& measure, int points);

}  // namespace qtf::budget
