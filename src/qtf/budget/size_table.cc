#include "qtf/budget/size_table.h"

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/budget/cost_profile.h"
#include "qtf/model/parameters.h"
#include "qtf/tt/linear_map.h"

namespace qtf::budget {

namespace {

// Ranks offered of one map: more would not be told apart by the predicted losses.
constexpr int64_t kMostRanksOffered = 128;

// Of the file: its length, the metadata's text, and what aligns the data.
constexpr int64_t kFileBytes = 8 + 40 + 64;

int64_t count_of(const std::vector<int64_t>& dims) {
  int64_t count = 1;
  for (const int64_t dim : dims) count *= dim;
  return count;
}

/// Upper bound of the bytes that a tensor's entry in the header takes. `total`: of all data, for the digits.
int64_t entry_bytes(const std::string& name, const std::vector<int64_t>& dims, int64_t total) {
  const auto digits = static_cast<int64_t>(std::to_string(total).size());
  int64_t bytes = static_cast<int64_t>(name.size()) + 2 * digits + 52;
  for (const int64_t dim : dims) bytes += static_cast<int64_t>(std::to_string(dim).size()) + 1;
  return bytes;
}

/// A tensor's bytes, its entry included.
int64_t tensor_bytes(const std::string& name, const std::vector<int64_t>& dims, int64_t total,
                     int64_t bytes_per_number) {
  return count_of(dims) * bytes_per_number + entry_bytes(name, dims, total);
}

/// The same of a core in codes, with its scales.
int64_t coded_bytes(const std::string& name, const tt::CoreSpec& core, int64_t total, const Coding& coding) {
  const int64_t cols = tt::core_row_size(core), rows = count_of(core.dims) / cols;
  const int64_t scales = coding.row_scales(cols);
  int64_t bytes = rows * (coding.row_bytes(cols) + 2 * scales) + entry_bytes(name, {rows, cols}, total);
  if (coding.scaled()) bytes += entry_bytes(name + ".scale", {rows, scales}, total);
  return bytes;
}

tt::WeightShape chain_of(const model::MapSpec& spec, int64_t rank) {
  return tt::parse_shape(fmt::format("chain:rank={}", rank), spec.out, spec.in);
}

/// With a fixed gauge; its pivots lie somewhere.
tt::WeightShape fixed_chain_of(const model::MapSpec& spec, int64_t rank) {
  tt::WeightShape shape = chain_of(spec, rank);
  for (int64_t r = 0; r < rank; ++r) shape.pivots.push_back(r * spec.in / rank);
  return shape;
}

/// Makes a map's sizes.
class MapSizes {
 public:
  MapSizes(const model::ModelConfig& source, const adapt::CostTable& costs, const adapt::Query& query,
           const SizeTableOptions& options)
      : source_(source),
        costs_(costs),
        query_(query),
        options_(options),
        total_bytes_(model::dense_parameter_count(source) * options.bytes_per_number) {}

  SizedMap of(const model::MapSpec& spec, const std::vector<double>& losses) const {
    SizedMap map{spec, {}};
    const tt::WeightShape own = model::shape_of(source_, spec);
    const bool chain = own.kind == tt::ShapeKind::chain && is_cut(own);
    const int64_t largest = largest_rank(spec.out, spec.in);
    const int64_t own_rank = chain ? own.ranks[0] : largest + 1;
    if (is_cut(own)) {
      const int64_t most = std::min(largest, own_rank);
      const int64_t step = std::max<int64_t>(1, std::min(spec.out, spec.in) / kMostRanksOffered);
      for (int64_t rank = 1; rank <= most; rank = rank < most ? std::min(most, rank + step) : most + 1)
        map.sizes.push_back(
            chain_size(spec, rank, rank == own_rank ? 0 : losses.at(static_cast<size_t>(rank))));
    }
    if (own_rank > largest) map.sizes.push_back(whole_size(spec, chain ? tt::WeightShape{} : own));
    return map;
  }

 private:
  MapSize chain_size(const model::MapSpec& spec, int64_t rank, double loss) const {
    MapSize size;
    size.rank = rank;
    // Codes of 4 bits need the numbers that a fixed gauge leaves out (model/gauge.h).
    const bool all = options_.coding && options_.coding->type == CodeType::int4;
    add_cores(spec, all ? chain_of(spec, rank) : fixed_chain_of(spec, rank), size);
    size.loss = std::llround(std::min(options_.loss_scale * loss, 1e4) * 1e9);
    if (is_looked_up(spec)) return size;
    const adapt::MapCosts& costs = costs_.at(spec.name);
    size.cost = adapt::query_cost(adapt::costs_of_rank(costs, rank), costs.use, query_);
    const adapt::QueryCost merged =
        adapt::query_cost(adapt::costs_of_shape(costs, "dense"), costs.use, query_);
    size.merged = !options_.coding && merged.ns < size.cost.ns;
    if (size.merged) size.cost = merged;
    return size;
  }

  /// As it is. A shape of no size: dense.
  MapSize whole_size(const model::MapSpec& spec, tt::WeightShape shape) const {
    if (shape.out == 0) shape.out = spec.out, shape.in = spec.in;
    MapSize size;
    add_cores(spec, shape, size);
    if (is_looked_up(spec)) return size;
    const adapt::MapCosts& costs = costs_.at(spec.name);
    const std::string name = shape.kind == tt::ShapeKind::dense ? "dense" : tt::summary(shape);
    size.cost = adapt::query_cost(adapt::costs_of_shape(costs, name), costs.use, query_);
    return size;
  }

  void add_cores(const model::MapSpec& spec, const tt::WeightShape& shape, MapSize& size) const {
    size.parameters = tt::parameters(shape);
    for (const tt::CoreSpec& core : tt::cores(shape)) {
      const std::string name = spec.name + "." + core.suffix;
      size.bytes += options_.coding ? coded_bytes(name, core, total_bytes_, *options_.coding)
                                    : tensor_bytes(name, core.dims, total_bytes_, options_.bytes_per_number);
    }
  }

  bool is_looked_up(const model::MapSpec& spec) const {
    return spec.part == model::MapPart::embedding && !source_.tied;
  }

  const model::ModelConfig& source_;
  const adapt::CostTable& costs_;
  const adapt::Query& query_;
  const SizeTableOptions& options_;
  int64_t total_bytes_;
};

}  // namespace

SizeTable make_size_table(const model::ModelConfig& source, const PredictedLosses& losses,
                          const adapt::CostTable& costs, const adapt::Query& query,
                          const SizeTableOptions& options) {
  SizeTable table;
  const MapSizes sizes(source, costs, query, options);
  const std::vector<model::MapSpec> maps = model::linear_maps(source);
  QTF_ASSERT(losses.size() == maps.size());
  for (size_t m = 0; m < maps.size(); ++m) table.maps.push_back(sizes.of(maps[m], losses[m]));
  model::ModelConfig dense = source;
  model::clear_shapes(dense);
  const model::ParameterLayout layout = model::make_layout(dense);
  table.other_bytes = kFileBytes;
  for (const model::Parameter& p : layout.parameters) {
    const bool of_a_map = std::any_of(
        maps.begin(), maps.end(), [&](const model::MapSpec& map) { return p.name == map.name + ".weight"; });
    if (of_a_map) continue;
    table.other_parameters += p.size;
    table.other_bytes += tensor_bytes(p.name, p.dims, 4 * layout.size, options.bytes_per_number);
  }
  return table;
}

model::ModelConfig sized_config(const model::ModelConfig& source, const SizeTable& table,
                                const std::vector<int64_t>& chosen, bool placed_pivots) {
  model::ModelConfig config = source;
  config.plan.clear();
  config.rank_policy.reset();  // of levels that are no more
  for (size_t m = 0; m < table.maps.size(); ++m) {
    const SizedMap& map = table.maps[m];
    const MapSize& size = map.sizes[static_cast<size_t>(chosen[m])];
    if (size.rank == 0) {
      const auto own = config.shapes.find(map.spec.name);
      if (own != config.shapes.end() && is_cut(own->second)) config.shapes.erase(own);
      continue;
    }
    config.shapes[map.spec.name] =
        placed_pivots ? fixed_chain_of(map.spec, size.rank) : chain_of(map.spec, size.rank);
    if (size.merged) config.plan[map.spec.name] = {1};
  }
  return config;
}

SizeTotals totals_of(const SizeTable& table, const std::vector<int64_t>& chosen) {
  SizeTotals totals{table.other_parameters, table.other_bytes, 0, {}};
  for (size_t m = 0; m < table.maps.size(); ++m) {
    const MapSize& size = table.maps[m].sizes[static_cast<size_t>(chosen[m])];
    totals.parameters += size.parameters, totals.bytes += size.bytes, totals.loss += size.loss;
    totals.cost += size.cost;
  }
  return totals;
}

namespace {
int64_t no_fixed(const SizeTable&) {
  return 0;
}
}  // namespace

const SizeMeasure kParameters{"parameters", [](const MapSize& s) { return s.parameters; },
                              [](const SizeTable& t) { return t.other_parameters; }};
const SizeMeasure kBytes{"bytes", [](const MapSize& s) { return s.bytes; },
                         [](const SizeTable& t) { return t.other_bytes; }};
const SizeMeasure kTime{"table_latency_ns", [](const MapSize& s) { return s.cost.ns; }, no_fixed};
const SizeMeasure kEnergy{"table_energy_nj", [](const MapSize& s) { return s.cost.nj; }, no_fixed};
const SizeMeasure kLoss{"loss_nano_nats", [](const MapSize& s) { return s.loss; }, no_fixed};

adapt::BudgetQuestion size_question(const SizeTable& table, const SizeMeasure& value,
                                    const std::vector<SizeLimit>& limits) {
  adapt::BudgetQuestion question{std::string(value.name), {}, {}};
  for (const SizeLimit& limit : limits)
    question.limits.push_back({std::string(limit.measure->name), limit.limit, limit.measure->fixed(table)});
  for (const SizedMap& map : table.maps) {
    adapt::BudgetPart part{map.spec.name, {}};
    for (const MapSize& size : map.sizes) {
      adapt::BudgetChoice choice{
          size.rank == 0 ? "whole" : fmt::format("chain:rank={}{}", size.rank, size.merged ? " merged" : ""),
          value.of(size),
          {}};
      for (const SizeLimit& limit : limits) choice.costs.push_back(limit.measure->of(size));
      part.choices.push_back(std::move(choice));
    }
    question.parts.push_back(std::move(part));
  }
  return question;
}

std::vector<FrontPoint> pareto_front(const SizeTable& table, const SizeMeasure& measure, int points) {
  const auto solve = [&](const SizeMeasure& value, const std::vector<SizeLimit>& limits) {
    return adapt::solve_budgets(size_question(table, value, limits));
  };
  const int64_t least = solve(measure, {}).value + measure.fixed(table);
  const int64_t least_loss = solve(kLoss, {}).value;
  const int64_t most = solve(measure, {{&kLoss, least_loss}}).value + measure.fixed(table);
  std::vector<FrontPoint> front;
  for (int i = 0; i < points; ++i) {
    const double share = static_cast<double>(i) / std::max(1, points - 1);
    const int64_t limit = least + std::llround(static_cast<double>(most - least) * share * share);
    const adapt::BudgetAnswer answer = solve(kLoss, {{&measure, limit}});
    const FrontPoint point{totals_of(table, answer.chosen), adapt::gap(answer)};
    if (front.empty() || point.totals.loss < front.back().totals.loss) front.push_back(point);
  }
  return front;
}

}  // namespace qtf::budget
