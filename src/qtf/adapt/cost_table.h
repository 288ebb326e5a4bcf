// What every map of a model costs at each rank and token count, as measured on one machine, and from it what
// a query costs. budget/ fills it (`qtf profile`) and asks it for the choices that budget_solver.h picks
// from.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "qtf/adapt/execution.h"
#include "qtf/adapt/query.h"

namespace qtf::adapt {

/// Time and energy of one pass through a map.
struct MeasuredCost {
  MeasuredTime time;
  int64_t energy_nj = 0;
  bool operator==(const MeasuredCost&) const = default;
};

/// One for each of kTimedTokens.
using MeasuredCosts = std::array<MeasuredCost, kTimedTokens.size()>;

/// A measured way to store and run a map.
struct TimedShape {
  std::string shape;  ///< a weight shape's text form, pivots left out
  int64_t rank = 0;   ///< of a chain; 0: another shape
  MeasuredCosts costs;
  bool operator==(const TimedShape&) const = default;
};

/// How a query uses a map.
enum class MapUse {
  every_token,   ///< of the prompt and after it
  shown_tokens,  ///< the head: once for each generated token
};

struct MapCosts {
  std::string map;
  MapUse use = MapUse::every_token;
  int64_t out = 0, in = 0;
  std::vector<TimedShape> shapes;  ///< chains by rising rank, then the dense matrix and others
  bool operator==(const MapCosts&) const = default;
};

struct CostTable {
  std::vector<MapCosts> maps;
  /// The map's row. Throws InputError if it was not measured.
  const MapCosts& at(const std::string& map) const;
  bool operator==(const CostTable&) const = default;
};

/// What a map adds to a query.
struct QueryCost {
  int64_t ns = 0, nj = 0;
  QueryCost& operator+=(const QueryCost& other) {
    ns += other.ns, nj += other.nj;
    return *this;
  }
  bool operator==(const QueryCost&) const = default;
};

/// A chain of any rank: between two measured ranks on the line between them. Throws InputError for a rank
/// outside the measured ones, or one whose measurement is missing (a time or an energy below 1).
MeasuredCosts costs_of_rank(const MapCosts& map, int64_t rank);

/// A shape that was measured by its text form. Throws InputError if it was not.
MeasuredCosts costs_of_shape(const MapCosts& map, const std::string& shape);

/// One pass of `tokens` tokens: between two measured counts on the line between them, beyond the largest in
/// proportion.
QueryCost pass_cost(const MeasuredCosts& costs, int64_t tokens);

/// The prompt in one pass, then a pass a token after the first.
QueryCost query_cost(const MeasuredCosts& costs, MapUse use, const Query& query);

}  // namespace qtf::adapt
