// The rank scheduler's subjects: a token's level in a layer, and a layer's thresholds.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "qtf/adapt/entropy_distribution.h"
#include "qtf/audit/fields.h"
#include "qtf/base/error.h"
#include "qtf/explain/subject_kinds.h"

namespace qtf::explain {

namespace {

using audit::integer_field;
using audit::text_field;
using Json = nlohmann::json;

/// The smallest number from 0 to kUnit at which something that stays true becomes true; nothing if it never
/// does.
std::optional<int64_t> smallest(const std::function<bool(int64_t)>& is) {
  if (!is(adapt::kUnit)) return {};
  int64_t low = -1, high = adapt::kUnit;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (is(middle) ? high : low) = middle;
  }
  return high;
}

/// A token's decision and how to take it again.
struct RankView {
  const Json& question;
  const audit::DecisionKind& kind;
  int64_t layer = 0, level = 0, levels = 0;
  std::string signal;  ///< what its standing is called
  const std::vector<int64_t>* quantiles = nullptr;

  int64_t level_at(int64_t standing) const {
    return integer_field(kind.decide(moved(question, "/standing", standing)), "level");
  }
  /// From which standing on the token takes the level.
  std::optional<int64_t> bound(int64_t wanted) const {
    return smallest([&](int64_t standing) { return level_at(standing) >= wanted; });
  }
  /// The entropy that first has this standing, where the layer's distribution is known.
  std::optional<int64_t> entropy_of(int64_t standing) const {
    if (!quantiles) return {};
    return smallest([&](int64_t entropy) { return adapt::rank_of({*quantiles}, entropy) >= standing; });
  }
  /// The question with the signal moved to just at a standing, or just below it.
  Counterfactual at(int64_t standing, bool below) const {
    const auto entropy = entropy_of(standing);
    if (!entropy)
      return {below ? "the standing just below the threshold" : "the standing at the threshold",
              moved(question, "/standing", below ? standing - 1 : standing), "/level"};
    const int64_t moved_to = below ? *entropy - 1 : *entropy;
    return {below ? "the entropy just below the threshold" : "the entropy at the threshold",
            moved(moved(question, "/entropy", moved_to), "/standing", adapt::rank_of({*quantiles}, moved_to)),
            "/level"};
  }
};

Reason reached_reason(const RankView& view, int64_t lower, const std::vector<std::string>& facts) {
  std::string cause = fmt::format("its {} {{standing}} reaches", view.signal);
  if (std::ranges::find(facts, "entropy") != facts.end())
    cause = "its attention entropy {entropy} gives it the standing {standing}, which reaches";
  return {.id = "level_reached",
          .meaning = fmt::format("the token takes its level because its {} reaches the level's threshold",
                                 view.signal),
          .text = "Token {token} takes level {level} in layer {layer} because " + cause +
                  " the threshold {lower}.",
          .facts = facts,
          .needs = {"level", "standing", "lower"},
          .ordered = {"standing", "lower"},
          .words = {"reaches", "reached", "above", "gives", "it", "at", "least"},
          .causal = true,
          .counterfactual = view.at(lower, true)};
}

Reason next_reason(const RankView& view, int64_t upper, const std::vector<std::string>& facts) {
  std::string text = fmt::format(
      "Token {{token}} stays at level {{level}} in layer {{layer}}: it does not take the next, {{next}}, "
      "because its {} "
      "{{standing}} is below the threshold {{upper}}",
      view.signal);
  text += view.entropy_of(upper) ? "; it would turn at {turn}." : ".";
  return {.id = "next_not_reached",
          .meaning = fmt::format(
              "the token does not take the next level because its {} is below that level's threshold",
              view.signal),
          .text = std::move(text),
          .facts = facts,
          .needs = {"next", "standing", "upper"},
          .ordered = {"standing", "upper"},
          .words = {"below", "under", "less", "than", "at"},
          .negated = {"take", "takes", "reach"},
          .causal = true,
          .counterfactual = view.at(upper, false)};
}

/// Where the level follows from no signal: a sequence's beginning, or a policy of one level.
Reason unasked_reason(const RankView& view, bool begins) {
  if (begins)
    return {.id = "sequence_begins",
            .meaning =
                "the token begins its sequence, where attention has no past to spread over, so it takes "
                "the largest level",
            .text =
                "Token {token} begins its sequence, where attention has no past, so in layer {layer} it "
                "takes the largest level, level {level}.",
            .facts = {"token", "layer", "level"},
            .needs = {"level"},
            .ordered = {},
            .words = {"begins", "sequence", "largest", "past"},
            .negated = {"past"},
            .causal = true,
            .counterfactual =
                Counterfactual{"a later place, with the smallest standing",
                               moved(moved(view.question, "/position", 1), "/standing", 0), "/level"}};
  return {.id = "policy_fixes_level",
          .meaning = "every token takes this level because the policy fixes it",
          .text = "Every token takes level {level} in layer {layer} because the policy fixes it.",
          .facts = {"level", "layer", "token"},
          .needs = {"level"},
          .ordered = {},
          .words = {"every", "policy", "fixes", "fixed"},
          .causal = true,
          .counterfactual = Counterfactual{
              "another level fixed",
              moved(view.question, "/fixed_level", view.level == 1 ? 2 : view.level - 1), "/level"}};
}

void add_signal_reasons(const RankView& view, Subject& subject) {
  std::vector<std::string> common = {"token", "layer", "level", "standing"};
  if (subject.fact("entropy")) common.push_back("entropy");
  if (const auto lower = view.level > 1 ? view.bound(view.level) : std::nullopt) {
    subject.facts.push_back({"lower", nano_text(*lower), {"threshold"}});
    auto facts = common;
    facts.push_back("lower");
    subject.reasons.push_back(reached_reason(view, *lower, facts));
  }
  if (const auto upper = view.level < view.levels ? view.bound(view.level + 1) : std::nullopt) {
    subject.facts.push_back({"upper", nano_text(*upper), {"threshold"}});
    subject.facts.push_back({"next", fmt::format("level {}", view.level_at(*upper)), {"next"}});
    auto facts = common;
    facts.insert(facts.end(), {"upper", "next"});
    if (const auto turn = view.entropy_of(*upper)) {
      subject.facts.push_back({"turn", fmt::format("an entropy of {}", nano_text(*turn)), {"turn"}});
      facts.emplace_back("turn");
    }
    subject.reasons.push_back(next_reason(view, *upper, facts));
  }
}

}  // namespace

std::vector<Subject> of_rank(const audit::Decision& d, const Wanted& wanted, Kinds kinds) {
  const Json& q = d.question;
  const int64_t token = integer_field(q, "position"), layer = integer_field(q, "layer");
  if (wanted.layer && *wanted.layer != layer) return {};
  const std::string& policy = text_field(q, "policy");
  RankView view{q,
                kind_called(d.kind, kinds),
                layer,
                integer_field(d.answer, "level"),
                integer_field(q, "levels"),
                policy == "random" ? "draw" : "standing"};
  if (policy == "entropy" && wanted.quantiles && layer < static_cast<int64_t>(wanted.quantiles->size()) &&
      (*wanted.quantiles)[static_cast<size_t>(layer)].size() > 1)
    view.quantiles = &(*wanted.quantiles)[static_cast<size_t>(layer)];
  Subject subject{.kind = d.kind,
                  .title = fmt::format("Rank of token {} in layer {}", token, layer),
                  .facts = {{"token", fmt::format("{}", token), {"token"}},
                            {"layer", fmt::format("{}", layer), {"layer"}},
                            {"level", fmt::format("{} of {}", view.level, view.levels), {"level"}}},
                  .reasons = {}};
  if (policy == "fixed:K") {
    subject.reasons.push_back(unasked_reason(view, false));
  } else if (token == 0) {
    subject.reasons.push_back(unasked_reason(view, true));
  } else {
    if (policy == "entropy")
      subject.facts.push_back({"entropy", nano_text(integer_field(q, "entropy")), {"entropy"}});
    subject.facts.push_back({"standing", nano_text(integer_field(q, "standing")), {view.signal}});
    add_signal_reasons(view, subject);
  }
  subject.answer = d.answer;
  drop_false_reasons(subject, kinds);
  if (subject.reasons.empty())  // thresholds beyond what a standing can be
    subject.reasons.push_back({.id = "level_taken",
                               .meaning = "which level the token takes, whatever its signal",
                               .text = "Token {token} takes level {level} in layer {layer}.",
                               .facts = {"token", "level", "layer"},
                               .needs = {"token", "level"},
                               .ordered = {}});
  return {subject};
}

std::vector<Subject> of_rank_thresholds(const audit::Decision& d, const Wanted& wanted, Kinds) {
  const Json& q = d.question;
  if (!wanted.layer || !q.contains("layer") || integer_field(q, "layer") != *wanted.layer) return {};
  std::string thresholds;
  for (const Json& threshold : audit::array_field(d.answer, "thresholds"))
    thresholds += (thresholds.empty() ? "" : ", ") + nano_text(audit::parse_integer(threshold));
  const int64_t mean = integer_field(q, "mean");
  Subject subject{.kind = d.kind,
                  .title = fmt::format("Rank scheduler: thresholds of layer {}", *wanted.layer),
                  .facts = {{"layer", fmt::format("{}", *wanted.layer), {"layer"}},
                            {"thresholds", thresholds, {"thresholds"}},
                            {"mean", nano_text(mean) + " of the range of ranks", {"mean"}},
                            {"reached", nano_text(integer_field(d.answer, "mean")), {"comes"}}},
                  .reasons = {}};
  const int64_t other = mean > adapt::kUnit / 2 ? mean - adapt::kUnit / 100 : mean + adapt::kUnit / 100;
  subject.reasons.push_back(
      {.id = "solved_for_mean",
       .meaning =
           "the thresholds between the layer's levels are where they are because they give the mean rank "
           "that was asked for",
       .text =
           "In layer {layer} the thresholds are {thresholds}, as shares of the calibration text's tokens, "
           "because they give the mean, {mean}; on that text it comes to {reached}.",
       .facts = {"layer", "thresholds", "mean", "reached"},
       .needs = {"thresholds", "mean"},
       .ordered = {},
       .words = {"between", "levels", "give", "gives", "shares", "text's"},
       .causal = true,
       .counterfactual = Counterfactual{"another mean rank", moved(q, "/mean", other), "/thresholds"}});
  return {subject};
}

}  // namespace qtf::explain
