#include "qtf/adapt/budget_search.h"

#include <algorithm>
#include <array>
#include <tuple>

namespace qtf::adapt {

namespace {

// Beyond it prices would overflow their products, and no choice is worth as much.
constexpr int64_t kMostPrice = int64_t{1} << 58;

// States kept after each part: all where the selections are few, else those nearest to the bound.
constexpr int64_t kFewSelections = int64_t{1} << 20;
constexpr size_t kMostKept = size_t{1} << 13;

constexpr size_t kMostLimits = 5;

const BudgetChoice& choice_at(const BudgetQuestion& question, size_t part, int64_t choice) {
  return question.parts[part].choices[static_cast<size_t>(choice)];
}

BudgetWide priced(const BudgetChoice& choice, const std::vector<int64_t>& prices) {
  BudgetWide sum = static_cast<BudgetWide>(choice.value) << kPriceBits;
  for (size_t k = 0; k < prices.size(); ++k) sum += static_cast<BudgetWide>(prices[k]) * choice.costs[k];
  return sum;
}

}  // namespace

SelectionTotals totals_of(const BudgetQuestion& question, const Selection& selection) {
  SelectionTotals totals;
  for (const BudgetLimit& limit : question.limits) totals.costs.push_back(limit.fixed);
  for (size_t p = 0; p < selection.size(); ++p) {
    const BudgetChoice& choice = choice_at(question, p, selection[p]);
    totals.value += choice.value;
    for (size_t k = 0; k < totals.costs.size(); ++k) totals.costs[k] += choice.costs[k];
  }
  return totals;
}

bool keeps(const BudgetQuestion& question, const SelectionTotals& totals) {
  for (size_t k = 0; k < totals.costs.size(); ++k)
    if (totals.costs[k] > question.limits[k].limit) return false;
  return true;
}

Relaxation relax(const BudgetQuestion& question, const std::vector<int64_t>& prices) {
  Relaxation relaxation;
  for (const BudgetPart& part : question.parts) {
    int64_t best = 0;
    BudgetWide least = priced(part.choices[0], prices);
    for (size_t c = 1; c < part.choices.size(); ++c) {
      const BudgetWide sum = priced(part.choices[c], prices);
      if (sum < least) least = sum, best = static_cast<int64_t>(c);
    }
    relaxation.bound += least;
    relaxation.selection.push_back(best);
  }
  for (size_t k = 0; k < prices.size(); ++k)
    relaxation.bound -=
        static_cast<BudgetWide>(prices[k]) * (question.limits[k].limit - question.limits[k].fixed);
  relaxation.totals = totals_of(question, relaxation.selection);
  return relaxation;
}

namespace {

/// A direction in the prices' space: up with one limit's, down with another's in equal worth.
struct Direction {
  size_t up;
  std::optional<size_t> down;
  int64_t up_step = 1, down_step = 0;
};

class PriceSearch {
 public:
  PriceSearch(const BudgetQuestion& question, const std::function<void(const Relaxation&)>& visit)
      : question_(question), visit_(visit), prices_(question.limits.size(), 0) {
    best_ = evaluate(prices_);
  }

  std::vector<int64_t> run() {
    constexpr int kRounds = 12;
    for (int round = 0; round < kRounds; ++round) {
      const BudgetWide before = best_;
      for (const Direction& direction : directions()) climb(direction);
      if (best_ - before <= (best_ < 0 ? -best_ : best_) >> 24) break;
    }
    return prices_;
  }

 private:
  BudgetWide evaluate(const std::vector<int64_t>& prices) {
    last_ = relax(question_, prices);
    visit_(last_);
    return last_.bound;
  }

  std::vector<Direction> directions() const {
    std::vector<Direction> all;
    const size_t limits = question_.limits.size();
    for (size_t k = 0; k < limits; ++k) all.push_back({k, {}, 1, 0});
    for (size_t j = 0; j < limits; ++j) {
      for (size_t k = 0; k < limits; ++k) {
        if (j == k || prices_[k] == 0) continue;
        // Steps whose worth, at the limits, is alike.
        const int64_t a = std::max<int64_t>(1, question_.limits[k].limit),
                      b = std::max<int64_t>(1, question_.limits[j].limit);
        const int64_t common = std::max<int64_t>(1, std::min(a, b));
        all.push_back({j, k, std::max<int64_t>(1, a / common), std::max<int64_t>(1, b / common)});
      }
    }
    return all;
  }

  /// The prices `t` steps on; none if one would leave [0, kMostPrice].
  std::optional<std::vector<int64_t>> moved(const Direction& d, int64_t t) const {
    std::vector<int64_t> prices = prices_;
    const BudgetWide up = prices[d.up] + static_cast<BudgetWide>(t) * d.up_step;
    if (up < 0 || up > kMostPrice) return {};
    prices[d.up] = static_cast<int64_t>(up);
    if (d.down) {
      const BudgetWide down = prices[*d.down] - static_cast<BudgetWide>(t) * d.down_step;
      if (down < 0 || down > kMostPrice) return {};
      prices[*d.down] = static_cast<int64_t>(down);
    }
    return prices;
  }

  /// Whether the bound still rises after `t` steps, by the subgradient there.
  bool rises(const Direction& d, int64_t t) {
    const auto prices = moved(d, t);
    if (!prices) return false;
    keep_if_better(*prices);
    const auto over = [&](size_t k) {
      return static_cast<BudgetWide>(last_.totals.costs[k]) - question_.limits[k].limit;
    };
    BudgetWide slope = over(d.up) * d.up_step;
    if (d.down) slope -= over(*d.down) * d.down_step;
    return slope > 0;
  }

  void keep_if_better(const std::vector<int64_t>& prices) {
    const BudgetWide bound = evaluate(prices);
    if (bound > best_) best_ = bound, found_ = prices;
  }

  /// Bisection for the top of a concave function of whole steps, forwards, or backwards where the price may
  /// fall.
  void climb(const Direction& d) {
    found_ = prices_;
    for (const int64_t sign : {int64_t{1}, int64_t{-1}}) {
      Direction way = d;
      way.up_step *= sign, way.down_step *= sign;
      if (!rises(way, 0) && !rises(way, 1)) continue;
      int64_t low = 0, high = 1;
      while (high < kMostPrice / 2 && rises(way, high)) low = high, high *= 2;
      while (high - low > std::max<int64_t>(1, low >> 30)) {
        const int64_t middle = low + (high - low) / 2;
        (rises(way, middle) ? low : high) = middle;
      }
    }
    prices_ = found_;
  }

  const BudgetQuestion& question_;
  const std::function<void(const Relaxation&)>& visit_;
  std::vector<int64_t> prices_, found_;
  Relaxation last_;
  BudgetWide best_ = 0;
};

/// How far sums are over their limits, each in 2^-20 of its limit.
int64_t excess_of(const BudgetQuestion& question, const SelectionTotals& totals) {
  BudgetWide sum = 0;
  for (size_t k = 0; k < totals.costs.size(); ++k) {
    const BudgetLimit& limit = question.limits[k];
    const int64_t over = totals.costs[k] - limit.limit;
    if (over > 0) sum += (static_cast<BudgetWide>(over) << 20) / std::max<int64_t>(1, limit.limit) + 1;
  }
  return static_cast<int64_t>(std::min<BudgetWide>(sum, int64_t{1} << 60));
}

SelectionTotals exchanged(const BudgetQuestion& question, SelectionTotals totals, size_t part, int64_t from,
                          int64_t to) {
  const BudgetChoice &old = choice_at(question, part, from), &fresh = choice_at(question, part, to);
  totals.value += fresh.value - old.value;
  for (size_t k = 0; k < totals.costs.size(); ++k) totals.costs[k] += fresh.costs[k] - old.costs[k];
  return totals;
}

/// Calls visit(part, choice, totals) for every selection that differs in one part.
template <class Visit>
void for_each_exchange(const BudgetQuestion& question, const Selection& selection,
                       const SelectionTotals& totals, const Visit& visit) {
  for (size_t p = 0; p < selection.size(); ++p) {
    for (size_t c = 0; c < question.parts[p].choices.size(); ++c) {
      const auto to = static_cast<int64_t>(c);
      if (to != selection[p]) visit(p, to, exchanged(question, totals, p, selection[p], to));
    }
  }
}

}  // namespace

std::vector<int64_t> best_prices(const BudgetQuestion& question,
                                 const std::function<void(const Relaxation&)>& visit) {
  return PriceSearch(question, visit).run();
}

std::optional<Selection> repaired(const BudgetQuestion& question, Selection selection) {
  SelectionTotals totals = totals_of(question, selection);
  for (int64_t over = excess_of(question, totals); over > 0;) {
    // The exchange that takes the most off for the value that it adds.
    std::optional<std::pair<size_t, int64_t>> best;
    BudgetWide best_added = 0, best_off = 1;
    for_each_exchange(question, selection, totals, [&](size_t part, int64_t to, const SelectionTotals& then) {
      const BudgetWide off = over - excess_of(question, then);
      const BudgetWide added = std::max<int64_t>(1, then.value - totals.value);
      if (off <= 0 || (best && added * best_off >= best_added * off)) return;
      best = {part, to}, best_added = added, best_off = off;
    });
    if (!best) return {};
    totals = exchanged(question, totals, best->first, selection[best->first], best->second);
    selection[best->first] = best->second;
    over = excess_of(question, totals);
  }
  return selection;
}

Selection improved(const BudgetQuestion& question, Selection selection) {
  for (SelectionTotals totals = totals_of(question, selection);;) {
    std::optional<std::pair<size_t, int64_t>> best;
    int64_t least = totals.value;
    for_each_exchange(question, selection, totals, [&](size_t part, int64_t to, const SelectionTotals& then) {
      if (then.value < least && keeps(question, then)) best = {part, to}, least = then.value;
    });
    if (!best) return selection;
    totals = exchanged(question, totals, best->first, selection[best->first], best->second);
    selection[best->first] = best->second;
  }
}

namespace {

/// A choice that may be part of a better selection, and how much it exceeds its part's best at the prices.
struct PricedChoice {
  int64_t choice, value;
  std::array<int64_t, kMostLimits> costs{};
  BudgetWide excess;
};

struct PartialSelection {
  int64_t value;
  std::array<int64_t, kMostLimits> costs{};
  BudgetWide excess;
  int32_t before;     ///< partial selection of the part before
  int32_t candidate;  ///< taken of this part
};

/// Exact dynamic programming over the parts, as long as nothing has to be cut.
class BudgetSearch {
 public:
  BudgetSearch(const BudgetQuestion& question, const std::vector<int64_t>& prices,
               std::optional<int64_t> below)
      : question_(question), limits_(question.limits.size()) {
    BudgetWide least = 0;
    int64_t selections = 1;
    for (const BudgetPart& part : question.parts) {
      candidates_.push_back(candidates_of(part, prices, least));
      selections =
          std::min<int64_t>(selections * static_cast<int64_t>(part.choices.size()), kFewSelections + 1);
    }
    most_kept_ = selections <= kFewSelections ? static_cast<size_t>(kFewSelections) : kMostKept;
    if (below) {
      // A better selection's priced sum exceeds `least` by at most this.
      room_ = (static_cast<BudgetWide>(*below - 1) << kPriceBits) - least;
      for (size_t k = 0; k < limits_; ++k)
        room_ += static_cast<BudgetWide>(prices[k]) * (question.limits[k].limit - question.limits[k].fixed);
      for (auto& list : candidates_)
        std::erase_if(list, [&](const PricedChoice& c) { return c.excess > room_; });
    }
    bounded_ = below.has_value();
    find_least_after();
  }

  SearchResult run() {
    SearchResult result;
    for (const auto& list : candidates_)
      if (list.empty()) return result;
    std::vector<std::vector<PartialSelection>> layers{{PartialSelection{0, {}, 0, 0, 0}}};
    for (size_t k = 0; k < limits_; ++k) layers[0][0].costs[k] = question_.limits[k].fixed;
    for (size_t p = 0; p < candidates_.size(); ++p) {
      layers.push_back(extend(layers.back(), p));
      if (layers.back().size() > most_kept_) {
        std::nth_element(layers.back().begin(),
                         layers.back().begin() + static_cast<std::ptrdiff_t>(most_kept_), layers.back().end(),
                         [](const auto& a, const auto& b) {
                           return std::tie(a.excess, a.value, a.before, a.candidate) <
                                  std::tie(b.excess, b.value, b.before, b.candidate);
                         });
        layers.back().resize(most_kept_);
        result.complete = false;
      }
      if (layers.back().empty()) return result;
    }
    result.selection = trace(layers);
    return result;
  }

 private:
  static std::vector<PricedChoice> candidates_of(const BudgetPart& part, const std::vector<int64_t>& prices,
                                                 BudgetWide& least_sum) {
    std::vector<PricedChoice> list;
    for (size_t c = 0; c < part.choices.size(); ++c) {
      PricedChoice candidate{
          static_cast<int64_t>(c), part.choices[c].value, {}, priced(part.choices[c], prices)};
      std::copy(part.choices[c].costs.begin(), part.choices[c].costs.end(), candidate.costs.begin());
      list.push_back(candidate);
    }
    BudgetWide least = list.front().excess;
    for (const PricedChoice& c : list) least = std::min(least, c.excess);
    for (PricedChoice& c : list) c.excess -= least;
    least_sum += least;
    return list;
  }

  void find_least_after() {
    least_after_.assign(candidates_.size() + 1, {});
    for (size_t p = candidates_.size(); p-- > 0;) {
      for (size_t k = 0; k < limits_ && !candidates_[p].empty(); ++k) {
        int64_t least = candidates_[p].front().costs[k];
        for (const PricedChoice& c : candidates_[p]) least = std::min(least, c.costs[k]);
        least_after_[p][k] = least_after_[p + 1][k] + least;
      }
    }
  }

  bool may_fit(const PartialSelection& state, size_t parts) const {
    for (size_t k = 0; k < limits_; ++k)
      if (state.costs[k] + least_after_[parts][k] > question_.limits[k].limit) return false;
    return true;
  }

  std::vector<PartialSelection> extend(const std::vector<PartialSelection>& states, size_t p) const {
    std::vector<PartialSelection> next;
    for (size_t s = 0; s < states.size(); ++s) {
      for (size_t c = 0; c < candidates_[p].size(); ++c) {
        const PricedChoice& candidate = candidates_[p][c];
        PartialSelection state = states[s];
        state.value += candidate.value, state.excess += candidate.excess;
        for (size_t k = 0; k < limits_; ++k) state.costs[k] += candidate.costs[k];
        state.before = static_cast<int32_t>(s), state.candidate = static_cast<int32_t>(c);
        if ((!bounded_ || state.excess <= room_) && may_fit(state, p + 1)) next.push_back(state);
      }
    }
    return undominated_states(std::move(next));
  }

  /// Without those that another beats or equals in everything, as far as the last few of the better ones
  /// tell.
  std::vector<PartialSelection> undominated_states(std::vector<PartialSelection> states) const {
    constexpr size_t kCompared = 48;
    std::sort(states.begin(), states.end(), [](const auto& a, const auto& b) {
      return std::tie(a.value, a.costs, a.before, a.candidate) <
             std::tie(b.value, b.costs, b.before, b.candidate);
    });
    std::vector<PartialSelection> kept;
    for (const PartialSelection& state : states) {
      const auto beats = [&](const PartialSelection& other) {
        for (size_t k = 0; k < limits_; ++k)
          if (other.costs[k] > state.costs[k]) return false;
        return true;
      };
      const size_t compared = std::min(kCompared, kept.size());
      if (std::none_of(kept.end() - static_cast<std::ptrdiff_t>(compared), kept.end(), beats))
        kept.push_back(state);
    }
    return kept;
  }

  Selection trace(const std::vector<std::vector<PartialSelection>>& layers) const {
    const PartialSelection* state = &*std::min_element(
        layers.back().begin(), layers.back().end(),
        [](const auto& a, const auto& b) { return std::tie(a.value, a.costs) < std::tie(b.value, b.costs); });
    Selection selection(candidates_.size());
    for (size_t p = candidates_.size(); p-- > 0;) {
      selection[p] = candidates_[p][static_cast<size_t>(state->candidate)].choice;
      state = &layers[p][static_cast<size_t>(state->before)];
    }
    return selection;
  }

  const BudgetQuestion& question_;
  size_t limits_;
  std::vector<std::vector<PricedChoice>> candidates_;
  std::vector<std::array<int64_t, kMostLimits>> least_after_;
  BudgetWide room_ = 0;
  bool bounded_ = false;
  size_t most_kept_ = 0;
};

}  // namespace

SearchResult search_below(const BudgetQuestion& question, const std::vector<int64_t>& prices,
                          std::optional<int64_t> below) {
  return BudgetSearch(question, prices, below).run();
}

}  // namespace qtf::adapt
