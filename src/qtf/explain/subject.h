// What can be explained: a recorded decision or measurement as facts, and the reasons that may be given for
// it. Explainers write statements about a subject; check.h holds them against it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/audit/decision.h"
#include "qtf/base/json.h"

namespace qtf::explain {

/// A number or name of the record, as the program writes it for people.
struct Fact {
  std::string id;    ///< "score": statements cite it as {score}
  std::string text;  ///< "0.412", its unit included
  /// Lower-case words by which a sentence calls it; one must stand before its slot. Empty: it needs none.
  std::vector<std::string> names;
};

/// A change of the question after which the decision must be another one, or the reason is none.
struct Counterfactual {
  std::string what;         ///< "the score at the threshold"
  nlohmann::json question;  ///< of the subject's kind
  std::string path;         ///< of the part of the answer that must change, as a JSON pointer
};

/// A typed reason: what a statement of it may cite and say.
struct Reason {
  std::string id;
  std::string meaning;               ///< for those who write statements
  std::string text;                  ///< the sentence that the template gives, with slots
  std::vector<std::string> facts;    ///< ids that it may cite
  std::vector<std::string> needs;    ///< ids that it must cite
  std::vector<std::string> ordered;  ///< ids that come in this order where several are in one sentence
  /// Words beyond the lexicon: directions ("below"), benefits ("faster"). Without them such words are
  /// refused.
  std::vector<std::string> words = {};
  /// Words that must stand behind a "not" ("routed" of a token that was not).
  std::vector<std::string> negated = {};
  bool causal = false;  ///< may say because, since, so
  std::optional<Counterfactual> counterfactual = {};
};

struct Subject {
  std::string kind;    ///< a decision kind's name, or "making"
  std::string title;   ///< "Quantum layer: token 47"
  int64_t record = 0;  ///< number of the record it comes from; 0: of none
  std::vector<Fact> facts;
  std::vector<Reason> reasons;
  nlohmann::json answer = {};  ///< as recorded; what counterfactuals must change

  const Fact* fact(std::string_view id) const;
  const Reason* reason(std::string_view id) const;
  /// SHA-256 of all that an explainer is told: equal subjects have equal explanations.
  std::string hash() const;
};

/// Whether taking the decision of the changed question gives another answer at the path. Throws InputError
/// for a kind that is not in the table.
bool survives(const Reason& reason, const Subject& subject, std::span<const audit::DecisionKind> kinds);

/// Takes out the reasons whose counterfactual does not change the decision; returns how many.
int drop_false_reasons(Subject& subject, std::span<const audit::DecisionKind> kinds);

/// Which parts of a decision are wanted.
struct Wanted {
  std::string map;                    ///< those of the maps that have this in their names
  std::optional<int64_t> layer = {};  ///< those of this layer; neither: the whole model's alone
  /// Of each layer's entropies on the calibration text, where the model is known: with them a token's entropy
  /// itself is moved across a threshold.
  const std::vector<std::vector<int64_t>>* quantiles = nullptr;
};

/// The subjects of a decision: one for the whole model, or one for each wanted map. Empty for a kind that has
/// no explanation. Throws InputError for a record that is none of its kind.
std::vector<Subject> subjects_of(const audit::Decision& decision, int64_t record, const Wanted& wanted,
                                 std::span<const audit::DecisionKind> kinds);

/// Of the data of a making.end record: what the model is and what was measured.
std::vector<Subject> subjects_of_making(const nlohmann::json& data, int64_t record);

/// What was decided for many tokens: of a run, or of one layer of it.
struct TokenCounts {
  std::string of;  ///< "the run", "layer 3"
  int64_t tokens = 0;
  std::vector<int64_t> levels;               ///< how many decisions chose each level, from 1; empty: none did
  std::optional<int64_t> routed, quota_ppm;  ///< through the quantum layer
  std::optional<int64_t> mean_entropy;       ///< in 1e-9
};
Subject subject_of_tokens(const TokenCounts& counts, int64_t record);

/// "1,234,567".
std::string grouped(int64_t number);
/// 1e-9 units in six decimals at most, without trailing zeros: 412000000 -> "0.412".
std::string nano_text(int64_t number);

}  // namespace qtf::explain
