// What explainers write about a subject, and the check that nothing false gets through it to the user.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/explain/subject.h"

namespace qtf::explain {

/// A sentence or two whose numbers and names are slots: "its score {score} is below the threshold".
struct Statement {
  std::string reason;              ///< id of one of the subject's reasons
  std::vector<std::string> facts;  ///< ids that the text cites
  std::string text;
};

/// Why a statement must not be shown; nothing if it may. Refused are: an unknown reason; slots that are no
/// facts of the reason, or differ from the listed ones; missing ones that the reason needs; digits and number
/// words; words that are neither grammar nor the reason's own (so: invented causes, benefits, units and
/// claims); a sentence without a fact; a second cause, or one that is not what the counterfactual moves; a
/// slot without its fact's name before it, behind another fact's name or a unit; slots of a comparison in
/// another order; a word that needs a "not" without one, and the other way about.
std::optional<std::string> find_fault(const Statement& statement, const Subject& subject);

/// The text with its slots filled. The statement must have passed the check.
std::string filled(const Statement& statement, const Subject& subject);

/// Reads {"statements":[{"reason","facts","text"}]}. Throws InputError for what is none, more than 16
/// statements, or a text of more than 600 bytes.
std::vector<Statement> parse_statements(std::string_view json);

/// Words of grammar, which every statement may use, sorted.
const std::vector<std::string_view>& lexicon();

/// Words with a meaning that statements of this reason may use: those of a fixed list of which a form stands
/// in the reason's own sentence, and its own words.
std::vector<std::string> words_of(const Reason& reason);

}  // namespace qtf::explain
