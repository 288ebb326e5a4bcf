#include "qtf/adapt/rank_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/base/parse.h"
#include "qtf/base/random.h"

namespace qtf::adapt {

namespace {

constexpr const char* kRanksPlace = "rank-policy";

using nlohmann::ordered_json;

ordered_json texts(const std::vector<int64_t>& numbers) {
  ordered_json list = ordered_json::array();
  for (const int64_t number : numbers) list.push_back(std::to_string(number));
  return list;
}

}  // namespace

const std::vector<RankPolicyInfo>& rank_policies() {
  static const std::vector<RankPolicyInfo> table = {
      {RankSignal::fixed, "fixed:K", "every token takes level K", false},
      {RankSignal::entropy, "entropy", "the more places a token attends to, the larger its ranks", true},
      {RankSignal::random, "random", "any tokens, as many at each level", false},
      {RankSignal::gate, "gate", "the more a learned gate expects a token to lose, the larger its ranks",
       true, RankSource::hidden},
      {RankSignal::output, "output", "the less sure the model was of what comes, the larger its ranks", true,
       RankSource::output},
      {RankSignal::surprise, "surprise", "the less a token was expected, the larger its ranks", true,
       RankSource::output},
      {RankSignal::circuit, "circuit", "the more entangled a token's circuit state, the larger its ranks",
       true, RankSource::circuit},
  };
  return table;
}

const RankPolicyInfo& info(RankSignal signal) {
  return rank_policies()[static_cast<size_t>(signal)];
}

RankSignal parse_calibrated_signal(std::string_view name) {
  for (const RankPolicyInfo& policy : rank_policies())
    if (policy.calibrated && policy.name == name) return policy.signal;
  throw_input_error(kRanksPlace, "no signal that is calibrated is called '{}'; choose one of {}", name,
                    calibrated_signals());
}

std::string calibrated_signals() {
  std::string names;
  for (const RankPolicyInfo& policy : rank_policies())
    if (policy.calibrated) names += (names.empty() ? "" : ", ") + std::string(policy.name);
  return names;
}

RankPolicyChoice parse_rank_policy(std::string_view text, int levels) {
  constexpr std::string_view kFixed = "fixed:";
  std::vector<std::string_view> names;
  for (const RankPolicyInfo& policy : rank_policies()) {
    if (policy.signal != RankSignal::fixed && policy.name == text) return {policy.signal, 0};
    names.push_back(policy.name);
  }
  if (!text.starts_with(kFixed)) {
    throw_input_error(kRanksPlace, "unknown policy '{}'{}; choose one of {}", text, did_you_mean(text, names),
                      fmt::join(names, ", "));
  }
  const std::string_view digits = text.substr(kFixed.size());
  int level = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), level);
  if (error != std::errc() || end != digits.data() + digits.size() || level < 1 || level > levels)
    throw_input_error(kRanksPlace, "'{}': the level must be 1 (the smallest) to {} (the whole)", text,
                      levels);
  return {RankSignal::fixed, level};
}

namespace {

LevelRule rule_of(const RankQuestion& q) {
  return {q.levels, q.thresholds.data(), q.hysteresis};
}

bool takes_all(const RankQuestion& q) {
  return q.position == 0 && q.signal != RankSignal::fixed;
}

}  // namespace

RankDecision decide_level(const RankQuestion& q) {
  if (q.signal == RankSignal::fixed) return {q, q.fixed_level};
  if (takes_all(q)) return {q, q.levels};
  return {q, level_at(rule_of(q), q.standing, q.previous)};
}

int64_t random_standing(uint64_t seed, int64_t layer, int64_t position, int64_t entropy) {
  const Random of_layer{seed, 0x4A2D0 + static_cast<uint64_t>(layer)};
  const Random of_token{of_layer.bits(static_cast<uint64_t>(position)), static_cast<uint64_t>(entropy)};
  return static_cast<int64_t>(of_token.below(0, static_cast<uint64_t>(kUnit)));
}

nlohmann::ordered_json to_json(const RankDecision& d) {
  const RankQuestion& q = d.question;
  ordered_json json = {{"decision", "rank"},
                       {"policy", std::string(info(q.signal).name)},
                       {"position", std::to_string(q.position)},
                       {"layer", std::to_string(q.layer)},
                       {"entropy", std::to_string(q.entropy)},
                       {"standing", std::to_string(q.standing)},
                       {"hysteresis", std::to_string(q.hysteresis)},
                       {"previous", std::to_string(q.previous)},
                       {"seed", std::to_string(q.seed)},
                       {"level", std::to_string(d.level)}};
  ordered_json rejected = ordered_json::array();
  for (int level = 1; level <= q.levels; ++level) {
    if (level == d.level) continue;
    ordered_json other = {{"level", std::to_string(level)}};
    if (q.signal != RankSignal::fixed && !takes_all(q)) {
      if (level > 1) other["from"] = std::to_string(bound_above(rule_of(q), level - 1, q.previous));
      if (level < q.levels) other["below"] = std::to_string(bound_above(rule_of(q), level, q.previous));
    }
    rejected.push_back(other);
  }
  json["rejected"] = rejected;
  return json;
}

namespace {

void check_goal(const RankGoal& goal) {
  if (goal.mean <= 0 || goal.mean >= kUnit) {
    throw_input_error(kRanksPlace,
                      "the mean rank must be above 0 and below 1, a share of the range between the smallest "
                      "and the largest level, got {}",
                      static_cast<double>(goal.mean) / static_cast<double>(kUnit));
  }
  if (goal.alpha < 0) throw_input_error(kRanksPlace, "alpha must be 0 or more, got {}", goal.alpha);
  const std::vector<int64_t>& places = goal.places;
  if (places.size() < 2 || places.size() > kMostLevels)
    throw_input_error(kRanksPlace, "a policy picks among 2 to {} levels, got {}", kMostLevels, places.size());
  if (places.front() != 0 || places.back() != kUnit || !std::is_sorted(places.begin(), places.end()))
    throw_input_error(kRanksPlace, "the levels' places must go from 0 to {} in order, got {}", kUnit,
                      fmt::join(places, ", "));
}

std::vector<int64_t> shifted(std::vector<int64_t> thresholds, int64_t shift) {
  for (int64_t& t : thresholds) t += shift;
  return thresholds;
}

}  // namespace

int64_t mean_place(const std::vector<int64_t>& places, const std::vector<int64_t>& thresholds) {
  int64_t sum = places.front() * kUnit;
  for (size_t k = 0; k < thresholds.size(); ++k)
    sum += (places[k + 1] - places[k]) * (kUnit - std::clamp<int64_t>(thresholds[k], 0, kUnit));
  return sum / kUnit;
}

RankThresholds solve_thresholds(const RankGoal& goal) {
  check_goal(goal);
  RankThresholds solved{.goal = goal, .thresholds = {}};
  solved.alpha = goal.alpha               ? goal.alpha
                 : 2 * goal.mean <= kUnit ? 2 * goal.mean
                                          : kUnit * kUnit / (2 * (kUnit - goal.mean));
  std::vector<int64_t> middles;
  for (size_t k = 0; k + 1 < goal.places.size(); ++k)
    middles.push_back((goal.places[k] + goal.places[k + 1]) / 2 * kUnit / solved.alpha);
  // The smallest shift whose mean is at most m; the mean falls from 1 to 0 between these.
  int64_t low = -middles.back(), high = kUnit - middles.front();
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (mean_place(goal.places, shifted(middles, middle)) <= goal.mean) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  solved.shift = low;
  solved.thresholds = shifted(middles, low);
  solved.mean = mean_place(goal.places, solved.thresholds);
  return solved;
}

nlohmann::ordered_json to_json(const RankThresholds& s) {
  return {{"decision", "rank_thresholds"},         {"mean", std::to_string(s.goal.mean)},
          {"places", texts(s.goal.places)},        {"alpha", std::to_string(s.alpha)},
          {"shift", std::to_string(s.shift)},      {"thresholds", texts(s.thresholds)},
          {"mean_reached", std::to_string(s.mean)}};
}

}  // namespace qtf::adapt
