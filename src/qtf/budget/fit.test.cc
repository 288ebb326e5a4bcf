#include "qtf/budget/fit.h"

#include <gtest/gtest.h>

#include <cmath>

#include <sstream>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/budget/budget_test.h"
#include "qtf/model/parameters.h"

namespace qtf::budget {
namespace {

/// A table whose times are as macs: 1 ns a number and token; 10 W.
adapt::CostTable macs_table(const model::ModelConfig& config) {
  adapt::CostTable table;
  for (const model::MapSpec& map : model::linear_maps(config)) {
    adapt::MapCosts costs{map.name, adapt::MapUse::every_token, map.out, map.in, {}};
    const auto add = [&](const std::string& name, int64_t rank, int64_t macs) {
      adapt::TimedShape shape{name, rank, {}};
      for (size_t t = 0; t < shape.costs.size(); ++t) {
        const int64_t ns = std::max<int64_t>(1, macs * adapt::kTimedTokens[t]);
        shape.costs[t] = {{ns, 0}, 10 * ns};
      }
      costs.shapes.push_back(shape);
    };
    const int64_t largest = largest_rank(map.out, map.in);
    add("chain:rank=1", 1, map.out + map.in);
    add("chain:rank=" + std::to_string(largest), largest, largest * (map.out + map.in));
    add("dense", 0, map.out * map.in);
    table.maps.push_back(costs);
  }
  return table;
}

/// Losses that fall with the rank, otherwise for each map.
PredictedLosses falling_losses(const model::ModelConfig& config) {
  PredictedLosses losses;
  int map_number = 0;
  for (const model::MapSpec& map : model::linear_maps(config)) {
    std::vector<double>& own = losses.emplace_back();
    const auto full = static_cast<double>(std::min(map.out, map.in));
    for (double r = 0; r <= full; ++r)
      own.push_back(0.01 * (1 + map_number % 3) * (full - r) * (full - r) / full);
    ++map_number;
  }
  return losses;
}

class Fitting : public testing::Test {
 protected:
  Fit fit(const Budgets& budgets, double rest_ns = 50'000, double factor = 1.4) {
    return fit_budgets(config_, table_, budgets, [&](const model::ModelConfig& config) {
      ++measured_;
      return machine(config, rest_ns, factor);
    });
  }

  /// A machine that takes `factor` times the table's time and `rest_ns` besides.
  QueryMeasurement machine(const model::ModelConfig& config, double rest_ns, double factor) const {
    double ns = rest_ns;
    for (const model::MapSpec& map : model::linear_maps(config)) {
      const tt::WeightShape shape = model::shape_of(config, map);
      const bool dense = shape.kind == tt::ShapeKind::dense || config.plan.contains(map.name);
      const int64_t macs = dense ? map.out * map.in : shape.ranks[0] * (map.out + map.in);
      ns += factor * static_cast<double>(macs * (query_.prompt + query_.tokens - 1));
    }
    QueryMeasurement m;
    m.runs = 20, m.reference_ns = 1;
    m.p50_ns = std::llround(ns), m.p95_ns = std::llround(1.05 * ns);
    m.energy = {1e-8 * static_cast<double>(m.p95_ns), 0, 1, adapt::EnergyTier::modelled};
    return m;
  }

  adapt::Query query_{16, 8};
  model::ModelConfig config_ = small_budget_config();
  SizeTable table_ = make_size_table(config_, falling_losses(config_), macs_table(config_), query_);
  QueryMeasurement whole_ = machine(config_, 50'000, 1.4);
  int measured_ = 0;
};

TEST_F(Fitting, TheTablesSizesAreThoseOfTheModels) {
  for (const SizedMap& map : table_.maps) {
    EXPECT_EQ(map.sizes.back().rank, 0);
    EXPECT_EQ(map.sizes.back().loss, 0);
    EXPECT_EQ(map.sizes.back().parameters, map.spec.out * map.spec.in);
    for (const MapSize& size : map.sizes) {
      EXPECT_LE(size.parameters, map.spec.out * map.spec.in);
      EXPECT_GE(size.bytes, 4 * size.parameters);
      EXPECT_LE(size.cost.ns, map.sizes.back().cost.ns);  // merged where the factors are slower
    }
  }
  std::vector<int64_t> smallest(table_.maps.size(), 0), whole;
  for (const SizedMap& map : table_.maps) whole.push_back(static_cast<int64_t>(map.sizes.size()) - 1);
  for (const auto& chosen : {smallest, whole}) {
    const model::ModelConfig config = sized_config(config_, table_, chosen, true);
    EXPECT_EQ(totals_of(table_, chosen).parameters, model::parameter_count(config));
  }
  EXPECT_TRUE(sized_config(config_, table_, whole).shapes.empty());
}

TEST_F(Fitting, AChainMayLoseRanksAndOtherShapesStay) {
  model::ModelConfig config = config_;
  model::apply_shape_requests(config, {"ffn=mpo:rank=3", "attention=chain:rank=9"});
  adapt::CostTable costs = macs_table(config);
  for (adapt::MapCosts& map : costs.maps) {
    adapt::TimedShape kept = map.shapes.back();
    for (const model::MapSpec& spec : model::linear_maps(config))
      if (spec.name == map.map) kept.shape = tt::summary(model::shape_of(config, spec));
    map.shapes.push_back(kept);
  }
  const SizeTable table = make_size_table(config, falling_losses(config), costs, query_);
  for (const SizedMap& map : table.maps) {
    if (map.spec.part == model::MapPart::feed_forward) {
      EXPECT_EQ(map.sizes.size(), 1U);
      EXPECT_EQ(map.sizes[0].rank, 0);
    } else if (map.spec.part == model::MapPart::attention) {
      EXPECT_EQ(map.sizes.back().rank, 9);
      EXPECT_EQ(map.sizes.back().loss, 0);
    }
  }
}

TEST_F(Fitting, KeepsBudgetsOfTimeAndEnergyAsMeasured) {
  for (const double share : {0.3, 0.5, 0.75, 0.95}) {
    Budgets budgets;
    budgets.latency_ns = std::llround(share * static_cast<double>(whole_.p95_ns));
    measured_ = 0;
    const Fit time = fit(budgets);
    ASSERT_TRUE(time.feasible) << share;
    EXPECT_LE(time.measured.p95_ns, *budgets.latency_ns);
    EXPECT_GE(static_cast<double>(time.measured.p95_ns), 0.9 * static_cast<double>(*budgets.latency_ns));
    EXPECT_EQ(time.measurements, measured_);
    EXPECT_LE(time.tries, time.measurements);
    Budgets joules;
    joules.energy_nj = std::llround(share * 1e9 * whole_.energy.joules);
    const Fit energy = fit(joules);
    ASSERT_TRUE(energy.feasible) << share;
    EXPECT_LE(1e9 * energy.measured.energy.joules, static_cast<double>(*joules.energy_nj));
  }
}

TEST_F(Fitting, KeepsMixedBudgets) {
  Budgets budgets;
  budgets.parameters = totals_of(table_, fit({.latency_ns = whole_.p95_ns}).chosen).parameters * 7 / 10;
  budgets.bytes = 4 * *budgets.parameters;
  budgets.latency_ns = whole_.p95_ns * 8 / 10;
  budgets.energy_nj = std::llround(0.7e9 * whole_.energy.joules);
  const Fit mixed = fit(budgets);
  ASSERT_TRUE(mixed.feasible);
  const SizeTotals totals = totals_of(table_, mixed.chosen);
  EXPECT_LE(totals.parameters, *budgets.parameters);
  EXPECT_LE(totals.bytes, *budgets.bytes);
  EXPECT_LE(strain(budgets, mixed.measured), 1);
  EXPECT_LT(mixed.bound_gap, 0.05);  // maps of 32 ranks: what is left between two of them
}

TEST_F(Fitting, ABudgetThatHoldsAnywayCostsNothing) {
  const Fit loose = fit({.latency_ns = 2 * whole_.p95_ns});
  ASSERT_TRUE(loose.feasible);
  EXPECT_EQ(loose.tries, 1);
  EXPECT_EQ(totals_of(table_, loose.chosen).loss, 0);
}

TEST_F(Fitting, NamesTheNearestThatCanBeKept) {
  const Fit slow = fit({.latency_ns = 60'000});
  EXPECT_FALSE(slow.feasible);
  ASSERT_EQ(slow.nearest.size(), 1U);
  EXPECT_EQ(slow.nearest[0].name, "max_latency_ms");
  EXPECT_GT(slow.nearest[0].value, 60'000);
  EXPECT_TRUE(fit({.latency_ns = slow.nearest[0].value}).feasible);
  const Fit large = fit({.parameters = 100});
  EXPECT_FALSE(large.feasible);
  ASSERT_EQ(large.nearest.size(), 1U);
  EXPECT_EQ(large.nearest[0].name, "max_params");
  EXPECT_TRUE(fit({.parameters = large.nearest[0].value}).feasible);
  EXPECT_FALSE(fit({.parameters = large.nearest[0].value - 1}).feasible);
  EXPECT_THROW(fit({}), InputError);
}

TEST_F(Fitting, ALossAloneAsksForTheFewestParameters) {
  const Fit loose = fit({.loss = 2'000'000'000}), tight = fit({.loss = 500'000'000});
  ASSERT_TRUE(loose.feasible && tight.feasible);
  EXPECT_LT(totals_of(table_, loose.chosen).parameters, totals_of(table_, tight.chosen).parameters);
  EXPECT_LE(totals_of(table_, tight.chosen).loss, 500'000'000);
}

TEST_F(Fitting, RecordsEverySolutionAndMeasurement) {
  const Fit time = fit({.latency_ns = whole_.p95_ns / 2});
  int solutions = 0, measurements = 0;
  std::istringstream lines(time.decisions.lines);
  for (std::string line; std::getline(lines, line);) {
    const auto json = nlohmann::json::parse(line);
    solutions += json.at("decision") == "budget", measurements += json.at("decision") == "budget_measurement";
  }
  EXPECT_EQ(measurements, time.measurements);
  EXPECT_GE(solutions, time.tries);
  EXPECT_EQ(time.decisions.records.size(), static_cast<size_t>(solutions + measurements));
}

// What a busy machine does to the n-th measurement: times are multiplied by it.
struct Disturbance {
  const char* name;
  double (*factor)(int call, Random random);
};
const Disturbance kDisturbances[] = {
    {"a spike at the start", [](int call, Random) { return call == 0 ? 50.0 : 1.0; }},
    {"two spikes at the start", [](int call, Random) { return call < 2 ? 30.0 : 1.0; }},
    {"every third", [](int call, Random) { return call % 3 == 1 ? 8.0 : 1.0; }},
    {"one in four, by chance",
     [](int call, Random random) { return random.uniform(static_cast<uint64_t>(call)) < 0.25 ? 5.0 : 1.0; }},
    {"a slow phase", [](int call, Random) { return call >= 1 && call < 5 ? 1.6 : 1.0; }},
    {"slow until it is not", [](int call, Random) { return call < 4 ? 2.0 : 1.0; }},
    {"drift", [](int call, Random) { return 1 + 0.004 * call; }},
    {"jitter",
     [](int call, Random random) { return 1 + 0.02 * random.uniform(static_cast<uint64_t>(call)); }},
};

// One disturbed measurement decides nothing: the model chosen keeps the budget when nothing disturbs, and is
// about as good as without disturbances.
TEST_F(Fitting, DisturbancesChooseNoAbsurdModel) {
  for (const Disturbance& disturbance : kDisturbances) {
    for (const double share : {0.4, 0.6, 0.85}) {
      Budgets budgets;
      budgets.latency_ns = std::llround(share * static_cast<double>(whole_.p95_ns));
      const Fit quiet = fit(budgets);
      const Fit noisy =
          fit_budgets(config_, table_, budgets, [&, call = 0](const model::ModelConfig& config) mutable {
            const double factor = disturbance.factor(call++, Random{7, 9});
            QueryMeasurement m = machine(config, 50'000, 1.4);
            m.p95_ns = std::llround(factor * static_cast<double>(m.p95_ns));
            return m;
          });
      ASSERT_TRUE(quiet.feasible);
      ASSERT_TRUE(noisy.feasible) << disturbance.name << " at " << share;
      const model::ModelConfig chosen = sized_config(config_, table_, noisy.chosen, true);
      const double held = strain(budgets, machine(chosen, 50'000, 1.4));
      EXPECT_LE(held, kTolerance) << disturbance.name << " at " << share;
      EXPECT_GE(held, 0.8) << disturbance.name << " at " << share;
      EXPECT_LE(noisy.measurements, 40) << disturbance.name;
    }
  }
}

TEST(Fit, MeasurementsThatCannotBothBeRight) {
  EXPECT_FALSE(contradict(0.5, 0.4, 1, 1)) << "something besides what the table has";
  EXPECT_FALSE(contradict(0.4, 0.4, 1, 1)) << "in proportion";
  EXPECT_TRUE(contradict(0.3, 0.4, 1, 1)) << "faster than in proportion";
  EXPECT_TRUE(contradict(1.2, 0.4, 1, 1)) << "the smaller one is slower";
  EXPECT_TRUE(contradict(1, 1, 1.2, 0.4)) << "in either order";
  EXPECT_FALSE(contradict(1.05, 0.9, 1, 1)) << "within a tenth";
  EXPECT_EQ(settled({3}), 3);
  EXPECT_EQ(settled({50, 1}), 1);
  EXPECT_EQ(settled({50, 1, 1.1}), 1.1);
}

/// Confirmation of a budget of 100 ns by 95th percentiles that come in turn.
Confirmation confirmation(std::vector<int64_t> p95_ns) {
  const Confirmation c = confirm({.latency_ns = 100}, [&, next = size_t{0}]() mutable {
    QueryMeasurement m;
    m.p95_ns = p95_ns.at(next++);
    return m;
  });
  return c;
}

TEST(Fit, AMadeModelMustHoldTimeAfterTime) {
  EXPECT_TRUE(confirmation({99, 100, 102}).holds);
  EXPECT_EQ(confirmation({99, 100, 102}).measured.p95_ns, 100);
  EXPECT_FALSE(confirmation({99, 100, 104}).holds) << "one is beyond the tolerance";
  EXPECT_FALSE(confirmation({99, 101, 102}).holds) << "most are over";
  EXPECT_TRUE(confirmation({500, 98, 99, 97, 99}).holds) << "the worst was disturbed";
  EXPECT_FALSE(confirmation({500, 98, 400, 97, 99}).holds) << "two were";
  EXPECT_EQ(confirm({.parameters = 1},
                    [n = 0]() mutable {
                      QueryMeasurement m;
                      m.runs = ++n;
                      return m;
                    })
                .measured.runs,
            1)
      << "nothing is timed";
  EXPECT_NEAR(tightened(0.99, confirmation({99, 101, 102})), 0.99 * 0.99 / 1.01, 1e-9);
  EXPECT_NEAR(tightened(0.99, confirmation({99, 100, 104})), 0.99 * 0.99 * kTolerance / 1.04, 1e-9);
  EXPECT_NEAR(tightened(0.99, confirmation({900, 900, 900})), 0.99 * 0.85, 1e-9);
}

TEST_F(Fitting, FrontsLoseLessTheMoreTheyMayHave) {
  for (const SizeMeasure* measure : {&kParameters, &kTime}) {
    const std::vector<FrontPoint> front = pareto_front(table_, *measure, 8);
    ASSERT_GE(front.size(), 4U);
    for (size_t i = 1; i < front.size(); ++i) EXPECT_LT(front[i].totals.loss, front[i - 1].totals.loss);
    EXPECT_EQ(front.back().totals.loss, 0);
  }
}

}  // namespace
}  // namespace qtf::budget
