#include "qtf/adapt/cost_table.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"

namespace qtf::adapt {
namespace {

/// 100 ns a token and rank at every count, and as many nJ twice.
TimedShape linear_shape(const std::string& name, int64_t rank, int64_t ns_per_token) {
  TimedShape shape{name, rank, {}};
  for (size_t i = 0; i < kTimedTokens.size(); ++i) {
    const int64_t ns = ns_per_token * kTimedTokens[i];
    shape.costs[i] = {{ns, ns / 10}, 2 * ns};
  }
  return shape;
}

MapCosts small_map() {
  return {"map",
          MapUse::every_token,
          64,
          64,
          {linear_shape("chain:rank=1", 1, 100), linear_shape("chain:rank=9", 9, 900),
           linear_shape("dense", 0, 1500)}};
}

TEST(CostTable, InterpolatesRanksAndTokens) {
  const MapCosts map = small_map();
  EXPECT_EQ(costs_of_rank(map, 9), map.shapes[1].costs);
  const MeasuredCosts five = costs_of_rank(map, 5);
  EXPECT_EQ(five, linear_shape("", 5, 500).costs);
  EXPECT_EQ(pass_cost(five, 1), (QueryCost{500, 1000}));
  EXPECT_EQ(pass_cost(five, 36), (QueryCost{500 * 36, 1000 * 36}));
  EXPECT_EQ(pass_cost(five, 64), (QueryCost{500 * 64, 1000 * 64}));
  EXPECT_EQ(pass_cost(five, 1024), (QueryCost{500 * 1024, 1000 * 1024}));
  EXPECT_EQ(costs_of_shape(map, "dense"), map.shapes[2].costs);
}

TEST(CostTable, AQueryReadsThePromptOnceAndThenTokenByToken) {
  const MeasuredCosts dense = costs_of_shape(small_map(), "dense");
  EXPECT_EQ(query_cost(dense, MapUse::every_token, {64, 11}), (QueryCost{1500 * 74, 3000 * 74}));
  EXPECT_EQ(query_cost(dense, MapUse::shown_tokens, {64, 11}), (QueryCost{1500 * 11, 3000 * 11}));
  EXPECT_EQ(query_cost(dense, MapUse::every_token, {64, 1}), (QueryCost{1500 * 64, 3000 * 64}));
}

TEST(CostTable, AMissingMeasurementIsAnErrorNotZero) {
  MapCosts map = small_map();
  EXPECT_THROW(costs_of_rank(map, 10), InputError);
  EXPECT_THROW(costs_of_rank(map, 0), InputError);
  EXPECT_THROW(costs_of_shape(map, "mpo:rank=3"), InputError);
  map.shapes[0].costs[2].time.median_ns = 0;
  EXPECT_THROW(costs_of_rank(map, 5), InputError);
  map.shapes[2].costs[3].energy_nj = 0;
  EXPECT_THROW(costs_of_shape(map, "dense"), InputError);
  const CostTable table{{map}};
  EXPECT_EQ(table.at("map").out, 64);
  EXPECT_THROW(table.at("other"), InputError);
}

}  // namespace
}  // namespace qtf::adapt
