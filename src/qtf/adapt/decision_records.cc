#include "qtf/adapt/decision_records.h"

#include <algorithm>

#include "qtf/adapt/budget_judgement.h"
#include "qtf/audit/fields.h"
#include "qtf/base/error.h"

namespace qtf::adapt {

namespace {

using audit::array_field;
using audit::flag_field;
using audit::flag_text;
using audit::integer_field;
using audit::text_field;
using Json = nlohmann::json;

std::string decimal(int64_t number) {
  return std::to_string(number);
}

// ---- allocation ----

/// Choices as three lists, which are much shorter than objects.
Json recorded_part(const SizedPart& part) {
  Json names = Json::array(), costs = Json::array(), losses = Json::array();
  for (const SizeChoice& choice : part.choices) {
    names.push_back(choice.name);
    costs.push_back(decimal(choice.cost));
    losses.push_back(decimal(choice.loss));
  }
  return {{"map", part.name}, {"sizes", names}, {"costs", costs}, {"losses", losses}};
}

SizedPart part_field(const Json& value) {
  SizedPart part{text_field(value, "map"), {}};
  const Json &names = array_field(value, "sizes"), &costs = array_field(value, "costs"),
             &losses = array_field(value, "losses");
  if (names.size() != costs.size() || names.size() != losses.size())
    throw_input_error("audit record", "{} has {} sizes, {} costs and {} losses", part.name, names.size(),
                      costs.size(), losses.size());
  for (size_t i = 0; i < names.size(); ++i) {
    if (!names[i].is_string()) throw_input_error("audit record", "a size of {} has no name", part.name);
    part.choices.push_back({names[i], audit::parse_integer(costs[i]), audit::parse_integer(losses[i])});
  }
  return part;
}

Json allocation_question(const AllocationQuestion& question) {
  Json parts = Json::array();
  for (const SizedPart& part : question.parts) parts.push_back(recorded_part(part));
  return {
      {"budget", decimal(question.budget)}, {"fixed_cost", decimal(question.fixed_cost)}, {"parts", parts}};
}

Json recorded_answer(const Allocation& a) {
  Json chosen = Json::array();
  for (const int64_t choice : a.chosen) chosen.push_back(decimal(choice));
  return {{"chosen", chosen},
          {"cost", decimal(a.cost)},
          {"loss", decimal(a.loss)},
          {"bound", decimal(a.bound)},
          {"optimal", flag_text(a.optimal)},
          {"loss_step", decimal(a.loss_step)},
          {"cost_step", decimal(a.cost_step)}};
}

Json decide_allocation(const Json& value) {
  AllocationQuestion question{integer_field(value, "budget"), integer_field(value, "fixed_cost"), {}};
  for (const Json& part : array_field(value, "parts")) question.parts.push_back(part_field(part));
  return recorded_answer(allocate(question));
}

// ---- execution ----

Json recorded_times(const MeasuredTimes& times) {
  Json list = Json::array();
  for (const MeasuredTime& time : times) list.push_back({decimal(time.median_ns), decimal(time.spread_ns)});
  return list;
}

MeasuredTimes times_field(const Json& value, const char* key) {
  const Json& list = array_field(value, key);
  MeasuredTimes times;
  if (list.size() != times.size())
    throw_input_error("audit record", "'{}' has {} times, not {}", key, list.size(), times.size());
  for (size_t i = 0; i < times.size(); ++i) {
    if (!list[i].is_array() || list[i].size() != 2)
      throw_input_error("audit record", "a time of '{}' is no pair of median and spread", key);
    times[i] = {audit::parse_integer(list[i][0]), audit::parse_integer(list[i][1])};
  }
  return times;
}

Json recorded_answer(const ExecutionChoice& choice) {
  return {{"chosen", choice.merged ? "merged" : "factors"}};
}

Json decide_execution(const Json& value) {
  ExecutionQuestion question{text_field(value, "map"), text_field(value, "shape"),
                             static_cast<int>(integer_field(value, "level")),
                             times_field(value, "factors_ns"), times_field(value, "merged_ns")};
  return recorded_answer(choose_execution(question));
}

// ---- budget ----

Json recorded_list(std::span<const int64_t> numbers) {
  Json list = Json::array();
  for (const int64_t number : numbers) list.push_back(decimal(number));
  return list;
}

std::vector<int64_t> integers(const Json& value) {
  if (!value.is_array()) throw_input_error("audit record", "expected a list of numbers");
  std::vector<int64_t> numbers;
  for (const Json& number : value) numbers.push_back(audit::parse_integer(number));
  return numbers;
}

/// As for allocations, with a list of costs a limit.
Json recorded_part(const BudgetPart& part, size_t limits) {
  Json names = Json::array(), values = Json::array(), costs = Json::array();
  for (const BudgetChoice& choice : part.choices) {
    names.push_back(choice.name);
    values.push_back(decimal(choice.value));
  }
  for (size_t k = 0; k < limits; ++k) {
    costs.push_back(Json::array());
    for (const BudgetChoice& choice : part.choices) costs.back().push_back(decimal(choice.costs[k]));
  }
  return {{"map", part.name}, {"sizes", names}, {"values", values}, {"costs", costs}};
}

BudgetPart budget_part_field(const Json& value, size_t limits) {
  BudgetPart part{text_field(value, "map"), {}};
  const Json &names = array_field(value, "sizes"), &costs = array_field(value, "costs");
  const std::vector<int64_t> values = integers(array_field(value, "values"));
  if (names.size() != values.size() || costs.size() != limits)
    throw_input_error("audit record", "{} has {} sizes, {} values and costs of {} limits, not {}", part.name,
                      names.size(), values.size(), costs.size(), limits);
  for (size_t i = 0; i < names.size(); ++i) {
    if (!names[i].is_string()) throw_input_error("audit record", "a size of {} has no name", part.name);
    part.choices.push_back({names[i], values[i], {}});
  }
  for (const Json& of_limit : costs) {
    const std::vector<int64_t> numbers = integers(of_limit);
    if (numbers.size() != values.size())
      throw_input_error("audit record", "{} has {} costs of {} sizes", part.name, numbers.size(),
                        values.size());
    for (size_t i = 0; i < numbers.size(); ++i) part.choices[i].costs.push_back(numbers[i]);
  }
  return part;
}

Json recorded_question(const BudgetQuestion& question) {
  Json limits = Json::array(), parts = Json::array();
  for (const BudgetLimit& limit : question.limits)
    limits.push_back(
        {{"limit", limit.name}, {"at_most", decimal(limit.limit)}, {"fixed", decimal(limit.fixed)}});
  for (const BudgetPart& part : question.parts) parts.push_back(recorded_part(part, question.limits.size()));
  return {{"value", question.value}, {"limits", limits}, {"parts", parts}};
}

Json recorded_answer(const BudgetAnswer& a) {
  Json nearest = Json::array();
  for (const NearestLimit& near : a.nearest)
    nearest.push_back({{"limit", a.question.limits[near.limit].name}, {"at_least", decimal(near.value)}});
  return {{"feasible", flag_text(a.feasible)},
          {"chosen", recorded_list(a.chosen)},
          {"value", decimal(a.value)},
          {"totals", recorded_list(a.totals)},
          {"bound", decimal(a.bound)},
          {"optimal", flag_text(a.optimal)},
          {"prices_2e-32", recorded_list(a.prices)},
          {"nearest", nearest}};
}

Json decide_budget(const Json& value) {
  BudgetQuestion question{text_field(value, "value"), {}, {}};
  for (const Json& limit : array_field(value, "limits"))
    question.limits.push_back(
        {text_field(limit, "limit"), integer_field(limit, "at_most"), integer_field(limit, "fixed")});
  for (const Json& part : array_field(value, "parts"))
    question.parts.push_back(budget_part_field(part, question.limits.size()));
  return recorded_answer(solve_budgets(question));
}

// ---- route ----

Json recorded_answer(const RouteDecision& d) {
  return {{"above_threshold", flag_text(d.above_threshold)},
          {"within_quota", flag_text(d.within_quota)},
          {"routed", flag_text(d.routed)}};
}

Json decide_routing(const Json& value) {
  return recorded_answer(decide_route({integer_field(value, "position"),
                                       integer_field(value, "routed_before"), integer_field(value, "score"),
                                       integer_field(value, "threshold"), integer_field(value, "ppm")}));
}

// ---- rank_thresholds and rank ----

std::vector<int64_t> list_field(const Json& value, const char* key) {
  return integers(array_field(value, key));
}

Json recorded_answer(const RankThresholds& solved) {
  return {{"alpha", decimal(solved.alpha)},
          {"shift", decimal(solved.shift)},
          {"thresholds", recorded_list(solved.thresholds)},
          {"mean", decimal(solved.mean)}};
}

Json decide_thresholds(const Json& value) {
  return recorded_answer(solve_thresholds(
      {integer_field(value, "mean"), list_field(value, "places"), integer_field(value, "alpha")}));
}

RankSignal signal_field(const Json& value) {
  const std::string& name = text_field(value, "policy");
  for (const RankPolicyInfo& policy : rank_policies())
    if (policy.name == name) return policy.signal;
  throw_input_error("audit record", "'{}' is no rank policy", name);
}

/// A whole number from `least` to kMostLevels.
int level_field(const Json& value, const char* key, int least) {
  const int64_t level = integer_field(value, key);
  if (level < least || level > kMostLevels)
    throw_input_error("audit record", "the field '{}' is {}, not {} to {}", key, level, least, kMostLevels);
  return static_cast<int>(level);
}

Json decide_rank(const Json& value) {
  RankQuestion question;
  question.signal = signal_field(value);
  question.position = integer_field(value, "position");
  question.layer = integer_field(value, "layer");
  question.entropy = integer_field(value, "entropy");
  question.standing = integer_field(value, "standing");
  question.levels = level_field(value, "levels", 1);
  question.fixed_level = level_field(value, "fixed_level", 0);
  question.hysteresis = integer_field(value, "hysteresis");
  question.previous = level_field(value, "previous", 0);
  question.seed = static_cast<uint64_t>(integer_field(value, "seed"));
  const std::vector<int64_t> thresholds = list_field(value, "thresholds");
  if (thresholds.size() != question.thresholds.size())
    throw_input_error("audit record", "{} thresholds are there, not {}", thresholds.size(),
                      question.thresholds.size());
  std::copy(thresholds.begin(), thresholds.end(), question.thresholds.begin());
  return {{"level", decimal(decide_level(question).level)}};
}

Json recorded_answer(const LatencyDecision& d) {
  return {{"mean", decimal(d.mean)}, {"too_slow", flag_text(d.too_slow)}};
}

/// A time, or a mean from 0 to kUnit: so that no product of them leaves 64 bits.
int64_t bounded_field(const Json& value, const char* key, int64_t most) {
  const int64_t number = integer_field(value, key);
  if (number < 0 || number > most)
    throw_input_error("audit record", "the field '{}' is {}, not 0 to {}", key, number, most);
  return number;
}

Json decide_mean_rank(const Json& value) {
  constexpr int64_t kMost = int64_t{1} << 42;  // more than an hour, or than a kilojoule
  const bool energy = value.contains("measured_nj");
  return recorded_answer(
      decide_mean({energy ? RunBudget::energy : RunBudget::time, integer_field(value, "token"),
                   bounded_field(value, energy ? "measured_nj" : "measured_ns", kMost),
                   bounded_field(value, energy ? "budget_nj" : "budget_ns", kMost),
                   bounded_field(value, "mean", kUnit), bounded_field(value, "asked", kUnit)}));
}

}  // namespace

audit::Decision record(const LatencyDecision& d) {
  const LatencyQuestion& q = d.question;
  const bool time = q.budget_of == RunBudget::time;
  return {"mean_rank",
          {{"token", decimal(q.token)},
           {time ? "measured_ns" : "measured_nj", decimal(q.measured)},
           {time ? "budget_ns" : "budget_nj", decimal(q.budget)},
           {"mean", decimal(q.mean)},
           {"asked", decimal(q.asked)}},
          recorded_answer(d)};
}

audit::Decision record(const RankThresholds& solved) {
  return {"rank_thresholds",
          {{"mean", decimal(solved.goal.mean)},
           {"places", recorded_list(solved.goal.places)},
           {"alpha", decimal(solved.goal.alpha)}},
          recorded_answer(solved)};
}

audit::Decision record(const RankDecision& d) {
  const RankQuestion& q = d.question;
  return {"rank",
          {{"policy", info(q.signal).name},
           {"position", decimal(q.position)},
           {"layer", decimal(q.layer)},
           {"entropy", decimal(q.entropy)},
           {"standing", decimal(q.standing)},
           {"levels", decimal(q.levels)},
           {"fixed_level", decimal(q.fixed_level)},
           {"thresholds", recorded_list(q.thresholds)},
           {"hysteresis", decimal(q.hysteresis)},
           {"previous", decimal(q.previous)},
           {"seed", decimal(static_cast<int64_t>(q.seed))}},
          {{"level", decimal(d.level)}}};
}

audit::Decision record(const Allocation& allocation) {
  return {"allocation", allocation_question(allocation.question), recorded_answer(allocation)};
}

audit::Decision record(const BudgetAnswer& answer) {
  return {"budget", recorded_question(answer.question), recorded_answer(answer)};
}

audit::Decision record(const ExecutionChoice& choice) {
  const ExecutionQuestion& q = choice.question;
  return {"execution",
          {{"map", q.map},
           {"shape", q.shape},
           {"level", decimal(q.level)},
           {"factors_ns", recorded_times(q.factors)},
           {"merged_ns", recorded_times(q.merged)}},
          recorded_answer(choice)};
}

audit::Decision record(const RouteDecision& d) {
  const RouteQuestion& q = d.question;
  return {"route",
          {{"position", decimal(q.position)},
           {"routed_before", decimal(q.routed_before)},
           {"score", decimal(q.score)},
           {"threshold", decimal(q.threshold)},
           {"ppm", decimal(q.ppm)}},
          recorded_answer(d)};
}

std::span<const audit::DecisionKind> decision_kinds() {
  static constexpr audit::DecisionKind kKinds[] = {
      {"allocation", "the size of every map within a budget of parameters", decide_allocation},
      {"execution", "whether a map runs as its factors or as the merged matrix", decide_execution},
      {"route", "whether a token passes the quantum layer", decide_routing},
      {"rank_thresholds", "where a layer's levels begin, for a mean rank", decide_thresholds},
      {"rank", "the level that a token takes in a layer", decide_rank},
      {"mean_rank", "the mean rank that follows measured times or energies of tokens", decide_mean_rank},
      {"budget", "the size of every map within several budgets at once", decide_budget},
      {"budget_measurement", "whether a measured query keeps its budgets", decide_judgement},
      {"loss_scale", "how much predicted losses are scaled by what two models lost", decide_loss_scale},
  };
  return kKinds;
}

}  // namespace qtf::adapt
