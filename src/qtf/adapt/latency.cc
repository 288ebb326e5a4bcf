#include "qtf/adapt/latency.h"

#include <algorithm>
#include <string>

#include "qtf/base/json.h"

namespace qtf::adapt {

LatencyDecision decide_mean(const LatencyQuestion& q) {
  LatencyDecision decision{q, q.mean};
  if (q.measured > q.budget) {
    // In parts per million, so that no product leaves 64 bits.
    const int64_t over_ppm = (q.measured - q.budget) * 1'000'000 / q.measured;
    const int64_t fall = std::max(kUnit / 16, q.mean / 1'000'000 * over_ppm);
    decision.mean = std::max(kLeastMean, q.mean - fall);
    decision.too_slow = q.mean <= kLeastMean;
  } else if (q.measured < q.budget / 10 * 9) {
    decision.mean = std::max(q.mean, std::min(q.asked, q.mean + kUnit / 64));
  }
  return decision;
}

nlohmann::ordered_json to_json(const LatencyDecision& d) {
  const bool time = d.question.budget_of == RunBudget::time;
  return {{"decision", "mean_rank"},
          {"token", std::to_string(d.question.token)},
          {time ? "measured_ns" : "measured_nj", std::to_string(d.question.measured)},
          {time ? "budget_ns" : "budget_nj", std::to_string(d.question.budget)},
          {"mean_before", std::to_string(d.question.mean)},
          {"asked", std::to_string(d.question.asked)},
          {"mean", std::to_string(d.mean)},
          {"too_slow", d.too_slow ? "1" : "0"}};
}

}  // namespace qtf::adapt
