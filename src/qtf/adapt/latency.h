// Keeps a run within a time a token, or within an energy: what is measured lowers the mean rank of its
// policy, or lets it rise again. Pure functions of integers that return their inputs; what was measured is
// such an input, so that a run can be replayed from its record. model/generate.h asks them.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "qtf/adapt/entropy_distribution.h"

namespace qtf::adapt {

/// Decoded tokens between two decisions: their median time, or mean energy, is what is decided by.
inline constexpr int64_t kLatencyTokens = 8;

/// The smallest mean rank that a policy is driven to, in 1e-9.
inline constexpr int64_t kLeastMean = kUnit / 1000;

/// What a run is kept within.
enum class RunBudget : uint8_t {
  time,    ///< nanoseconds
  energy,  ///< nanojoules
};

struct LatencyQuestion {
  RunBudget budget_of = RunBudget::time;
  int64_t token = 0;     ///< decoded so far
  int64_t measured = 0;  ///< a token: the median of the last kLatencyTokens, of energy their mean
  int64_t budget = 0;    ///< a token: as given, of energy what is left for each token that may still come
  int64_t mean = 0;      ///< the policy's mean rank now, in 1e-9
  int64_t asked = 0;     ///< the mean rank that was asked for, never exceeded
  bool operator==(const LatencyQuestion&) const = default;
};

struct LatencyDecision {
  LatencyQuestion question;
  int64_t mean = 0;       ///< from now on, in 1e-9
  bool too_slow = false;  ///< over the budget with the smallest mean rank already
  bool operator==(const LatencyDecision&) const = default;
};

/// Over the budget, the mean rank falls by a sixteenth of the range, or by as much of itself as the time is
/// over, if that is more. Under nine tenths of the budget it rises by a sixty-fourth, at most to what was
/// asked for; between the two it stays.
LatencyDecision decide_mean(const LatencyQuestion& question);

/// One line for a record: integers as decimal strings, ASCII keys.
nlohmann::ordered_json to_json(const LatencyDecision& decision);

}  // namespace qtf::adapt
