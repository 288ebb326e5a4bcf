// The budgets' subjects: the sizes that keep several budgets at once, or why none do, and whether what was
// measured keeps them.
#include <fmt/format.h>

#include <algorithm>

#include "qtf/audit/fields.h"
#include "qtf/base/error.h"
#include "qtf/base/quantity.h"
#include "qtf/explain/subject_kinds.h"

namespace qtf::explain {

namespace {

using audit::array_field;
using audit::integer_field;
using audit::text_field;
using Json = nlohmann::json;

struct LimitView {
  std::string name;
  int64_t at_most = 0;
  size_t index = 0;
  std::string path() const { return fmt::format("/limits/{}/at_most", index); }
  std::string text() const { return limit_text(name, at_most); }
};

LimitView limit_of(const Json& question, size_t index) {
  const Json& limit = array_field(question, "limits").at(index);
  return {text_field(limit, "limit"), integer_field(limit, "at_most"), index};
}

/// The limit whose price is highest for what of it is used; nothing if none has a price.
std::optional<size_t> binding_limit(const Json& answer) {
  std::optional<size_t> binding;
  double most = 0;
  const Json &prices = array_field(answer, "prices_2e-32"), &totals = array_field(answer, "totals");
  for (size_t k = 0; k < prices.size(); ++k) {
    const double worth = static_cast<double>(audit::parse_integer(prices[k])) *
                         static_cast<double>(audit::parse_integer(totals.at(k)));
    if (worth > most) most = worth, binding = k;
  }
  return binding;
}

Subject refused_subject(const audit::Decision& d) {
  Subject subject{.kind = d.kind, .title = "Budget that cannot be kept", .facts = {}, .reasons = {}};
  const Json& nearest = array_field(d.answer, "nearest");
  if (nearest.empty()) throw_input_error("explain", "a refused budget names no nearest");
  Json enough = d.question;
  std::string all;
  for (const Json& near : nearest) {
    const std::string& name = text_field(near, "limit");
    for (size_t k = 0; k < d.question.at("limits").size(); ++k)
      if (limit_of(d.question, k).name == name)
        enough = moved(enough, limit_of(d.question, k).path(), integer_field(near, "at_least"));
    all += (all.empty() ? "" : " and ") + limit_text(name, integer_field(near, "at_least"));
  }
  const std::string& binding = text_field(nearest[0], "limit");
  size_t index = 0;
  while (limit_of(d.question, index).name != binding) ++index;
  subject.facts = {{"budget", limit_of(d.question, index).text(), {"budget"}}, {"nearest", all, {"nearest"}}};
  subject.reasons.push_back(
      {.id = "budget_too_small",
       .meaning = "the budget cannot be kept because even the smallest sizes of all maps need more",
       .text = "The budget of {budget} is not kept by any choice, because even the smallest sizes of all "
               "maps need "
               "more; the nearest is {nearest}.",
       .facts = {"budget", "nearest"},
       .needs = {"budget", "nearest"},
       .ordered = {"budget", "nearest"},
       .words = {"all", "smallest", "more", "need", "even"},
       .negated = {"kept"},
       .causal = true,
       .counterfactual = Counterfactual{"the budget at the nearest", enough, "/feasible"}});
  return subject;
}

Subject kept_subject(const audit::Decision& d) {
  const Json& q = d.question;
  const std::string& value = text_field(q, "value");
  const int64_t total = integer_field(d.answer, "value");
  Subject subject{.kind = d.kind, .title = "Budget of the whole model", .facts = {}, .reasons = {}};
  subject.facts = {
      {"maps", grouped(static_cast<int64_t>(array_field(q, "parts").size())) + " maps", {"over"}},
      {"value", limit_text(value, total), {"total", "kept"}},
      {"bound", limit_text(value, integer_field(d.answer, "bound")), {"bound"}}};
  const auto binding = binding_limit(d.answer);
  if (!binding) {
    subject.reasons.push_back({.id = "no_budget_binds",
                               .meaning = "the sizes of all maps; no budget binds",
                               .text =
                                   "The sizes were chosen over {maps}, and no budget binds: the predicted "
                                   "total is {value}.",
                               .facts = {"maps", "value", "bound"},
                               .needs = {"value"},
                               .ordered = {},
                               .words = {"budget", "binds"},
                               .negated = {"binds"}});
    return subject;
  }
  const LimitView limit = limit_of(q, *binding);
  const int64_t used = audit::parse_integer(array_field(d.answer, "totals").at(*binding));
  subject.facts.push_back({"budget", limit.text(), {"budget"}});
  subject.facts.push_back({"used", limit_text(limit.name, used), {"use", "uses", "take"}});
  subject.reasons.push_back(
      {.id = "least_within_budgets",
       .meaning =
           "the sizes of all maps were chosen because their predicted total is the least within the budgets, "
           "of which this one binds",
       .text = "The sizes were chosen over {maps} because their predicted total, {value}, is the least "
               "within the "
               "budget of {budget}, of which they use {used}; no choice has a total below the bound {bound}.",
       .facts = {"maps", "value", "bound", "budget", "used"},
       .needs = {"value", "budget"},
       .ordered = {"value", "bound"},
       .words = {"least", "within", "binds", "below"},
       .negated = {"choice"},
       .causal = true,
       .counterfactual = Counterfactual{"the budget just below what is used",
                                        moved(q, limit.path(), used - 1), "/chosen"}});
  return subject;
}

/// The smallest growth of a limit, found by halving, after which a part takes a size of less value; nothing
/// if none tried does.
std::optional<int64_t> growth_margin(const audit::Decision& d, const LimitView& limit, size_t part,
                                     const audit::DecisionKind& kind) {
  const std::vector<int64_t> values = [&] {
    std::vector<int64_t> list;
    for (const Json& text : array_field(d.question.at("parts").at(part), "values"))
      list.push_back(audit::parse_integer(text));
    return list;
  }();
  const auto chosen_at = [&](const Json& answer) {
    return static_cast<size_t>(audit::parse_integer(array_field(answer, "chosen").at(part)));
  };
  const int64_t before = values.at(chosen_at(d.answer));
  const auto grows = [&](int64_t more) {
    return values.at(chosen_at(kind.decide(moved(d.question, limit.path(), limit.at_most + more)))) < before;
  };
  int64_t enough = 1;
  for (const Json& cost : d.question.at("parts").at(part).at("costs").at(limit.index))
    enough = std::max(enough, audit::parse_integer(cost));
  constexpr int kDoublings = 6;
  for (int i = 0; !grows(enough); ++i, enough *= 2)
    if (i == kDoublings) return {};
  for (int64_t none = 0; enough - none > 1;) {
    const int64_t middle = none + (enough - none) / 2;
    (grows(middle) ? enough : none) = middle;
  }
  return enough;
}

Subject map_subject(const audit::Decision& d, size_t part, const audit::DecisionKind& kind) {
  const Json& of = d.question.at("parts").at(part);
  const auto name_of = [&](const Json& answer) {
    return array_field(of, "sizes")
        .at(static_cast<size_t>(audit::parse_integer(array_field(answer, "chosen").at(part))))
        .get<std::string>();
  };
  const auto chosen = static_cast<size_t>(audit::parse_integer(array_field(d.answer, "chosen").at(part)));
  Subject subject{
      .kind = d.kind,
      .title = fmt::format("Budget: {}", text_field(of, "map")),
      .facts = {{"map", text_field(of, "map"), {}}, {"size", name_of(d.answer), {"size", "at", "keeps"}}},
      .reasons = {}};
  subject.facts.push_back(
      {"value",
       limit_text(text_field(d.question, "value"), audit::parse_integer(of.at("values").at(chosen))),
       {"predicted"}});
  const auto binding = binding_limit(d.answer);
  const LimitView limit = binding ? limit_of(d.question, *binding) : LimitView{};
  const auto margin = binding ? growth_margin(d, limit, part, kind) : std::nullopt;
  if (!margin) {
    subject.reasons.push_back({.id = "size_unbound",
                               .meaning = "the size of the map, which no larger budget tried would change",
                               .text = "{map} keeps {size}, for which is predicted {value}.",
                               .facts = {"map", "size", "value"},
                               .needs = {"map", "size"},
                               .ordered = {}});
    return subject;
  }
  const Json grown = moved(d.question, limit.path(), limit.at_most + *margin);
  subject.facts.push_back({"budget", limit.text(), {"budget"}});
  subject.facts.push_back({"margin", limit_text(limit.name, *margin) + " more", {"with"}});
  subject.facts.push_back({"larger", name_of(kind.decide(grown)), {"take", "takes", "become"}});
  subject.reasons.push_back({.id = "budget_binds_map",
                             .meaning = "the map stays at its size because the budget binds; with the margin "
                                        "more it would take a larger one",
                             .text = "{map} stays at {size}, for which is predicted {value}, because the "
                                     "budget of {budget} binds: with "
                                     "{margin} it would take {larger}.",
                             .facts = {"map", "size", "value", "budget", "margin", "larger"},
                             .needs = {"size", "budget", "margin"},
                             .ordered = {"margin", "larger"},
                             .words = {"binds", "would", "larger", "full", "within"},
                             .causal = true,
                             .counterfactual = Counterfactual{"the budget larger by the margin", grown,
                                                              fmt::format("/chosen/{}", part)}});
  return subject;
}

/// One budget of a measured query.
struct Judged {
  std::string_view id;
  const char *budget, *measured, *name;
};
constexpr Judged kJudged[] = {{"time", "latency_ns", "p95_ns", "time"},
                              {"energy", "energy_nj", "measured_nj", "energy"}};

std::string budget_fact(const Judged& row) {
  return std::string(row.id) + "_budget";
}

int64_t largest_kept(int64_t budget, int64_t tolerance_ppm) {
  __extension__ using Wide = __int128;
  return static_cast<int64_t>(Wide{budget} * tolerance_ppm / 1'000'000);
}

/// What may be used beyond a budget, because two measurements differ.
std::string allowance(int64_t tolerance_ppm) {
  if (tolerance_ppm <= 1'000'000) return {};
  return fmt::format(" and {}.{} % of it", (tolerance_ppm - 1'000'000) / 10'000,
                     (tolerance_ppm - 1'000'000) / 1000 % 10);
}

Reason kept_reason(const Judged& row, const Json& across) {
  return {.id = fmt::format("{}_kept", row.id),
          .meaning = "the budget holds because the query took no more",
          .text = fmt::format("The budget of {{{}}} holds because the query's {} {{{}}} is within it.",
                              budget_fact(row), row.name, row.id),
          .facts = {budget_fact(row), std::string(row.id)},
          .needs = {budget_fact(row), std::string(row.id)},
          .ordered = {},
          .words = {"holds", "within", "query", "query's"},
          .causal = true,
          .counterfactual = Counterfactual{"the measurement above the budget", across, "/holds"}};
}

Reason exceeded_reason(const Judged& row, const Json& across) {
  return {.id = fmt::format("{}_exceeded", row.id),
          .meaning = "the budget does not hold because the query took more",
          .text = fmt::format("The budget of {{{}}} does not hold because the query's {} {{{}}} exceeds it.",
                              budget_fact(row), row.name, row.id),
          .facts = {budget_fact(row), std::string(row.id)},
          .needs = {budget_fact(row), std::string(row.id)},
          .ordered = {std::string(row.id)},
          .words = {"exceeds", "above", "query", "query's"},
          .negated = {"hold"},
          .causal = true,
          .counterfactual = Counterfactual{"the measurement at the budget", across, "/holds"}};
}

}  // namespace

std::vector<Subject> of_budget(const audit::Decision& d, const Wanted& wanted, Kinds kinds) {
  const audit::DecisionKind& kind = kind_called(d.kind, kinds);
  const bool whole = wanted.map.empty() && !wanted.layer;
  const Json& parts = array_field(d.question, "parts");
  if (!audit::flag_field(d.answer, "feasible"))
    return whole ? std::vector<Subject>{refused_subject(d)} : std::vector<Subject>{};
  if (whole) return {kept_subject(d)};
  std::vector<Subject> subjects;
  for (size_t p = 0; p < parts.size(); ++p)
    if (is_wanted(wanted, text_field(parts[p], "map"))) subjects.push_back(map_subject(d, p, kind));
  return subjects;
}

std::vector<Subject> of_budget_measurement(const audit::Decision& d, const Wanted& wanted, Kinds) {
  if (!wanted.map.empty() || wanted.layer) return {};
  const Json& q = d.question;
  const std::string& tier = text_field(q, "energy_tier");
  Subject subject{.kind = d.kind, .title = "Budget: the measured query", .facts = {}, .reasons = {}};
  subject.facts = {{"time", limit_text("_ns", integer_field(q, "p95_ns")), {"time"}},
                   {"median", limit_text("_ns", integer_field(q, "p50_ns")), {"median"}},
                   {"energy",
                    fmt::format("{} ({}, from {} to {})", limit_text("_nj", integer_field(q, "measured_nj")),
                                tier, limit_text("_nj", integer_field(q, "least_nj")),
                                limit_text("_nj", integer_field(q, "most_nj"))),
                    {"energy"}},
                   {"runs", grouped(integer_field(q, "runs")) + " runs", {"over"}}};
  subject.reasons.push_back(
      {.id = "query_measured",
       .meaning = "what a query took on this machine",
       .text = "Measured over {runs} on this machine, the query's median is {median}, its time "
               "{time}, and its energy {energy}.",
       .facts = {"runs", "median", "time", "energy"},
       .needs = {"time"},
       .ordered = {},
       .words = {"query's", "query"}});
  const int64_t tolerance = integer_field(q, "tolerance_ppm");
  const bool holds = audit::flag_field(d.answer, "holds");
  std::vector<const Judged*> cited;
  Json across = q;  // all budgets that decide, moved to their other side
  for (const Judged& row : kJudged) {
    if (!q.contains(row.budget)) continue;
    const int64_t budget = integer_field(q, row.budget);
    const int64_t most = largest_kept(budget, tolerance);
    const bool kept = integer_field(q, row.measured) <= most;
    if (kept != holds) continue;
    subject.facts.push_back(
        {budget_fact(row), limit_text(row.budget, budget) + allowance(tolerance), {"budget"}});
    cited.push_back(&row);
    const Json& from = holds ? q : across;
    across = moved(from, std::string("/") + row.measured, holds ? most + 1 : most);
    if (holds) subject.reasons.push_back(kept_reason(row, across));
  }
  for (const Judged* row : cited)
    if (!holds) subject.reasons.push_back(exceeded_reason(*row, across));
  return {subject};
}

}  // namespace qtf::explain
