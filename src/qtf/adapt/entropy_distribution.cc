#include "qtf/adapt/entropy_distribution.h"

#include <algorithm>

#include "qtf/base/error.h"

namespace qtf::adapt {

EntropyDistribution distribution_of(std::vector<int64_t> samples, int64_t points) {
  if (samples.empty())
    throw_input_error("entropy", "a distribution needs entropies of some tokens; give more text");
  if (points < 2) throw_input_error("entropy", "a distribution has two quantiles or more, got {}", points);
  std::sort(samples.begin(), samples.end());
  const auto last = static_cast<int64_t>(samples.size()) - 1;
  EntropyDistribution distribution;
  for (int64_t k = 0; k < points; ++k)
    distribution.quantiles.push_back(samples[static_cast<size_t>(k * last / (points - 1))]);
  return distribution;
}

EntropyDistribution repaired(std::vector<int64_t> quantiles) {
  int64_t least = 0;
  for (int64_t& q : quantiles) least = q = std::clamp(q, least, kUnit);
  return {std::move(quantiles)};
}

int64_t rank_of(const EntropyDistribution& distribution, int64_t entropy) {
  return share_below(distribution.quantiles, entropy);
}

}  // namespace qtf::adapt
