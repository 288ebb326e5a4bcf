// The inner steps of budget_solver.h: Lagrangian bound, good selections, and the search between them.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "qtf/adapt/budget_solver.h"

namespace qtf::adapt {

__extension__ using BudgetWide = __int128;

/// Fixed-point bits of a price.
inline constexpr int kPriceBits = 32;

using Selection = std::vector<int64_t>;  ///< a choice a part

/// Sums of a selection.
struct SelectionTotals {
  int64_t value = 0;
  std::vector<int64_t> costs;  ///< `fixed` included
};

SelectionTotals totals_of(const BudgetQuestion& question, const Selection& selection);
bool keeps(const BudgetQuestion& question, const SelectionTotals& totals);

/// The relaxation at some prices: Σ over parts of min(value·2^32 + Σ price·cost), less the limits' worth.
struct Relaxation {
  Selection selection;
  SelectionTotals totals;
  BudgetWide bound = 0;  ///< in 2^-32; no selection that keeps the limits has a smaller value
};

Relaxation relax(const BudgetQuestion& question, const std::vector<int64_t>& prices);

/// The prices of the best bound found, by exact line searches along single limits and pairs. `visit` sees
/// every relaxation on the way: selections that keep the limits may be among them.
std::vector<int64_t> best_prices(const BudgetQuestion& question,
                                 const std::function<void(const Relaxation&)>& visit);

/// A selection that keeps the limits, near to one that may not; none if it is not found.
std::optional<Selection> repaired(const BudgetQuestion& question, Selection selection);

/// The selection with single parts changed for the better until none is left, limits kept.
Selection improved(const BudgetQuestion& question, Selection selection);

/// A selection of smaller value than `below`, the best, if there is one. complete: whether the search was not
/// cut, so that none exists if none is returned.
struct SearchResult {
  std::optional<Selection> selection;
  bool complete = true;
};
SearchResult search_below(const BudgetQuestion& question, const std::vector<int64_t>& prices,
                          std::optional<int64_t> below);

}  // namespace qtf::adapt
