// Which size each part of a model gets so that the whole keeps several budgets at once at the least predicted
// loss (or keeps a loss at the least cost): the multiple-choice knapsack problem with several limits. A pure
// function of integers whose answer carries its inputs, so that it can be recorded, replayed and explained.
// budget/ asks it; allocation.h solves the case of one limit.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace qtf::adapt {

/// One choice for a part: its value, to be kept small in sum, and a cost for each limit.
struct BudgetChoice {
  std::string name;  ///< what the record calls it
  int64_t value = 0;
  std::vector<int64_t> costs;
  bool operator==(const BudgetChoice&) const = default;
};

/// A part of the model, of which exactly one choice is taken.
struct BudgetPart {
  std::string name;
  std::vector<BudgetChoice> choices;  ///< in any order, at least one
  bool operator==(const BudgetPart&) const = default;
};

/// What a sum of costs may be at most.
struct BudgetLimit {
  std::string name;   ///< with its unit: "latency_ns"
  int64_t limit = 0;  ///< `fixed` included
  int64_t fixed = 0;  ///< cost of what has no choice
  bool operator==(const BudgetLimit&) const = default;
};

struct BudgetQuestion {
  std::string value;  ///< what is kept small, with its unit
  std::vector<BudgetLimit> limits;
  std::vector<BudgetPart> parts;
  bool operator==(const BudgetQuestion&) const = default;
};

/// A limit and the value that it would have to have.
struct NearestLimit {
  size_t limit = 0;  ///< index
  int64_t value = 0;
  bool operator==(const NearestLimit&) const = default;
};

struct BudgetAnswer {
  BudgetQuestion question;
  bool feasible = false;
  std::vector<int64_t> chosen;  ///< an index into each part's choices; empty if not feasible
  int64_t value = 0;
  std::vector<int64_t> totals;  ///< of each limit, fixed included
  /// No selection within the limits has a smaller value (Lagrangian relaxation).
  int64_t bound = 0;
  bool optimal = false;  ///< false if the search was cut: `value - bound` is then the largest possible gap
  /// Of each limit, value a unit of cost in 2^-32: what the bound prices it at. 0: it does not bind.
  std::vector<int64_t> prices;
  /// If not feasible: limits of which each would have to be as large as this, at once. The first is the one
  /// that binds most.
  std::vector<NearestLimit> nearest;
  bool operator==(const BudgetAnswer&) const = default;
};

/// The selection of least value within all limits. Exact where at most 2^20 selections exist, where only one
/// limit is left after those that follow from another (allocation.h), and where the search ends; else the
/// best that was found, `optimal` false. Throws InputError for a part without choices, a choice without a
/// cost for each limit, more than 5 limits, and numbers that are negative or above 2^48.
BudgetAnswer solve_budgets(const BudgetQuestion& question);

/// (value − bound) / value, 0 where both are 0.
double gap(const BudgetAnswer& answer);

/// One line for decisions.jsonl: integers as decimal strings, ASCII keys. With each part its chosen size and
/// those next to it in value.
nlohmann::ordered_json to_json(const BudgetAnswer& answer);

}  // namespace qtf::adapt
