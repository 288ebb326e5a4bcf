// From records to subjects: one function a kind of decision, listed in one table at the end.
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "qtf/adapt/execution.h"
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

const std::vector<std::string> kBelow = {"below", "under", "lower", "less", "than", "short", "reach"};
const std::vector<std::string> kRouted = {"reaches", "reached", "above",  "exceeds",
                                          "routed",  "passes",  "passed", "circuit"};

// ---- route ----

std::vector<Subject> of_route(const audit::Decision& d, const Wanted&, Kinds) {
  const Json& q = d.question;
  const int64_t position = integer_field(q, "position"), routed = integer_field(q, "routed_before");
  const int64_t score = integer_field(q, "score"), threshold = integer_field(q, "threshold");
  const int64_t ppm = integer_field(q, "ppm");
  const bool above = audit::flag_field(d.answer, "above_threshold");
  const bool free = audit::flag_field(d.answer, "within_quota");
  Subject subject{
      .kind = d.kind, .title = fmt::format("Quantum layer: token {}", position), .facts = {}, .reasons = {}};
  subject.facts = {{"token", fmt::format("{}", position), {"token", "position"}},
                   {"score", nano_text(score), {"score"}},
                   {"threshold", nano_text(threshold), {"threshold"}},
                   {"routed", fmt::format("{} of {} tokens were routed", routed, position), {"before"}},
                   {"quota", fmt::format("{}.{:04} %", ppm / 10'000, ppm % 10'000), {"quota", "limit"}}};
  // The most tokens that the quota lets through up to and with this one.
  const int64_t room = ppm * (position + 1) / 1'000'000;
  const int64_t enough = (1'000'000 * (routed + 1) + position) / (position + 1);  // the quota that has room
  subject.facts.push_back({"room", fmt::format("{} of {} tokens", room, position + 1), {"allows", "room"}});
  const std::vector<std::string> all = {"token", "score", "threshold", "routed", "quota", "room"};
  const Counterfactual low{"the score just below the threshold", moved(q, "/score", threshold - 1),
                           "/routed"};
  const Counterfactual high{"the score at the threshold", moved(q, "/score", threshold), "/routed"};
  if (above && free)
    subject.reasons.push_back(
        {.id = "score_reached",
         .meaning = "the token passes the quantum layer because its score reaches the threshold, while the "
                    "quota has room",
         .text = "Token {token} was routed through the quantum layer because its score {score} reaches the "
                 "threshold "
                 "{threshold}; of those before, {routed}, and the quota {quota} allows {room}.",
         .facts = all,
         .needs = {"score", "threshold"},
         .ordered = {"score", "threshold"},
         .words = kRouted,
         .causal = true,
         .counterfactual = low});
  if (!above && free)
    subject.reasons.push_back(
        {.id = "score_below",
         .meaning = "the token does not pass the quantum layer because its score is below the threshold",
         .text =
             "Token {token} was not routed through the quantum layer because its score {score} is below the "
             "threshold {threshold}.",
         .facts = all,
         .needs = {"score", "threshold"},
         .ordered = {"score", "threshold"},
         .words = kBelow,
         .negated = {"routed", "pass", "passed", "reach"},
         .causal = true,
         .counterfactual = high});
  if (above && !free)
    subject.reasons.push_back(
        {.id = "quota_used",
         .meaning =
             "the token's score reaches the threshold, but it does not pass because the quota is used up",
         .text = "Token {token} was not routed, though its score {score} reaches the threshold {threshold}: "
                 "of those "
                 "before, {routed}, and the quota {quota} allows {room}.",
         .facts = all,
         .needs = {"quota", "routed"},
         .ordered = {"score", "threshold"},
         .words = {"reaches", "above", "though", "used", "up", "spent"},
         .negated = {"routed", "passed", "pass"},
         .causal = true,
         .counterfactual =
             Counterfactual{"a quota with room for one more", moved(q, "/ppm", enough), "/routed"}});
  if (!above && !free) {
    const Json both = moved(moved(q, "/score", threshold), "/ppm", enough);
    subject.reasons.push_back(
        {.id = "both_short",
         .meaning =
             "the token does not pass: its score is below the threshold, and the quota is used up as well",
         .text = "Token {token} was not routed: its score {score} is below the threshold {threshold}, and of "
                 "those "
                 "before, {routed} where the quota {quota} allows {room}.",
         .facts = all,
         .needs = {"score", "threshold"},
         .ordered = {"score", "threshold"},
         .words = kBelow,
         .negated = {"routed", "pass", "passed", "reach"},
         .causal = true,
         .counterfactual =
             Counterfactual{"the score at the threshold and a quota with room", both, "/routed"}});
  }
  return {subject};
}

// ---- execution ----

std::vector<Subject> of_execution(const audit::Decision& d, const Wanted& wanted, Kinds) {
  const Json& q = d.question;
  const std::string& map = text_field(q, "map");
  if (!is_wanted(wanted, map)) return {};
  const Json &factors = array_field(q, "factors_ns"), &merged = array_field(q, "merged_ns");
  if (factors.size() != adapt::kTimedTokens.size() || merged.size() != factors.size())
    throw_input_error("explain", "the times of {} are not those of {} token counts", map,
                      adapt::kTimedTokens.size());
  const bool is_merged = text_field(d.answer, "chosen") == "merged";
  // The count at which the forms differ most, in favour of what was chosen.
  size_t worst = 0;
  double most = -1;
  Json changed = q;
  for (size_t i = 0; i < factors.size(); ++i) {
    const int64_t f = audit::parse_integer(factors[i][0]), m = audit::parse_integer(merged[i][0]);
    const double ratio = is_merged ? static_cast<double>(f) / static_cast<double>(m)
                                   : static_cast<double>(m) / static_cast<double>(f);
    if (ratio > most) most = ratio, worst = i;
    if (is_merged) changed["factors_ns"][i][0] = std::to_string(std::min(f, m));
  }
  const int64_t f = audit::parse_integer(factors[worst][0]), m = audit::parse_integer(merged[worst][0]);
  if (!is_merged) changed["factors_ns"][worst][0] = std::to_string(m + 1);
  const auto microseconds = [](int64_t ns) { return fmt::format("{}.{:02} µs", ns / 1000, ns % 1000 / 10); };
  Subject subject{.kind = d.kind,
                  .title = fmt::format("Execution: {}, level {}", map, text_field(q, "level")),
                  .facts = {},
                  .reasons = {}};
  subject.facts = {{"map", map, {}},
                   {"shape", text_field(q, "shape"), {"shape", "chain"}},
                   {"factors", microseconds(f), {"factors"}},
                   {"merged", microseconds(m), {"matrix"}},
                   {"count", fmt::format("{} at a time", adapt::kTimedTokens[worst]), {"tokens"}}};
  const std::vector<std::string> all = {"map", "shape", "factors", "merged", "count"};
  if (is_merged)
    subject.reasons.push_back(
        {.id = "factors_slower",
         .meaning = "the map runs as one merged matrix because its factors took longer",
         .text = "{map} runs as the merged matrix because its factors took {factors} where the matrix took "
                 "{merged}, "
                 "measured on this machine for tokens, {count}.",
         .facts = all,
         .needs = {"factors", "merged"},
         .ordered = {"factors", "merged"},
         .words = {"longer", "slower", "than"},
         .causal = true,
         .counterfactual =
             Counterfactual{"factors as quick as the matrix at every token count", changed, "/chosen"}});
  else
    subject.reasons.push_back(
        {.id = "factors_never_slower",
         .meaning =
             "the map runs as its factors because they took no longer than the matrix at any token count",
         .text = "{map} runs as its factors because they took no longer than the matrix at any count that "
                 "was measured: "
                 "the factors {factors}, the matrix {merged}, for tokens, {count}.",
         .facts = all,
         .needs = {"factors", "merged"},
         .ordered = {"factors", "merged"},
         .words = {"longer", "than", "at"},
         .negated = {"longer"},
         .causal = true,
         .counterfactual =
             Counterfactual{"factors slower than the matrix at one token count", changed, "/chosen"}});
  return {subject};
}

// ---- allocation ----

struct PartView {
  std::string map;
  std::vector<std::string> sizes;
  std::vector<int64_t> costs, losses;
};

PartView view_of(const Json& part) {
  PartView view{text_field(part, "map"), {}, {}, {}};
  for (const Json& size : array_field(part, "sizes")) view.sizes.push_back(size.get<std::string>());
  for (const Json& cost : array_field(part, "costs")) view.costs.push_back(audit::parse_integer(cost));
  for (const Json& loss : array_field(part, "losses")) view.losses.push_back(audit::parse_integer(loss));
  if (view.sizes.size() != view.costs.size() || view.sizes.size() != view.losses.size())
    throw_input_error("explain", "{} has {} sizes and {} costs", view.map, view.sizes.size(),
                      view.costs.size());
  return view;
}

/// The smallest growth of the budget, found by halving, after which a part takes a costlier size; 0: none.
int64_t allocation_margin(const Json& question, size_t part, const PartView& view, size_t chosen,
                          const audit::DecisionKind& kind) {
  const int64_t budget = integer_field(question, "budget");
  const auto grows = [&](int64_t more) {
    const Json answer = kind.decide(moved(question, "/budget", budget + more));
    const auto other = static_cast<size_t>(audit::parse_integer(answer.at("chosen").at(part)));
    return view.costs.at(other) > view.costs[chosen];
  };
  int64_t enough = 1;
  for (const int64_t cost : view.costs) enough = std::max(enough, cost);
  constexpr int kDoublings = 8;
  for (int i = 0; !grows(enough); ++i, enough *= 2)
    if (i == kDoublings) return 0;
  for (int64_t none = 0; enough - none > 1;) {
    const int64_t middle = none + (enough - none) / 2;
    (grows(middle) ? enough : none) = middle;
  }
  return enough;
}

Subject of_part(const audit::Decision& d, size_t part, const audit::DecisionKind& kind) {
  const PartView view = view_of(d.question.at("parts").at(part));
  const auto chosen = static_cast<size_t>(audit::parse_integer(array_field(d.answer, "chosen").at(part)));
  if (chosen >= view.sizes.size()) throw_input_error("explain", "{} has no size number {}", view.map, chosen);
  Subject subject{.kind = d.kind,
                  .title = fmt::format("Rank: {}, within {}", view.map,
                                       parameters_text(integer_field(d.question, "budget"))),
                  .facts = {},
                  .reasons = {}};
  subject.facts = {{"map", view.map, {}},
                   {"size", view.sizes[chosen], {"size", "at", "keeps"}},
                   {"cost", parameters_text(view.costs[chosen]), {"stores", "costs"}},
                   {"loss", loss_text(view.losses[chosen]), {"loss"}},
                   {"budget", parameters_text(integer_field(d.question, "budget")), {"budget"}}};
  const std::vector<std::string> all = {"map", "size", "cost", "loss", "budget", "margin", "larger"};
  const int64_t margin = allocation_margin(d.question, part, view, chosen, kind);
  if (margin == 0) {
    subject.reasons.push_back(
        {.id = "largest_size",
         .meaning = "the map has a size that no larger budget tried would change",
         .text = "{map} keeps {size}, which stores {cost}; its predicted loss is {loss}.",
         .facts = all,
         .needs = {"map", "size"},
         .ordered = {}});
    return subject;
  }
  const int64_t budget = integer_field(d.question, "budget");
  const Json grown = kind.decide(moved(d.question, "/budget", budget + margin));
  const auto larger = static_cast<size_t>(audit::parse_integer(grown.at("chosen").at(part)));
  subject.facts.push_back({"margin", grouped(margin) + " more", {"with"}});
  subject.facts.push_back({"larger", view.sizes.at(larger), {"take", "takes", "become"}});
  subject.reasons.push_back({.id = "budget_binds",
                             .meaning = "the map stays at its size because the budget binds; with the margin "
                                        "more it would take a larger one",
                             .text = "{map} stays at {size}, which stores {cost} at a predicted loss of "
                                     "{loss}, because the budget of {budget} "
                                     "binds: with {margin} it would take {larger}.",
                             .facts = all,
                             .needs = {"size", "budget", "margin"},
                             .ordered = {"margin", "larger"},
                             .words = {"binds", "larger", "would", "full", "within"},
                             .causal = true,
                             .counterfactual = Counterfactual{"the budget larger by the margin",
                                                              moved(d.question, "/budget", budget + margin),
                                                              fmt::format("/chosen/{}", part)}});
  return subject;
}

std::vector<Subject> of_allocation(const audit::Decision& d, const Wanted& wanted, Kinds kinds) {
  const audit::DecisionKind& kind = kind_called(d.kind, kinds);
  const Json& parts = array_field(d.question, "parts");
  const int64_t cost = integer_field(d.answer, "cost"), loss = integer_field(d.answer, "loss"),
                bound = integer_field(d.answer, "bound");
  std::vector<Subject> subjects;
  if (wanted.map.empty() && !wanted.layer) {
    Subject whole{.kind = d.kind,
                  .title = "Allocation within " + parameters_text(integer_field(d.question, "budget")),
                  .facts = {},
                  .reasons = {}};
    whole.facts = {{"budget", parameters_text(integer_field(d.question, "budget")), {"budget"}},
                   {"cost", parameters_text(cost), {"has", "stores"}},
                   {"maps", grouped(static_cast<int64_t>(parts.size())) + " maps", {"over"}},
                   {"loss", loss_text(loss), {"loss"}},
                   {"bound", loss_text(bound), {"bound"}}};
    const std::vector<std::string> all = {"budget", "cost", "maps", "loss", "bound"};
    whole.reasons.push_back(
        {.id = "least_loss",
         .meaning =
             "the sizes of all maps were chosen because their predicted loss is the least within the budget",
         .text = "The sizes were chosen over {maps} because their predicted loss, {loss}, is the least "
                 "within the budget "
                 "of {budget}; the model stores {cost}, and no choice has a loss below the bound {bound}.",
         .facts = all,
         .needs = {"budget", "loss"},
         .ordered = {"loss", "bound"},
         .words = {"least", "below", "within"},
         .negated = {"choice"},
         .causal = true,
         .counterfactual = Counterfactual{"a budget just below what was chosen",
                                          moved(d.question, "/budget", cost - 1), "/chosen"}});
    subjects.push_back(std::move(whole));
  }
  for (size_t p = 0; p < parts.size(); ++p)
    if (is_wanted(wanted, text_field(parts[p], "map"))) subjects.push_back(of_part(d, p, kind));
  return subjects;
}

// ---- ranks ----

std::vector<Subject> of_ranks(const audit::Decision& d, const Wanted& wanted, Kinds) {
  const Json &maps = array_field(d.question, "maps"), &rows = array_field(d.answer, "maps");
  if (maps.size() != rows.size())
    throw_input_error("explain", "{} maps have {} ranks", maps.size(), rows.size());
  const int64_t most = integer_field(d.question, "max_parameters"),
                total = integer_field(d.answer, "parameters");
  const int64_t share = integer_field(d.answer, "share_ppb");
  const Fact budget{"budget", parameters_text(most), {"budget"}};
  const Fact common{
      "share", fmt::format("{}.{:03} %", share / 10'000'000, share % 10'000'000 / 10'000), {"share"}};
  const Counterfactual smaller{"a budget just below what was chosen",
                               moved(d.question, "/max_parameters", total - 1), "/parameters"};
  std::vector<Subject> subjects;
  if (wanted.map.empty() && !wanted.layer) {
    Subject whole{.kind = d.kind, .title = "Ranks of the whole model", .facts = {}, .reasons = {}};
    whole.facts = {budget,
                   common,
                   {"total", parameters_text(total), {"has", "stores"}},
                   {"maps", grouped(static_cast<int64_t>(maps.size())) + " maps", {"all"}}};
    whole.reasons.push_back(
        {.id = "common_share",
         .meaning = "all maps keep the largest common share of their parameters that the budget allows",
         .text = "For all {maps} the largest common share was taken that the budget of {budget} allows: each "
                 "keeps a share of "
                 "{share}, and the model stores {total}.",
         .facts = {"budget", "share", "total", "maps"},
         .needs = {"budget", "share"},
         .ordered = {},
         .words = {"largest", "allows", "within"},
         .causal = true,
         .counterfactual = smaller});
    subjects.push_back(std::move(whole));
  }
  for (size_t i = 0; i < maps.size(); ++i) {
    const std::string& map = text_field(maps[i], "map");
    if (!is_wanted(wanted, map)) continue;
    Subject subject{.kind = d.kind, .title = fmt::format("Rank: {}", map), .facts = {}, .reasons = {}};
    subject.facts = {budget,
                     common,
                     {"map", map, {}},
                     {"size", text_field(rows[i], "chosen"), {"keeps", "at"}},
                     {"cost", parameters_text(integer_field(rows[i], "parameters")), {"stores"}},
                     {"rejected", text_field(rows[i], "rejected"), {"beyond", "next"}}};
    subject.reasons.push_back({.id = "share_of_map",
                               .meaning = "the map keeps the common share of its parameters",
                               .text = "{map} keeps {size}, which stores {cost}: the common share is {share} "
                                       "within the budget of {budget}, and the next "
                                       "is {rejected}.",
                               .facts = {"budget", "share", "map", "size", "cost", "rejected"},
                               .needs = {"size", "budget"},
                               .ordered = {},
                               .words = {"within"}});
    subjects.push_back(std::move(subject));
  }
  return subjects;
}

struct SubjectRow {
  std::string_view kind;
  std::vector<Subject> (*make)(const audit::Decision&, const Wanted&, Kinds);
};
constexpr SubjectRow kRows[] = {{"route", of_route},
                                {"rank", of_rank},
                                {"rank_thresholds", of_rank_thresholds},
                                {"execution", of_execution},
                                {"allocation", of_allocation},
                                {"ranks", of_ranks},
                                {"budget", of_budget},
                                {"budget_measurement", of_budget_measurement}};

}  // namespace

const audit::DecisionKind& kind_called(std::string_view name, Kinds kinds) {
  const auto kind = std::ranges::find(kinds, name, &audit::DecisionKind::name);
  if (kind == kinds.end())
    throw_input_error("explain", "decisions of the kind '{}' cannot be taken again", name);
  return *kind;
}

Json moved(const Json& question, const std::string& path, int64_t value) {
  Json changed = question;
  changed.at(Json::json_pointer(path)) = std::to_string(value);
  return changed;
}

bool is_wanted(const Wanted& wanted, const std::string& map) {
  const auto has = [&](const std::string& part) { return map.find(part) != std::string::npos; };
  if (wanted.layer)
    return has(fmt::format("layers.{}.", *wanted.layer)) || has(fmt::format("h.{}.", *wanted.layer));
  return !wanted.map.empty() && has(wanted.map);
}

std::string loss_text(int64_t nano) {
  return nano_text(nano) + " nats/token";
}

std::string parameters_text(int64_t count) {
  return grouped(count) + " parameters";
}

std::string limit_text(const std::string& name, int64_t value) {
  if (name == "parameters") return parameters_text(value);
  if (name == "bytes") return format_quantity(value, Quantity::bytes);
  if (name.ends_with("_ns")) return format_quantity(value, Quantity::duration);
  if (name.ends_with("_nj")) return format_quantity(value, Quantity::energy);
  if (name.ends_with("nano_nats")) return loss_text(value);
  return fmt::format("{} ({})", grouped(value), name);
}

std::vector<Subject> subjects_of(const audit::Decision& decision, int64_t record, const Wanted& wanted,
                                 Kinds kinds) {
  const auto row = std::ranges::find(kRows, decision.kind, &SubjectRow::kind);
  if (row == std::end(kRows)) return {};
  std::vector<Subject> subjects;
  try {
    subjects = row->make(decision, wanted, kinds);
  } catch (const Json::exception&) {
    throw_input_error("explain", "record {} is no decision of the kind '{}'", record, decision.kind);
  } catch (const std::out_of_range&) {
    throw_input_error("explain", "record {} chose a size that its map has not", record);
  }
  for (Subject& subject : subjects) {
    subject.record = record;
    subject.answer = decision.answer;
    drop_false_reasons(subject, kinds);
  }
  return subjects;
}

Subject subject_of_tokens(const TokenCounts& counts, int64_t record) {
  Subject subject{.kind = "tokens",
                  .title = fmt::format("Tokens of {}", counts.of),
                  .record = record,
                  .facts = {{"of", counts.of, {}}, {"tokens", grouped(counts.tokens) + " tokens", {"saw"}}},
                  .reasons = {}};
  const auto percent = [&](int64_t part, int64_t of) {
    const int64_t tenths = of > 0 ? (1000 * part + of / 2) / of : 0;
    return fmt::format("{}.{} %", tenths / 10, tenths % 10);
  };
  int64_t decisions = 0;
  std::string mix;
  for (const int64_t count : counts.levels) decisions += count;
  for (size_t level = 0; decisions > 0 && level < counts.levels.size(); ++level)
    mix +=
        fmt::format("{}level {}: {}", level ? ", " : "", level + 1, percent(counts.levels[level], decisions));
  if (!mix.empty()) {
    subject.facts.push_back({"mix", mix, {"mix"}});
    subject.reasons.push_back({.id = "levels_counted",
                               .meaning = "how many decisions chose which level",
                               .text = "In {of}, which saw {tokens}, of levels the mix was {mix}.",
                               .facts = {"of", "tokens", "mix"},
                               .needs = {"mix"},
                               .ordered = {},
                               .words = {"levels"}});
  }
  if (counts.mean_entropy) {
    subject.facts.push_back({"entropy", nano_text(*counts.mean_entropy), {"entropy"}});
    subject.reasons.push_back({.id = "entropy_measured",
                               .meaning = "the mean attention entropy, between none and all places alike",
                               .text = "In {of}, the mean attention entropy was {entropy}.",
                               .facts = {"of", "entropy"},
                               .needs = {"entropy"},
                               .ordered = {},
                               .words = {"mean"}});
  }
  if (counts.routed) {
    subject.facts.push_back(
        {"routed",
         fmt::format("{} ({})", grouped(*counts.routed), percent(*counts.routed, counts.tokens)),
         {"routed"}});
    std::string quota;
    if (counts.quota_ppm) {
      subject.facts.push_back(
          {"quota",
           fmt::format("{}.{:04} %", *counts.quota_ppm / 10'000, *counts.quota_ppm % 10'000),
           {"quota"}});
      quota = "; the quantum layer's quota is {quota}";
    }
    subject.reasons.push_back({.id = "routes_counted",
                               .meaning = "how many tokens passed the quantum layer",
                               .text = "In {of}, the tokens routed were {routed}" + quota + ".",
                               .facts = {"of", "routed", "quota"},
                               .needs = {"routed"},
                               .ordered = {},
                               .words = {"quantum", "layer's"}});
  }
  return subject;
}

namespace {

/// A model's perplexity on a text.
struct MeasuredQuality {
  std::string model, text, perplexity;
};

void add_quality(int number, const MeasuredQuality& quality, Subject& subject) {
  const std::string model = fmt::format("model_{}", number), name = fmt::format("text_{}", number),
                    value = fmt::format("perplexity_{}", number);
  subject.facts.push_back({model, "“" + quality.model + "”", {"model"}});
  subject.facts.push_back({name, "“" + quality.text + "”", {"text"}});
  subject.facts.push_back({value, quality.perplexity, {"perplexity"}});
  subject.reasons.push_back(
      {.id = fmt::format("quality_measured_{}", number),
       .meaning = "the perplexity that was measured",
       .text = fmt::format("For the model {{{}}}, on the text {{{}}}, the perplexity was {{{}}}.", model,
                           name, value),
       .facts = {model, name, value},
       .needs = {value},
       .ordered = {model, name, value}});
}

}  // namespace

std::vector<Subject> subjects_of_making(const Json& data, int64_t record) {
  const Json& figures = audit::member(data, "figures");
  Subject subject{.kind = "making", .title = "The model", .record = record, .facts = {}, .reasons = {}};
  if (figures.contains("parameters")) {
    const int64_t parameters = integer_field(figures, "parameters"),
                  dense = integer_field(figures, "dense_parameters");
    if (parameters < 1)
      throw_input_error("explain", "record {} says that the model has no parameters", record);
    subject.facts = {
        {"parameters", parameters_text(parameters), {"has", "stores"}},
        {"dense", parameters_text(dense), {"have"}},
        {"ratio", fmt::format("{}.{:02}", dense / parameters, dense * 100 / parameters % 100), {"ratio"}},
        {"bytes", grouped(integer_field(figures, "bytes")) + " bytes", {"file", "takes"}}};
    subject.reasons.push_back(
        {.id = "size_measured",
         .meaning = "how large the model is",
         .text = "The model has {parameters}; a dense model of the same sizes would have {dense}: a ratio of "
                 "{ratio}. Its file takes {bytes}.",
         .facts = {"parameters", "dense", "ratio", "bytes"},
         .needs = {"parameters"},
         .ordered = {},
         .words = {"same"}});
  }
  std::vector<Subject> subjects;
  if (!subject.reasons.empty()) subjects.push_back(std::move(subject));
  int number = 0;
  const auto add = [&](const std::string& model, const std::string& text, const std::string& perplexity) {
    constexpr int kTogether = 4;  // a subject is told in one prompt
    if (number % kTogether == 0)
      subjects.push_back(
          {.kind = "making", .title = "What was measured", .record = record, .facts = {}, .reasons = {}});
    add_quality(number++, {model, text, perplexity}, subjects.back());
  };
  if (figures.contains("texts"))
    for (const Json& text : array_field(figures, "texts"))
      add(text_field(text, "model"), text_field(text, "text"), text_field(text, "perplexity"));
  else if (figures.contains("perplexity"))
    add("made", figures.contains("word_perplexity") ? "validation" : "given",
        text_field(figures, "perplexity"));
  return subjects;
}

}  // namespace qtf::explain
