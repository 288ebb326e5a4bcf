// Which size each part of a model gets so that the whole fits a budget at the least predicted loss: the
// multiple-choice knapsack problem, solved exactly. Pure functions of integers: the answer carries its inputs
// and what it rejected, so that it can be recorded, replayed and explained. compress/ asks it for ranks.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace qtf::adapt {

/// One size that a part may have.
struct SizeChoice {
  std::string name;  ///< what the record calls it: a weight shape's text form
  int64_t cost = 0;  ///< parameters
  int64_t loss = 0;  ///< predicted, in 1e-9 nats/token
  bool operator==(const SizeChoice&) const = default;
};

/// A part of the model, of which exactly one choice is taken.
struct SizedPart {
  std::string name;
  std::vector<SizeChoice> choices;  ///< in any order, at least one
  bool operator==(const SizedPart&) const = default;
};

struct AllocationQuestion {
  int64_t budget = 0;      ///< of the costs, fixed_cost included
  int64_t fixed_cost = 0;  ///< of what has no choice
  std::vector<SizedPart> parts;
  bool operator==(const AllocationQuestion&) const = default;
};

struct Allocation {
  AllocationQuestion question;
  std::vector<int64_t> chosen;  ///< an index into each part's choices
  int64_t cost = 0;             ///< fixed_cost included, at most the budget
  int64_t loss = 0;
  int64_t bound = 0;    ///< no allocation within the budget has a smaller loss (Lagrangian relaxation)
  bool optimal = true;  ///< false if the search was cut: `loss - bound` is then the largest possible gap
  /// The price of a unit of cost at the bound, loss_step / cost_step: a part of this allocation grows only
  /// where the next size saves at least so much. 0 / 1: the budget does not bind.
  int64_t loss_step = 0, cost_step = 1;
  bool operator==(const Allocation&) const = default;
};

/// The allocation of least loss within the budget; among equals, the cheaper one. Exact by dynamic
/// programming over the choices that the Lagrangian bound leaves possible (Pisinger, "A minimal algorithm for
/// the multiple-choice knapsack problem", 1995). Throws InputError with the smallest reachable cost if that
/// exceeds the budget, or for a part without choices or with negative numbers.
Allocation allocate(const AllocationQuestion& question);

/// One line for decisions.jsonl: integers as decimal strings, ASCII keys. With each part its chosen size and
/// the nearest smaller and larger ones.
nlohmann::ordered_json to_json(const Allocation& allocation);

}  // namespace qtf::adapt
