// Facts → explainer → check → user. Explainers are one table; whatever they write is checked, and what fails
// is replaced by the template's sentence and counted.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/explain/chat.h"
#include "qtf/explain/statement.h"
#include "qtf/explain/subject.h"

namespace qtf::explain {

/// What an explainer gave for a subject.
struct Answer {
  std::vector<Statement> statements;
  std::string raw;      ///< as it came; empty for the template
  std::string problem;  ///< why there are none
};

class Explainer {
 public:
  virtual ~Explainer() = default;
  /// "template", "K2 Think": for "explained by …".
  virtual std::string name() const = 0;
  /// Model id of a service; empty for the template.
  virtual std::string model() const { return {}; }
  /// What it is told of the subject; its hash is recorded. Empty for the template.
  virtual std::string prompt(const Subject&) const { return {}; }
  /// Throws nothing: what goes wrong is the answer's problem.
  virtual Answer explain(const Subject& subject) = 0;
  /// An answer as it came, read again; nothing if it is none.
  virtual std::optional<Answer> read(const std::string&) const { return {}; }
};

struct ExplainerKind {
  std::string_view name;  ///< as --explainer has it
  std::string_view summary;
  std::unique_ptr<Explainer> (*make)(const ChatOptions& options);
};

/// template, k2. To add one, add a row in explainer.cc.
std::span<const ExplainerKind> explainer_kinds();

/// By name. Throws InputError for one that is not in the table, or cannot be set up.
std::unique_ptr<Explainer> make_explainer(std::string_view name, const ChatOptions& options = {});

/// A sentence that may be shown.
struct Sentence {
  std::string reason;
  std::string text;     ///< filled
  Statement statement;  ///< with slots
  bool by_template = false;
  std::string fault;  ///< why the explainer's own was refused; empty: it was not
};

struct Explanation {
  Subject subject;
  std::vector<Sentence> sentences;   ///< one for each reason of the subject
  Answer answer;                     ///< of the explainer
  int64_t offered = 0, refused = 0;  ///< statements of the explainer
  bool asked = false;                ///< now and first here; else the answer was known
};

/// Answers by SHA-256 of the prompts.
using KnownAnswers = std::map<std::string, Answer>;

/// Asks the explainer about each subject whose answer is not known, and checks all; equal subjects are asked
/// once.
std::vector<Explanation> explain_all(std::vector<Subject> subjects, Explainer& explainer,
                                     KnownAnswers known = {});

/// "explained by K2 Think: 14 of 16 statements verified".
std::string tally(std::span<const Explanation> explanations, const Explainer& explainer);

/// The template's statement for a reason.
Statement template_statement(const Reason& reason);

}  // namespace qtf::explain
