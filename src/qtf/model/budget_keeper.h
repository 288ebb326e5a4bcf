// Keeps a text within a time a token and an energy: measures its decoded tokens and lowers the mean rank of
// its policy where they take too much (adapt/latency.h decides). generate() has one, a server one for each
// text with budgets.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "qtf/adapt/energy.h"
#include "qtf/adapt/latency.h"

namespace qtf::model {

/// What a text may take. 0: no budget.
struct TextBudgets {
  int64_t token_ns = 0;   ///< nanoseconds of a decoded token
  int64_t energy_nj = 0;  ///< nanojoules of the prompt and all tokens that may be written
  bool any() const { return token_ns > 0 || energy_nj > 0; }
};

class BudgetKeeper {
 public:
  /// The energy of the text up to now; none where it cannot be told.
  using EnergySoFar = std::function<std::optional<adapt::Energy>()>;

  /// tokens: the most that may be written. asked: the policy's mean rank, in 1e-9.
  BudgetKeeper(const TextBudgets& budgets, int64_t tokens, int64_t asked)
      : budgets_(budgets), most_tokens_(tokens), asked_(asked), mean_(asked) {}

  /// A decoded token's time. Every kLatencyTokens tokens it decides, by an energy that is asked for then.
  /// Returns the mean rank from now on if it changes.
  std::optional<int64_t> add(int64_t ns, const EnergySoFar& energy);
  /// Whether the next add() decides.
  bool due() const { return static_cast<int64_t>(times_.size()) + 1 == adapt::kLatencyTokens; }

  const TextBudgets& budgets() const { return budgets_; }
  int64_t mean() const { return mean_; }

  /// Each change of the mean rank, and each token too slow; whoever reads them may clear them.
  std::vector<adapt::LatencyDecision> decisions;

 private:
  adapt::LatencyDecision decide(adapt::RunBudget of, int64_t measured, int64_t budget) const;
  adapt::LatencyDecision by_time();
  adapt::LatencyDecision by_energy(const EnergySoFar& energy);

  TextBudgets budgets_;
  int64_t most_tokens_, asked_, mean_;
  int64_t tokens_ = 0;
  std::vector<int64_t> times_;  // of the tokens since the last decision
  int64_t used_nj_ = 0, measured_tokens_ = 0;
};

}  // namespace qtf::model
