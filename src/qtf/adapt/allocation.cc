#include "qtf/adapt/allocation.h"

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/base/json.h"

namespace qtf::adapt {

namespace {

__extension__ using Wide = __int128;

// Beyond any model, and small enough that products of a loss and a cost fit 128 bits many times over.
constexpr int64_t kMaxNumber = int64_t{1} << 56;

// States of the search: 32 bytes each. Models of 200 maps stay below a hundredth of it.
constexpr size_t kMaxStates = size_t{1} << 22;

/// A part's choices that may be best at some price, by rising cost and falling loss, on the convex hull.
struct Hull {
  std::vector<int64_t> undominated;  ///< indices into the choices
  std::vector<int64_t> corners;      ///< those of them on the hull
};

std::vector<int64_t> undominated(const SizedPart& part) {
  std::vector<int64_t> order(part.choices.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  const auto at = [&](int64_t i) -> const SizeChoice& { return part.choices[static_cast<size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return std::pair(at(a).cost, at(a).loss) < std::pair(at(b).cost, at(b).loss);
  });
  std::vector<int64_t> kept;
  for (const int64_t i : order)
    if (kept.empty() || at(i).loss < at(kept.back()).loss) kept.push_back(i);
  return kept;
}

Hull make_hull(const SizedPart& part) {
  Hull hull{undominated(part), {}};
  const auto at = [&](int64_t i) -> const SizeChoice& { return part.choices[static_cast<size_t>(i)]; };
  for (const int64_t i : hull.undominated) {
    // The middle of three corners stays if the first step saves more a unit than the second.
    const auto useless = [&](int64_t a, int64_t b) {
      return static_cast<Wide>(at(a).loss - at(b).loss) * (at(i).cost - at(b).cost) <=
             static_cast<Wide>(at(b).loss - at(i).loss) * (at(b).cost - at(a).cost);
    };
    auto& corners = hull.corners;
    while (corners.size() >= 2 && useless(corners[corners.size() - 2], corners.back())) corners.pop_back();
    corners.push_back(i);
  }
  return hull;
}

/// From one corner of a part's hull to the next.
struct Step {
  size_t part;
  size_t corner;  ///< reached
  int64_t cost, saved;
};

std::vector<Step> steps_by_value(const AllocationQuestion& question, const std::vector<Hull>& hulls) {
  std::vector<Step> steps;
  for (size_t p = 0; p < hulls.size(); ++p) {
    const auto& choices = question.parts[p].choices;
    for (size_t c = 1; c < hulls[p].corners.size(); ++c) {
      const SizeChoice& from = choices[static_cast<size_t>(hulls[p].corners[c - 1])];
      const SizeChoice& to = choices[static_cast<size_t>(hulls[p].corners[c])];
      steps.push_back({p, c, to.cost - from.cost, from.loss - to.loss});
    }
  }
  std::stable_sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) {
    return static_cast<Wide>(a.saved) * b.cost > static_cast<Wide>(b.saved) * a.cost;
  });
  return steps;
}

void check(const AllocationQuestion& question) {
  for (const SizedPart& part : question.parts) {
    if (part.choices.empty()) throw_input_error("allocation", "{} has no choices", part.name);
    for (const SizeChoice& choice : part.choices)
      if (choice.cost < 0 || choice.loss < 0 || choice.cost > kMaxNumber || choice.loss > kMaxNumber)
        throw_input_error("allocation", "{}, {}: cost {} and loss {} must be 0 to {}", part.name, choice.name,
                          choice.cost, choice.loss, kMaxNumber);
  }
}

/// Fills `a` with a good allocation: hull steps in the order of their value, as far as they fit. Sets price
/// and bound from the first that does not.
void take_steps(Allocation& a, const std::vector<Hull>& hulls) {
  const auto& parts = a.question.parts;
  a.cost = a.question.fixed_cost;
  for (size_t p = 0; p < parts.size(); ++p) {
    a.chosen.push_back(hulls[p].corners.front());
    const SizeChoice& first = parts[p].choices[static_cast<size_t>(a.chosen[p])];
    a.cost += first.cost;
    a.loss += first.loss;
  }
  if (a.cost > a.question.budget)
    throw_input_error("allocation", "{} parameters cannot be reached: the smallest count is {}",
                      a.question.budget, a.cost);
  std::vector<bool> stopped(parts.size(), false);
  bool binding = false;
  for (const Step& step : steps_by_value(a.question, hulls)) {
    const int64_t left = a.question.budget - a.cost;
    if (step.cost > left && !binding) {
      binding = true;
      a.loss_step = step.saved, a.cost_step = step.cost;
      a.bound = a.loss - static_cast<int64_t>(static_cast<Wide>(left) * step.saved / step.cost);
    }
    if (step.cost > left) stopped[step.part] = true;
    if (stopped[step.part]) continue;
    a.chosen[step.part] = hulls[step.part].corners[step.corner];
    a.cost += step.cost;
    a.loss -= step.saved;
  }
  if (!binding) a.bound = a.loss;
}

/// The search's view of a choice: how much it exceeds its part's best at the bound's price.
struct Candidate {
  int64_t choice, cost, loss;
  Wide excess;
};

struct State {
  int64_t cost, loss;
  Wide excess;
  int32_t before;     ///< state of the part before
  int32_t candidate;  ///< taken of this part
};

/// Exact search below the loss of a known allocation.
class Search {
 public:
  Search(Allocation& best, const std::vector<Hull>& hulls) : best_(best) {
    const auto& question = best.question;
    Wide least = 0;
    for (size_t p = 0; p < hulls.size(); ++p) {
      std::vector<Candidate> list;
      for (const int64_t i : hulls[p].undominated) {
        const SizeChoice& c = question.parts[p].choices[static_cast<size_t>(i)];
        list.push_back({i, c.cost, c.loss, price(c.loss, c.cost)});
      }
      const Wide smallest = std::min_element(list.begin(), list.end(), [](const auto& a, const auto& b) {
                              return a.excess < b.excess;
                            })->excess;
      for (Candidate& c : list) c.excess -= smallest;
      least += smallest;
      candidates_.push_back(std::move(list));
    }
    // What the priced total of an allocation within the budget may exceed `least` by, if it is to be better.
    const int64_t available = question.budget - question.fixed_cost;
    room_ = price(best.loss, available) - least;
    for (auto& list : candidates_) {
      std::erase_if(list, [&](const Candidate& c) { return c.excess > room_; });
    }
    least_cost_after_.assign(candidates_.size() + 1, 0);
    for (size_t p = candidates_.size(); p-- > 0;) {
      if (candidates_[p].empty()) return;  // nothing is better
      least_cost_after_[p] = least_cost_after_[p + 1] + candidates_[p].front().cost;
    }
    searchable_ = true;
  }

  void run() {
    if (!searchable_) return;
    std::vector<std::vector<State>> layers{{{best_.question.fixed_cost, 0, 0, 0, 0}}};
    size_t states = 0;
    for (size_t p = 0; p < candidates_.size(); ++p) {
      layers.push_back(extend(layers.back(), p));
      states += layers.back().size();
      if (layers.back().empty()) return;
      if (states > kMaxStates) {
        best_.optimal = false;
        return;
      }
    }
    take(layers);
  }

 private:
  Wide price(int64_t loss, int64_t cost) const {
    return static_cast<Wide>(loss) * best_.cost_step + static_cast<Wide>(cost) * best_.loss_step;
  }

  std::vector<State> extend(const std::vector<State>& states, size_t p) const {
    std::vector<State> next;
    for (size_t s = 0; s < states.size(); ++s) {
      for (size_t c = 0; c < candidates_[p].size(); ++c) {
        const Candidate& candidate = candidates_[p][c];
        const State state{states[s].cost + candidate.cost, states[s].loss + candidate.loss,
                          states[s].excess + candidate.excess, static_cast<int32_t>(s),
                          static_cast<int32_t>(c)};
        if (state.cost + least_cost_after_[p + 1] > best_.question.budget) break;  // by rising cost
        if (state.excess <= room_) next.push_back(state);
      }
    }
    std::stable_sort(next.begin(), next.end(), [](const State& a, const State& b) {
      return std::pair(a.cost, a.loss) < std::pair(b.cost, b.loss);
    });
    size_t kept = 0;
    for (const State& state : next)
      if (kept == 0 || state.loss < next[kept - 1].loss) next[kept++] = state;
    next.resize(kept);
    return next;
  }

  /// The last layer's last state has the least loss.
  void take(const std::vector<std::vector<State>>& layers) {
    const State& end = layers.back().back();
    if (std::pair(end.loss, end.cost) >= std::pair(best_.loss, best_.cost)) return;
    best_.loss = end.loss, best_.cost = end.cost;
    const State* state = &end;
    for (size_t p = candidates_.size(); p-- > 0;) {
      best_.chosen[p] = candidates_[p][static_cast<size_t>(state->candidate)].choice;
      state = &layers[p][static_cast<size_t>(state->before)];
    }
  }

  Allocation& best_;
  std::vector<std::vector<Candidate>> candidates_;
  std::vector<int64_t> least_cost_after_;
  Wide room_ = 0;
  bool searchable_ = false;
};

}  // namespace

Allocation allocate(const AllocationQuestion& question) {
  check(question);
  std::vector<Hull> hulls;
  for (const SizedPart& part : question.parts) hulls.push_back(make_hull(part));
  Allocation a;
  a.question = question;
  take_steps(a, hulls);
  Search(a, hulls).run();
  return a;
}

namespace {

nlohmann::ordered_json size_json(const SizeChoice& size) {
  return {{"size", size.name}, {"cost", std::to_string(size.cost)}, {"loss", std::to_string(size.loss)}};
}

/// The undominated choice beside the chosen one, or null.
nlohmann::ordered_json neighbour_json(const SizedPart& part, int64_t chosen, int direction) {
  const std::vector<int64_t> sizes = undominated(part);
  const auto at = std::find(sizes.begin(), sizes.end(), chosen) - sizes.begin() + direction;
  if (at < 0 || at >= static_cast<std::ptrdiff_t>(sizes.size())) return nullptr;
  return size_json(part.choices[static_cast<size_t>(sizes[static_cast<size_t>(at)])]);
}

}  // namespace

nlohmann::ordered_json to_json(const Allocation& a) {
  nlohmann::ordered_json parts = nlohmann::ordered_json::array();
  for (size_t p = 0; p < a.question.parts.size(); ++p) {
    const SizedPart& part = a.question.parts[p];
    parts.push_back({{"map", part.name},
                     {"choices", std::to_string(part.choices.size())},
                     {"chosen", size_json(part.choices[static_cast<size_t>(a.chosen[p])])},
                     {"smaller", neighbour_json(part, a.chosen[p], -1)},
                     {"larger", neighbour_json(part, a.chosen[p], 1)}});
  }
  return {{"decision", "allocation"},
          {"max_parameters", std::to_string(a.question.budget)},
          {"other_parameters", std::to_string(a.question.fixed_cost)},
          {"total_parameters", std::to_string(a.cost)},
          {"predicted_loss", std::to_string(a.loss)},
          {"loss_bound", std::to_string(a.bound)},
          {"optimal", a.optimal ? "yes" : "no"},
          {"price_loss", std::to_string(a.loss_step)},
          {"price_cost", std::to_string(a.cost_step)},
          {"maps", parts}};
}

}  // namespace qtf::adapt
