// What the tests of the check share: correct statements of every reason, and the planting of faults in them.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "qtf/explain/explain_test.h"
#include "qtf/explain/explainer.h"
#include "qtf/explain/statement.h"

namespace qtf::explain {

/// Sentences by hand, as a good explainer might write them, for each reason.
inline const std::map<std::string, std::vector<std::string>>& good_sentences() {
  static const std::map<std::string, std::vector<std::string>> table = {
      {"score_reached",
       {"The token {token} passes the quantum circuit because its score {score} is above the threshold "
        "{threshold}.",
        "Since its score of {score} exceeds the threshold {threshold}, the token was routed; the quota "
        "{quota} allows {room}.",
        "The router's score {score} reached the threshold of {threshold}, so the token was routed."}},
      {"score_below",
       {"The score {score} is under the threshold {threshold}, so the token was not routed.",
        "Since its score {score} is less than the threshold of {threshold}, the token does not pass the "
        "quantum layer.",
        "The token {token} was not routed because its score {score} does not reach the threshold "
        "{threshold}."}},
      {"quota_used",
       {"The quota {quota} allows {room}, and before, {routed}: so the token does not pass.",
        "The token was not routed because the quota {quota} is used up: of those before, {routed}."}},
      {"both_short",
       {"The token was not routed: its score {score} is under the threshold {threshold}, and before, "
        "{routed}."}},
      {"factors_slower",
       {"Because the factors {factors} are slower than the matrix {merged}, {map} runs merged."}},
      {"factors_never_slower",
       {"The factors took {factors} and the matrix {merged}, so {map} runs as its factors."}},
      {"least_loss", {"Within the budget {budget} the predicted loss of {loss} is the least."}},
      {"budget_binds",
       {"The budget of {budget} is full, so {map} keeps {size}; with {margin} it would become {larger}."}},
      {"common_share", {"The budget {budget} allows each map the share {share}, the largest."}},
      {"share_of_map", {"Within the budget {budget}, {map} keeps {size}."}},
      {"level_reached",
       {"Since its standing {standing} reaches the threshold {lower}, the token {token} takes level {level}.",
        "The standing {standing} is above the threshold {lower}, so the token takes level {level} in layer "
        "{layer}.",
        "Token {token} takes level {level} because its draw {standing} is above the threshold {lower}."}},
      {"next_not_reached",
       {"Because the standing {standing} is under the threshold {upper}, the token does not take the next, "
        "{next}.",
        "The standing {standing} does not reach the threshold {upper}, so the token does not take the next, "
        "{next}."}},
      {"sequence_begins",
       {"The token {token} begins the sequence and so takes the largest level, level {level}."}},
      {"policy_fixes_level", {"The policy fixes level {level}, so every token takes it."}},
      {"solved_for_mean", {"Because the mean is {mean}, the thresholds of layer {layer} are {thresholds}."}},
      {"budget_too_small",
       {"Even the smallest sizes need more, so the budget of {budget} is not kept; the nearest is "
        "{nearest}."}},
      {"least_within_budgets", {"Within the budget {budget} the predicted total of {value} is the least."}},
      {"budget_binds_map",
       {"The budget of {budget} is full, so {map} stays at {size}; with {margin} it would become {larger}."}},
      {"query_measured", {"On this machine the query's time was {time} and its energy {energy}."}},
      {"time_kept", {"The time {time} is within the budget {time_budget}, so it holds."}},
      {"time_exceeded", {"The time {time} is above the budget {time_budget}, so it does not hold."}},
      {"energy_kept", {"Since the energy {energy} is within it, the budget of {energy_budget} holds."}},
      {"energy_exceeded", {"The energy {energy} exceeds the budget {energy_budget}, so it does not hold."}},
      {"levels_counted", {"In {of} the mix was {mix}."}},
      {"routes_counted", {"Of the tokens in {of}, those routed were {routed}."}},
      {"size_measured", {"This model stores {parameters}, and its file takes {bytes}."}}};
  return table;
}

inline Statement statement_of(const std::string& reason, const std::string& text) {
  Reason like;
  like.id = reason, like.text = text;
  return template_statement(like);
}

/// A rank's standing is a draw where the policy draws: the other word is not correct there.
inline bool calls_signal_right(const std::string& text, const Subject& subject) {
  const Fact* fact = subject.fact("standing");
  const auto says = [&](const char* word) { return text.find(word) != std::string::npos; };
  if (!fact) return true;
  return !says(fact->names[0] == "draw" ? "standing {" : "draw {");
}

/// Every good statement of every subject: the template's and those by hand.
inline std::vector<std::pair<Statement, Subject>> all_good() {
  std::vector<std::pair<Statement, Subject>> all;
  for (const Subject& subject : test_subjects()) {
    for (const Reason& reason : subject.reasons) {
      all.emplace_back(template_statement(reason), subject);
      const auto found = good_sentences().find(reason.id);
      if (found == good_sentences().end()) continue;
      for (const std::string& text : found->second)
        if (calls_signal_right(text, subject)) all.emplace_back(statement_of(reason.id, text), subject);
    }
  }
  return all;
}

/// Makes a statement false, or gives nothing where it cannot. The seed says where and how.
using Mutator = std::optional<std::string> (*)(const Statement&, const Subject&, uint64_t seed);

inline std::string appended(const Statement& s, const std::string& more) {
  return s.text + " " + more;
}

inline std::optional<std::string> replaced(const std::string& text, const std::string& from,
                                           const std::string& to) {
  const size_t at = text.find(from);
  if (at == std::string::npos) return std::nullopt;
  std::string copy = text;
  return copy.replace(at, from.size(), to);
}

struct NamedMutator {
  const char* name;
  Mutator mutate;
};

struct Planted {
  std::map<std::string, int> by_mutator;
  std::map<std::string, int> escaped_by_mutator;
  int all = 0, escaped = 0;
};

/// Three faults by each mutator in each correct statement; each that the check lets pass is told of.
inline Planted plant(std::span<const NamedMutator> mutators) {
  Planted planted;
  uint64_t seed = 1;
  for (const auto& [statement, subject] : all_good()) {
    if (find_fault(statement, subject)) continue;
    for (const NamedMutator& mutator : mutators) {
      for (int i = 0; i < 3; ++i, ++seed) {
        const auto text = mutator.mutate(statement, subject, seed);
        if (!text || *text == statement.text) continue;
        ++planted.by_mutator[mutator.name], ++planted.all;
        if (find_fault(statement_of(statement.reason, *text), subject)) continue;
        ++planted.escaped, ++planted.escaped_by_mutator[mutator.name];
        ADD_FAILURE() << mutator.name << ": " << *text << "\nfrom " << statement.text;
      }
    }
  }
  return planted;
}

}  // namespace qtf::explain
