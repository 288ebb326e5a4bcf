#include "qtf/adapt/budget_solver.h"

#include <algorithm>

#include "qtf/adapt/allocation.h"
#include "qtf/adapt/budget_search.h"
#include "qtf/base/error.h"
#include "qtf/base/json.h"

namespace qtf::adapt {

namespace {

constexpr int64_t kMostCost = int64_t{1} << 48;
constexpr size_t kMostBudgetLimits = 5;

bool in_range(int64_t number) {
  return number >= 0 && number <= kMostCost;
}

void check_question(const BudgetQuestion& question) {
  if (question.limits.size() > kMostBudgetLimits)
    throw_input_error("budget", "{} limits are more than {}", question.limits.size(), kMostBudgetLimits);
  for (const BudgetLimit& limit : question.limits)
    if (!in_range(limit.limit) || !in_range(limit.fixed))
      throw_input_error("budget", "{}: limit {} and fixed cost {} must be 0 to {}", limit.name, limit.limit,
                        limit.fixed, kMostCost);
  for (const BudgetPart& part : question.parts) {
    if (part.choices.empty()) throw_input_error("budget", "{} has no choices", part.name);
    for (const BudgetChoice& choice : part.choices) {
      if (choice.costs.size() != question.limits.size())
        throw_input_error("budget", "{}, {}: {} costs for {} limits", part.name, choice.name,
                          choice.costs.size(), question.limits.size());
      bool good = in_range(choice.value);
      for (const int64_t cost : choice.costs) good = good && in_range(cost);
      if (!good)
        throw_input_error("budget", "{}, {}: value and costs must be 0 to {}", part.name, choice.name,
                          kMostCost);
    }
  }
}

/// Whether limit k is kept by whatever keeps limit j: each cost and the fixed one take no larger a share.
bool follows(const BudgetQuestion& question, size_t k, size_t j) {
  const BudgetLimit &own = question.limits[k], &other = question.limits[j];
  const auto smaller = [&](int64_t cost, int64_t other_cost) {
    return static_cast<BudgetWide>(cost) * other.limit <= static_cast<BudgetWide>(other_cost) * own.limit;
  };
  if (!smaller(own.fixed, other.fixed)) return false;
  for (const BudgetPart& part : question.parts)
    for (const BudgetChoice& choice : part.choices)
      if (!smaller(choice.costs[k], choice.costs[j])) return false;
  return true;
}

/// Indices of the limits that no other implies.
std::vector<size_t> needed_limits(const BudgetQuestion& question) {
  std::vector<size_t> needed;
  std::vector<bool> dropped(question.limits.size(), false);
  for (size_t k = 0; k < question.limits.size(); ++k)
    for (size_t j = 0; j < question.limits.size() && !dropped[k]; ++j)
      dropped[k] = j != k && !dropped[j] && follows(question, k, j);
  for (size_t k = 0; k < dropped.size(); ++k)
    if (!dropped[k]) needed.push_back(k);
  return needed;
}

/// The question with these limits only.
BudgetQuestion with_limits(const BudgetQuestion& question, const std::vector<size_t>& kept) {
  BudgetQuestion part{question.value, {}, {}};
  for (const size_t k : kept) part.limits.push_back(question.limits[k]);
  for (const BudgetPart& p : question.parts) {
    BudgetPart copy{p.name, {}};
    for (const BudgetChoice& c : p.choices) {
      BudgetChoice choice{c.name, c.value, {}};
      for (const size_t k : kept) choice.costs.push_back(c.costs[k]);
      copy.choices.push_back(std::move(choice));
    }
    part.parts.push_back(std::move(copy));
  }
  return part;
}

int64_t least_cost(const BudgetQuestion& question, size_t k) {
  int64_t sum = question.limits[k].fixed;
  for (const BudgetPart& part : question.parts) {
    int64_t least = part.choices.front().costs[k];
    for (const BudgetChoice& choice : part.choices) least = std::min(least, choice.costs[k]);
    sum += least;
  }
  return sum;
}

/// Limits that cannot be kept even alone.
std::vector<size_t> unreachable_limits(const BudgetQuestion& question) {
  std::vector<size_t> all;
  for (size_t k = 0; k < question.limits.size(); ++k)
    if (least_cost(question, k) > question.limits[k].limit) all.push_back(k);
  return all;
}

void take(BudgetAnswer& answer, const Selection& selection) {
  const SelectionTotals totals = totals_of(answer.question, selection);
  answer.feasible = true;
  answer.chosen = selection;
  answer.value = totals.value, answer.totals = totals.costs;
}

int64_t bound_of(BudgetWide priced) {
  // The next whole number: values are whole.
  const BudgetWide one = BudgetWide{1} << kPriceBits;
  const BudgetWide up = priced >= 0 ? (priced + one - 1) / one : -(-priced / one);
  return static_cast<int64_t>(std::clamp<BudgetWide>(up, 0, int64_t{1} << 62));
}

/// One limit: allocation.h is exact.
void solve_single(BudgetAnswer& answer, size_t k) {
  const BudgetQuestion& question = answer.question;
  AllocationQuestion single{question.limits[k].limit, question.limits[k].fixed, {}};
  for (const BudgetPart& part : question.parts) {
    SizedPart sized{part.name, {}};
    for (const BudgetChoice& choice : part.choices)
      sized.choices.push_back({choice.name, choice.costs[k], choice.value});
    single.parts.push_back(std::move(sized));
  }
  const Allocation allocation = allocate(single);
  take(answer, allocation.chosen);
  answer.bound = allocation.bound, answer.optimal = allocation.optimal;
  answer.prices.assign(question.limits.size(), 0);
  answer.prices[k] = static_cast<int64_t>((static_cast<BudgetWide>(allocation.loss_step) << kPriceBits) /
                                          std::max<int64_t>(1, allocation.cost_step));
}

/// Several limits. `reduced` has those at `needed`.
void solve_several(BudgetAnswer& answer, const BudgetQuestion& reduced, const std::vector<size_t>& needed) {
  std::optional<Selection> best;
  int64_t best_value = 0;
  const auto offer = [&](const Selection& selection, const SelectionTotals& totals) {
    if (keeps(reduced, totals) && (!best || totals.value < best_value))
      best = selection, best_value = totals.value;
  };
  const std::vector<int64_t> prices =
      best_prices(reduced, [&](const Relaxation& r) { offer(r.selection, r.totals); });
  const Relaxation relaxation = relax(reduced, prices);
  if (const auto near = repaired(reduced, relaxation.selection)) offer(*near, totals_of(reduced, *near));
  if (best) {
    const Selection better = improved(reduced, *best);
    offer(better, totals_of(reduced, better));
  }
  const SearchResult found =
      search_below(reduced, prices, best ? std::optional<int64_t>(best_value) : std::nullopt);
  if (found.selection) offer(*found.selection, totals_of(reduced, *found.selection));
  answer.optimal = found.complete;
  answer.bound = bound_of(relaxation.bound);
  answer.prices.assign(answer.question.limits.size(), 0);
  for (size_t i = 0; i < needed.size(); ++i) answer.prices[needed[i]] = prices[i];
  if (!best) return;
  take(answer, *best);
  answer.bound = std::min(answer.bound, answer.value);
}

BudgetAnswer solve_within(const BudgetQuestion& question) {
  BudgetAnswer answer;
  answer.question = question;
  if (!unreachable_limits(question).empty()) return answer;
  const std::vector<size_t> needed = needed_limits(question);
  if (needed.empty()) {
    const Relaxation free = relax(with_limits(question, {}), {});
    take(answer, free.selection);
    answer.bound = answer.value, answer.optimal = true;
    answer.prices.assign(question.limits.size(), 0);
  } else if (needed.size() == 1) {
    solve_single(answer, needed.front());
  } else {
    solve_several(answer, with_limits(question, needed), needed);
  }
  return answer;
}

/// The question whose value is a sum of the costs of limits, each in 2^-20 of its limit, those taken away.
BudgetQuestion least_of(const BudgetQuestion& question, const std::vector<size_t>& limits) {
  std::vector<size_t> others;
  for (size_t k = 0; k < question.limits.size(); ++k)
    if (std::find(limits.begin(), limits.end(), k) == limits.end()) others.push_back(k);
  BudgetQuestion least = with_limits(question, others);
  for (size_t p = 0; p < question.parts.size(); ++p) {
    for (size_t c = 0; c < question.parts[p].choices.size(); ++c) {
      const BudgetChoice& choice = question.parts[p].choices[c];
      BudgetWide sum = 0;
      for (const size_t k : limits)
        sum += limits.size() == 1 ? choice.costs[k]
                                  : (static_cast<BudgetWide>(choice.costs[k]) << 20) /
                                        std::max<int64_t>(1, question.limits[k].limit);
      least.parts[p].choices[c].value = static_cast<int64_t>(std::min<BudgetWide>(sum, kMostCost));
    }
  }
  return least;
}

/// The limits with the least values that can be kept together, those not named staying as they are.
std::optional<std::vector<NearestLimit>> relaxed(const BudgetQuestion& question,
                                                 const std::vector<size_t>& limits) {
  const BudgetAnswer answer = solve_within(least_of(question, limits));
  if (!answer.feasible) return {};
  const SelectionTotals totals = totals_of(question, answer.chosen);
  std::vector<NearestLimit> nearest;
  for (const size_t k : limits) nearest.push_back({k, std::max(totals.costs[k], question.limits[k].limit)});
  std::stable_sort(nearest.begin(), nearest.end(), [&](const NearestLimit& a, const NearestLimit& b) {
    return static_cast<BudgetWide>(a.value) * std::max<int64_t>(1, question.limits[b.limit].limit) >
           static_cast<BudgetWide>(b.value) * std::max<int64_t>(1, question.limits[a.limit].limit);
  });
  return nearest;
}

std::vector<NearestLimit> nearest_limits(const BudgetQuestion& question) {
  const std::vector<size_t> unreachable = unreachable_limits(question);
  if (!unreachable.empty())
    if (const auto nearest = relaxed(question, unreachable)) return *nearest;
  // Each alone can be kept, but not all together: the one that has to give way the least.
  std::optional<NearestLimit> least;
  for (size_t k = 0; k < question.limits.size() && unreachable.empty(); ++k) {
    const auto nearest = relaxed(question, {k});
    if (!nearest) continue;
    const NearestLimit& one = nearest->front();
    if (!least || static_cast<BudgetWide>(one.value) * question.limits[least->limit].limit <
                      static_cast<BudgetWide>(least->value) * question.limits[k].limit)
      least = one;
  }
  if (least) return {*least};
  std::vector<size_t> all(question.limits.size());
  for (size_t k = 0; k < all.size(); ++k) all[k] = k;
  std::vector<NearestLimit> nearest = relaxed(question, all).value();
  std::erase_if(nearest, [&](const NearestLimit& n) { return n.value == question.limits[n.limit].limit; });
  return nearest;
}

}  // namespace

BudgetAnswer solve_budgets(const BudgetQuestion& question) {
  check_question(question);
  BudgetAnswer answer = solve_within(question);
  if (!answer.feasible) answer.nearest = nearest_limits(question);
  return answer;
}

double gap(const BudgetAnswer& answer) {
  if (answer.value == 0) return 0;
  return static_cast<double>(answer.value - answer.bound) / static_cast<double>(answer.value);
}

namespace {

nlohmann::ordered_json choice_json(const BudgetQuestion& question, const BudgetChoice& choice) {
  nlohmann::ordered_json json{{"choice", choice.name}, {question.value, std::to_string(choice.value)}};
  for (size_t k = 0; k < question.limits.size(); ++k)
    json[question.limits[k].name] = std::to_string(choice.costs[k]);
  return json;
}

/// The choice next to the chosen one by value, worse (+1) or better (-1); null if there is none.
nlohmann::ordered_json next_choice_json(const BudgetQuestion& question, const BudgetPart& part,
                                        int64_t chosen, int direction) {
  const int64_t value = part.choices[static_cast<size_t>(chosen)].value;
  const BudgetChoice* next = nullptr;
  for (const BudgetChoice& choice : part.choices) {
    const bool beyond = direction > 0 ? choice.value > value : choice.value < value;
    if (!beyond) continue;
    if (!next || (direction > 0 ? choice.value < next->value : choice.value > next->value)) next = &choice;
  }
  return next ? choice_json(question, *next) : nlohmann::ordered_json(nullptr);
}

}  // namespace

nlohmann::ordered_json to_json(const BudgetAnswer& answer) {
  using nlohmann::ordered_json;
  const BudgetQuestion& question = answer.question;
  ordered_json limits = ordered_json::array(), parts = ordered_json::array(), nearest = ordered_json::array();
  for (size_t k = 0; k < question.limits.size(); ++k) {
    const BudgetLimit& limit = question.limits[k];
    ordered_json row{{"limit", limit.name},
                     {"at_most", std::to_string(limit.limit)},
                     {"fixed", std::to_string(limit.fixed)}};
    if (answer.feasible) row["total"] = std::to_string(answer.totals[k]);
    if (answer.feasible) row["price_2e-32"] = std::to_string(answer.prices[k]);
    limits.push_back(std::move(row));
  }
  for (const NearestLimit& n : answer.nearest)
    nearest.push_back({{"limit", question.limits[n.limit].name}, {"at_least", std::to_string(n.value)}});
  for (size_t p = 0; p < answer.chosen.size(); ++p) {
    const BudgetPart& part = question.parts[p];
    parts.push_back({{"map", part.name},
                     {"choices", std::to_string(part.choices.size())},
                     {"chosen", choice_json(question, part.choices[static_cast<size_t>(answer.chosen[p])])},
                     {"worse", next_choice_json(question, part, answer.chosen[p], 1)},
                     {"better", next_choice_json(question, part, answer.chosen[p], -1)}});
  }
  return {{"decision", "budget"},
          {"feasible", answer.feasible ? "yes" : "no"},
          {"value", question.value},
          {"total_value", std::to_string(answer.value)},
          {"bound", std::to_string(answer.bound)},
          {"optimal", answer.optimal ? "yes" : "no"},
          {"limits", limits},
          {"nearest", nearest},
          {"maps", parts}};
}

}  // namespace qtf::adapt
