// The arithmetic of a rank decision, from a token's numbers to its level. adapt/rank_policy.h wraps it into
// decisions that are recorded; the edge library, which records nothing, decides by the same lines, and so the
// same.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

namespace qtf::adapt {

/// Entropies, scores and thresholds are integers in units of 1e-9.
inline constexpr int64_t kUnit = 1'000'000'000;

/// The nearest integer to value·kUnit; values beyond ±1e9 and NaN (as the least) are clamped.
inline int64_t to_units(double value) {
  constexpr double kMost = 1e9;
  if (std::isnan(value)) value = -kMost;
  return std::llround(std::clamp(value, -kMost, kMost) * static_cast<double>(kUnit));
}

/// Ŝ of a value in units of 1e-9: the share of a distribution at or below it, linear between its quantiles
/// (two or more, none below the one before).
inline int64_t share_below(std::span<const int64_t> quantiles, int64_t value) {
  const auto above = std::upper_bound(quantiles.begin(), quantiles.end(), value);
  if (above == quantiles.begin()) return 0;
  if (above == quantiles.end()) return kUnit;
  const auto below = above - 1;
  const int64_t steps = static_cast<int64_t>(quantiles.size()) - 1;
  return ((below - quantiles.begin()) * kUnit + (value - *below) * kUnit / (*above - *below)) / steps;
}

/// How Ŝ becomes a level.
struct LevelRule {
  int levels = 1;
  const int64_t* thresholds = nullptr;  ///< [levels - 1]: Ŝ from which on a token takes the next level
  int64_t hysteresis = 0;  ///< how far beyond one Ŝ must be to leave the level of the token before
};

/// Ŝ from which on a token takes the level after `level`. previous: the level of the token before; 0: none
/// was chosen.
inline int64_t bound_above(const LevelRule& rule, int level, int previous) {
  const int64_t threshold = rule.thresholds[level - 1];
  if (previous == 0) return threshold;
  return level >= previous ? threshold + rule.hysteresis : threshold - rule.hysteresis;
}

/// One more than the thresholds that Ŝ reaches.
inline int level_at(const LevelRule& rule, int64_t standing, int previous) {
  int level = 1;
  while (level < rule.levels && standing >= bound_above(rule, level, previous)) ++level;
  return level;
}

}  // namespace qtf::adapt
