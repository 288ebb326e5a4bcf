// Ŝ: where a token's attention entropy stands among those of a calibration text. Entropies of different
// layers and models have different ranges; their distribution functions compare. The router's score uses it,
// and so can rank schedules. Integers only, so that what is decided by them replays exactly.
#pragma once

#include <cstdint>
#include <vector>

#include "qtf/adapt/rank_rule.h"

namespace qtf::adapt {

/// An empirical distribution function as quantiles.
struct EntropyDistribution {
  std::vector<int64_t> quantiles;  ///< at 0, 1/(K−1), …, 1, none below the one before; K >= 2
  bool operator==(const EntropyDistribution&) const = default;
};

/// The quantiles of some entropies at `points` places. Throws InputError for no samples or under two points.
EntropyDistribution distribution_of(std::vector<int64_t> samples, int64_t points);

/// Any numbers made into a distribution: clamped to [0, kUnit], and none below the one before it.
EntropyDistribution repaired(std::vector<int64_t> quantiles);

/// Ŝ of an entropy in units of 1e-9: the share of the distribution at or below it, linear between quantiles.
int64_t rank_of(const EntropyDistribution& distribution, int64_t entropy);

}  // namespace qtf::adapt
