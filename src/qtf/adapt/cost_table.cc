#include "qtf/adapt/cost_table.h"

#include <algorithm>

#include "qtf/base/error.h"

namespace qtf::adapt {

namespace {

__extension__ using Int128 = __int128;

/// The value at x on the line through (x0, y0) and (x1, y1), to the nearest whole number.
int64_t on_line(int64_t x, int64_t x0, int64_t y0, int64_t x1, int64_t y1) {
  if (x0 == x1) return y0;
  const Int128 numerator = static_cast<Int128>(y1 - y0) * (x - x0), width = x1 - x0;
  const Int128 rounded = (2 * numerator + (numerator >= 0 ? width : -width)) / (2 * width);
  return y0 + static_cast<int64_t>(rounded);
}

void check_present(const MapCosts& map, const TimedShape& shape) {
  for (size_t i = 0; i < kTimedTokens.size(); ++i)
    if (shape.costs[i].time.median_ns < 1 || shape.costs[i].energy_nj < 1)
      throw_input_error("cost table",
                        "the measurement of {} as {} at {} tokens is missing; run qtf profile again", map.map,
                        shape.shape, kTimedTokens[i]);
}

MeasuredCosts between(const TimedShape& low, const TimedShape& high, int64_t rank) {
  MeasuredCosts costs;
  for (size_t i = 0; i < costs.size(); ++i) {
    const auto line = [&](int64_t a, int64_t b) { return on_line(rank, low.rank, a, high.rank, b); };
    const MeasuredCost &a = low.costs[i], &b = high.costs[i];
    costs[i] = {{line(a.time.median_ns, b.time.median_ns), line(a.time.spread_ns, b.time.spread_ns)},
                line(a.energy_nj, b.energy_nj)};
  }
  return costs;
}

}  // namespace

const MapCosts& CostTable::at(const std::string& map) const {
  const auto found = std::find_if(maps.begin(), maps.end(), [&](const MapCosts& m) { return m.map == map; });
  if (found == maps.end())
    throw_input_error("cost table", "{} was not measured; run qtf profile on this model", map);
  return *found;
}

MeasuredCosts costs_of_rank(const MapCosts& map, int64_t rank) {
  const TimedShape *low = nullptr, *high = nullptr;
  for (const TimedShape& shape : map.shapes) {
    if (shape.rank < 1) continue;
    if (shape.rank <= rank && (!low || shape.rank > low->rank)) low = &shape;
    if (shape.rank >= rank && (!high || shape.rank < high->rank)) high = &shape;
  }
  if (!low || !high)
    throw_input_error("cost table", "rank {} of {} lies outside the measured ranks; run qtf profile again",
                      rank, map.map);
  check_present(map, *low), check_present(map, *high);
  return between(*low, *high, rank);
}

MeasuredCosts costs_of_shape(const MapCosts& map, const std::string& shape) {
  for (const TimedShape& timed : map.shapes) {
    if (timed.shape != shape) continue;
    check_present(map, timed);
    return timed.costs;
  }
  throw_input_error("cost table", "{} as {} was not measured; run qtf profile on this model", map.map, shape);
}

QueryCost pass_cost(const MeasuredCosts& costs, int64_t tokens) {
  QTF_ASSERT(tokens >= 1);
  const int64_t most = kTimedTokens.back();
  if (tokens > most) {
    const auto scaled = [&](int64_t value) {
      return static_cast<int64_t>(static_cast<Int128>(value) * tokens / most);
    };
    return {scaled(costs.back().time.median_ns), scaled(costs.back().energy_nj)};
  }
  size_t high = 0;
  while (kTimedTokens[high] < tokens) ++high;
  const size_t low = high == 0 || kTimedTokens[high] == tokens ? high : high - 1;
  const auto line = [&](int64_t a, int64_t b) {
    return on_line(tokens, kTimedTokens[low], a, kTimedTokens[high], b);
  };
  return {line(costs[low].time.median_ns, costs[high].time.median_ns),
          line(costs[low].energy_nj, costs[high].energy_nj)};
}

QueryCost query_cost(const MeasuredCosts& costs, MapUse use, const Query& query) {
  const QueryCost one = pass_cost(costs, 1);
  const int64_t singles = use == MapUse::shown_tokens ? query.tokens : query.tokens - 1;
  QueryCost sum{one.ns * singles, one.nj * singles};
  if (use == MapUse::every_token) sum += pass_cost(costs, query.prompt);
  return sum;
}

}  // namespace qtf::adapt
