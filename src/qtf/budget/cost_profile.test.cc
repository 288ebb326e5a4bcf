#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "qtf/base/error.h"
#include "qtf/budget/budget_test.h"
#include "qtf/tt/gauge.h"

namespace qtf::budget {
namespace {

CostProfile small_profile(const model::ModelConfig& config) {
  ThreadPool pool(2);
  const auto meter = test_meter();
  return measure_profile(config, pool, *meter, quick_profile());
}

TEST(CostProfile, MeasuresEveryMapAtRanksThatCoverTheRange) {
  const model::ModelConfig config = small_budget_config();
  const CostProfile profile = small_profile(config);
  ASSERT_EQ(profile.table.maps.size(), model::linear_maps(config).size());
  EXPECT_EQ(profile.measured_on, measured_here(2));
  EXPECT_GT(profile.reference_ns, 0);
  EXPECT_EQ(profile.energy.tier, adapt::EnergyTier::modelled);
  EXPECT_NEAR(static_cast<double>(profile.energy.low_ppm), 8e5, 2);
  EXPECT_NEAR(static_cast<double>(profile.energy.high_ppm), 1.2e6, 2);
  for (const adapt::MapCosts& map : profile.table.maps) {
    const int64_t largest = largest_rank(map.out, map.in);
    EXPECT_GE(map.shapes.size(), 3U) << map.map;
    EXPECT_EQ(map.shapes.front().rank, 1);
    EXPECT_EQ(map.shapes[map.shapes.size() - 2].rank, largest);
    EXPECT_EQ(map.shapes.back().shape, "dense");
    for (int64_t rank = 1; rank <= largest; ++rank) adapt::costs_of_rank(map, rank);  // none is missing
    EXPECT_GT(adapt::pass_cost(adapt::costs_of_shape(map, "dense"), 512).ns,
              adapt::pass_cost(adapt::costs_of_shape(map, "dense"), 1).ns);
  }
}

TEST(CostProfile, MeasuresMapsThatStayAsTheyAre) {
  model::ModelConfig config = small_budget_config();
  config.tied = false;
  model::apply_shape_requests(config, {"ffn=mpo:rank=3", "attention=chain:rank=4"});
  const CostProfile profile = small_profile(config);
  EXPECT_EQ(profile.table.maps.size(), model::linear_maps(config).size() - 1);  // the embedding is looked up
  for (const model::MapSpec& map : model::linear_maps(config))
    if (map.part == model::MapPart::feed_forward)
      adapt::costs_of_shape(profile.table.at(map.name), tt::summary(model::shape_of(config, map)));
}

TEST(CostProfile, LargestRankIsTheLastThatStoresFewerNumbers) {
  const std::vector<std::pair<int64_t, int64_t>> sizes{{8, 8}, {48, 32}, {32, 48}, {300, 32}, {1, 5}};
  for (const auto& size : sizes) {
    const int64_t out = size.first, in = size.second;
    const int64_t rank = largest_rank(out, in);
    const auto stored = [&](int64_t r) { return r * (out + in) - r * r; };
    EXPECT_TRUE(rank == 0 || stored(rank) < out * in) << out << " " << in;
    EXPECT_TRUE(rank == std::min(out, in - 1) || stored(rank + 1) >= out * in) << out << " " << in;
  }
}

TEST(CostProfile, FileKeepsAllOfIt) {
  CostProfile profile = small_profile(small_budget_config());
  profile.model_hash = std::string(64, 'a');
  EXPECT_EQ(parse_profile(profile_text(profile), "file"), profile);
  for (const std::string bad : {"", "{}", "[1]", "{\"format\": \"qtf profile 2\"}"})
    EXPECT_THROW(parse_profile(bad, "file"), IoError) << bad;
  const std::string text = profile_text(profile);
  EXPECT_THROW(parse_profile(text.substr(0, text.size() / 2), "file"), IoError);
}

std::string check_error(const CostProfile& profile, const MeasuredOn& here, const std::string& hash) {
  try {
    check_profile(profile, here, hash, "p.json");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(CostProfile, RefusesAnotherMachineAndAnotherModel) {
  CostProfile profile;
  profile.measured_on = measured_here(2);
  profile.model_hash = "abc";
  EXPECT_EQ(check_error(profile, measured_here(2), "abc"), "");
  EXPECT_NE(check_error(profile, measured_here(2), "abd").find("another model"), std::string::npos);
  EXPECT_NE(check_error(profile, measured_here(1), "abc").find("--threads 2"), std::string::npos);
  profile.measured_on.machine.processor = "abacus";
  EXPECT_NE(check_error(profile, measured_here(2), "abc").find("another machine (abacus"), std::string::npos);
  EXPECT_NE(profile_path(measured_here(1), "abc"), profile_path(measured_here(2), "abc"));
  EXPECT_NE(profile_path(measured_here(1), "abc"), profile_path(measured_here(1), "abd"));
}

/// A machine whose n-th reference takes `reference(n)`, and which interrupts the runs numbered in a list.
struct FakeMachine {
  std::function<int64_t(int64_t)> reference;
  std::vector<int64_t> interrupted = {};
  int64_t references = 0, runs = 0, interruptions = 0;

  Instruments instruments() {
    return {[this] { return reference(references++); }, [this] { return interruptions; }};
  }
  int64_t run(int64_t ns) {
    const bool taken = std::count(interrupted.begin(), interrupted.end(), runs) > 0;
    ++runs, interruptions += taken;
    return taken ? 40 * ns : ns;
  }
};

QueryMeasurement measured_on(FakeMachine& machine, const std::function<int64_t(int64_t)>& run_ns,
                             QueryTimerOptions options = {}) {
  options.runs = options.least_runs;
  SteadyRuns steady(machine.instruments(), 1000, options.steady);
  const auto meter = test_meter();
  volatile double work = 0;  // the meter wants to see some
  const auto run = [&] {
    for (int i = 0; i < 10'000; ++i) work = work + i;
    return machine.run(run_ns(machine.runs));
  };
  return measure_runs(run, steady, *meter, options);
}

TEST(Steady, RunsThatAreInterruptedAreRepeated) {
  FakeMachine machine{[](int64_t) { return 1000; }, {0, 1, 5, 9, 10, 11, 17}};
  const QueryMeasurement m = measured_on(machine, [](int64_t) { return 5000; });
  EXPECT_EQ(m.p95_ns, 5000);
  EXPECT_EQ(m.repeated, 7);
  EXPECT_EQ(m.unsteady, 0);
  QueryTimerOptions blind;
  blind.steady.uninterrupted = false;
  FakeMachine again{[](int64_t) { return 1000; }, {0, 1, 5, 9, 10, 11, 17}};
  EXPECT_EQ(measured_on(
                again, [](int64_t) { return 5000; }, blind)
                .p95_ns,
            200'000);
}

TEST(Steady, ASlowerMachineIsScaledAway) {
  // Twice as slow from the 15th reference on, and drifting by 1 % a reference in the other.
  FakeMachine halved{[](int64_t n) { return n < 15 ? 1000 : 2000; }};
  const QueryMeasurement m =
      measured_on(halved, [&](int64_t) { return halved.references < 15 ? 5000 : 10'000; });
  EXPECT_EQ(m.p95_ns, 5000);
  EXPECT_EQ(m.repeated, 1) << "the run within which it happened";
  const auto slower = [](int64_t n) { return std::llround(1000 * std::pow(1.01, n)); };
  FakeMachine drifting{slower};
  const QueryMeasurement d = measured_on(drifting, [&](int64_t) { return 5 * slower(drifting.references); });
  EXPECT_NEAR(static_cast<double>(d.p95_ns), 5000, 50);
  EXPECT_EQ(d.repeated, 0);
}

TEST(Steady, AReferenceThatNeverStaysIsCounted) {
  FakeMachine machine{[](int64_t n) { return n % 2 ? 1000 : 1200; }};
  const QueryMeasurement m = measured_on(machine, [](int64_t) { return 5000; });
  EXPECT_EQ(m.unsteady, m.runs);
  EXPECT_EQ(m.repeated, m.runs * QueryTimerOptions{}.steady.most_repeats);
}

TEST(Steady, RepeatsRunsThatDriftAndCountsThem) {
  ThreadPool pool(2);
  int calls = 0;
  SteadyRuns always(pool, 0, {.most_drift = -1, .most_repeats = 2});  // no reference is steady enough
  const double scale = always.steady([&] { ++calls; });
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(always.repeated(), 2);
  EXPECT_EQ(always.unsteady(), 1);
  EXPECT_GT(scale, 0);
  SteadyRuns twice_as_fast(pool, 2 * always.reference_ns(), {.most_drift = 1e9});
  EXPECT_EQ(twice_as_fast.reference_ns(), 2 * always.reference_ns());
  EXPECT_GT(twice_as_fast.steady([&] { ++calls; }), 0.2);
  EXPECT_EQ(twice_as_fast.repeated(), 0);
}

TEST(QueryTimer, MeasuresAQuery) {
  ThreadPool pool(2);
  model::Transformer<float> model(small_budget_config());
  model.initialise(3);
  model.prepare(tt::Use::inference, pool);
  const auto meter = test_meter();
  const QueryMeasurement measured = measure_query(model, {16, 8}, pool, *meter, 0, quick_query());
  EXPECT_EQ(measured.runs, 5);
  EXPECT_GT(measured.p50_ns, 0);
  EXPECT_GE(measured.p95_ns, measured.p50_ns);
  EXPECT_GT(measured.energy.joules, 0);
  EXPECT_LT(measured.energy.low, measured.energy.joules);
  EXPECT_THROW(measure_query(model, {40, 9}, pool, *meter, 0, quick_query()), InputError);
}

TEST(QueryTimer, PercentilesAreByNearestRank) {
  std::vector<int64_t> values;
  for (int64_t i = 100; i >= 1; --i) values.push_back(i);
  EXPECT_EQ(percentile(values, 0.95), 95);
  EXPECT_EQ(percentile(values, 0.5), 50);
  EXPECT_EQ(percentile({7}, 0.95), 7);
}

}  // namespace
}  // namespace qtf::budget
