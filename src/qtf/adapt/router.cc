#include "qtf/adapt/router.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "qtf/base/json.h"

namespace qtf::adapt {

RouteDecision decide_route(const RouteQuestion& q) {
  RouteDecision decision{q};
  decision.above_threshold = q.score >= q.threshold;
  decision.within_quota = 1'000'000 * (q.routed_before + 1) <= q.ppm * (q.position + 1);
  decision.routed = decision.above_threshold && decision.within_quota;
  return decision;
}

nlohmann::ordered_json to_json(const RouteDecision& d) {
  return {{"decision", "route"},
          {"position", std::to_string(d.question.position)},
          {"routed_before", std::to_string(d.question.routed_before)},
          {"score", std::to_string(d.question.score)},
          {"threshold", std::to_string(d.question.threshold)},
          {"ppm", std::to_string(d.question.ppm)},
          {"above_threshold", d.above_threshold ? "1" : "0"},
          {"within_quota", d.within_quota ? "1" : "0"},
          {"routed", d.routed ? "1" : "0"}};
}

namespace {

std::vector<float> sorted_finite(std::span<const float> values) {
  std::vector<float> kept;
  std::copy_if(values.begin(), values.end(), std::back_inserter(kept),
               [](float v) { return std::isfinite(v); });
  std::sort(kept.begin(), kept.end());
  return kept;
}

/// The place of a share in [0, 1] of a sorted list.
float quantile(const std::vector<float>& sorted, double share) {
  return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
}

}  // namespace

void calibrate(int64_t step, int64_t ppm, const RouterObservation& seen, RouterState& state) {
  const std::vector<float> by_score = sorted_finite(seen.open_scores),
                           by_entropy = sorted_finite(seen.entropies);
  if (by_score.empty() || by_entropy.empty()) return;
  constexpr double kAim = 0.9;     // of the share
  constexpr int64_t kMemory = 20;  // steps: short enough to follow the weights, long enough to be steady
  const float move = 1.F / static_cast<float>(std::clamp<int64_t>(step, 1, kMemory));
  const auto towards = [&](float target, float& value) {
    value = step <= 1 ? target : value + move * (target - value);
  };
  const double wanted = kAim * static_cast<double>(ppm) / 1e6 * static_cast<double>(seen.tokens);
  const double share = std::min(1.0, wanted / static_cast<double>(by_score.size()));
  towards(quantile(by_score, 1 - share), state.threshold);
  const auto last = static_cast<double>(state.entropy_quantiles.size() - 1);
  for (size_t k = 0; k < state.entropy_quantiles.size(); ++k)
    towards(quantile(by_entropy, static_cast<double>(k) / last), state.entropy_quantiles[k]);
}

}  // namespace qtf::adapt
