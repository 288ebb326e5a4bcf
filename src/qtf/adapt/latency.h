// Keeps a run within a time a token: measured times lower the mean rank of its policy, or let it rise again.
// Pure functions of integers that return their inputs; the measured times are such inputs, so that a run can
// be replayed from its record. model/generate.h asks them.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "qtf/adapt/entropy_distribution.h"

namespace qtf::adapt {

/// Decoded tokens between two decisions: their median time is what is decided by.
inline constexpr int64_t kLatencyTokens = 8;

/// The smallest mean rank that a policy is driven to, in 1e-9.
inline constexpr int64_t kLeastMean = kUnit / 1000;

struct LatencyQuestion {
  int64_t token = 0;        ///< decoded so far
  int64_t measured_ns = 0;  ///< median of the last kLatencyTokens tokens' times
  int64_t budget_ns = 0;
  int64_t mean = 0;   ///< the policy's mean rank now, in 1e-9
  int64_t asked = 0;  ///< the mean rank that was asked for, never exceeded
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
