#include "qtf/model/budget_keeper.h"

#include <algorithm>

namespace qtf::model {

std::optional<int64_t> BudgetKeeper::add(int64_t ns, const EnergySoFar& energy) {
  if (!budgets_.any()) return {};
  times_.push_back(ns);
  ++tokens_;
  if (static_cast<int64_t>(times_.size()) < adapt::kLatencyTokens) return {};
  std::optional<int64_t> least;  // none where nothing could be measured
  for (const adapt::LatencyDecision& decision : {by_time(), by_energy(energy)}) {
    if (decision.question.budget == 0) continue;
    least = std::min(least.value_or(asked_), decision.mean);
    if (decision.mean != mean_ || decision.too_slow) decisions.push_back(decision);
  }
  times_.clear();
  if (!least || *least == mean_) return {};
  mean_ = *least;
  return least;
}

adapt::LatencyDecision BudgetKeeper::decide(adapt::RunBudget of, int64_t measured, int64_t budget) const {
  return adapt::decide_mean({of, tokens_, measured, budget, mean_, asked_});
}

adapt::LatencyDecision BudgetKeeper::by_time() {
  if (budgets_.token_ns == 0) return {};
  std::nth_element(times_.begin(), times_.begin() + adapt::kLatencyTokens / 2, times_.end());
  return decide(adapt::RunBudget::time, times_[adapt::kLatencyTokens / 2], budgets_.token_ns);
}

/// Counters that did not move in these tokens are read after the next ones.
adapt::LatencyDecision BudgetKeeper::by_energy(const EnergySoFar& so_far) {
  if (budgets_.energy_nj == 0) return {};
  const std::optional<adapt::Energy> energy = so_far();
  if (!energy) return {};
  const auto used = static_cast<int64_t>(1e9 * energy->joules);
  const int64_t took = used - used_nj_, tokens = tokens_ - measured_tokens_;
  const int64_t still = most_tokens_ - 1 - tokens_;
  if (still <= 0 || took <= 0) return {};
  const bool first = used_nj_ == 0;  // the prompt is in it
  used_nj_ = used, measured_tokens_ = tokens_;
  if (first) return {};
  return decide(adapt::RunBudget::energy, took / tokens,
                std::max<int64_t>(1, (budgets_.energy_nj - used) / still));
}

}  // namespace qtf::model
