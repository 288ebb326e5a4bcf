// Whether a map runs as its factors or as the matrix that they multiply out to. A pure function of measured
// times: the answer carries its inputs, so that it can be recorded, replayed and explained.
// model/execution_plan.h measures.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace qtf::adapt {

/// Token counts at which maps are timed: a decoded token, a batch of them, a short prompt and a long one.
inline constexpr std::array<int64_t, 4> kTimedTokens{1, 8, 64, 512};

/// What one way of running a map takes, in nanoseconds.
struct MeasuredTime {
  int64_t median_ns = 0;
  int64_t spread_ns = 0;  ///< half the distance of the quartiles
  bool operator==(const MeasuredTime&) const = default;
};

/// Of some runs, at least one; a median below 1 ns counts as 1.
MeasuredTime summarise(std::vector<int64_t> ns);

/// One for each of kTimedTokens.
using MeasuredTimes = std::array<MeasuredTime, kTimedTokens.size()>;

struct ExecutionQuestion {
  std::string map;
  std::string shape;  ///< a weight shape's text form, for the record
  int level = 1;      ///< of the map's nested ones
  MeasuredTimes factors, merged;
  bool operator==(const ExecutionQuestion&) const = default;
};

struct ExecutionChoice {
  ExecutionQuestion question;
  bool merged = false;
  bool operator==(const ExecutionChoice&) const = default;
};

/// Factors, unless they take longer than the merged matrix at any of the token counts: so the map is never
/// slower than a dense one, whatever it is used for. (One form serves all counts, because the two round
/// differently and a token's bits must not depend on the tokens beside it.) Throws InputError for a time that
/// is missing, which is one below 1 ns.
ExecutionChoice choose_execution(const ExecutionQuestion& question);

/// One line for decisions.jsonl: integers as decimal strings, ASCII keys.
nlohmann::ordered_json to_json(const ExecutionChoice& choice);

}  // namespace qtf::adapt
