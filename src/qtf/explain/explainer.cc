#include "qtf/explain/explainer.h"

#include <fmt/format.h>

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/base/parse.h"
#include "qtf/base/sha256.h"
#include "qtf/explain/reasoning.h"

namespace qtf::explain {

namespace {

class TemplateExplainer final : public Explainer {
 public:
  std::string name() const override { return "the built-in template"; }
  Answer explain(const Subject& subject) override {
    Answer answer;
    for (const Reason& reason : subject.reasons) answer.statements.push_back(template_statement(reason));
    return answer;
  }
};

constexpr std::string_view kInstructions =
    "You explain decisions of a program that makes language models smaller. Answer with one JSON object: "
    "{\"statements\":[{\"reason\":…,\"facts\":[…],\"text\":…}]}, one statement for each reason given. The "
    "text is one or two "
    "plain English sentences. Never write a digit, a number word or a unit: cite a fact as {its-id}, and the "
    "program puts "
    "its value there. Cite only facts of the reason, list each cited id in \"facts\", and cite those it "
    "needs. Before each "
    "slot write one of the fact's names. Use no words beyond these and the reason's own: ";

class K2Explainer final : public Explainer {
 public:
  K2Explainer(ChatEndpoint endpoint, ChatOptions options)
      : endpoint_(std::move(endpoint)), options_(std::move(options)) {}

  std::string name() const override { return "K2 Think"; }
  std::string model() const override { return endpoint_.model; }

  std::string prompt(const Subject& subject) const override { return instructions() + "\n" + told(subject); }

  Answer explain(const Subject& subject) override {
    Answer answer;
    try {
      const ChatAnswer chat = ask_chat(endpoint_, instructions(), told(subject), options_);
      answer.raw = chat.raw;
      answer.statements = parse_statements(chat.text);
    } catch (const std::exception& error) {
      answer.problem = error.what();
    }
    return answer;
  }

  std::optional<Answer> read(const std::string& raw) const override {
    try {
      const std::optional<std::string> text = answer_of(raw);
      if (!text) return {};
      return Answer{parse_statements(*text), raw, {}};
    } catch (const InputError&) {
      return {};
    }
  }

 private:
  static std::string instructions() {
    return std::string(kInstructions) + fmt::format("{}", fmt::join(lexicon(), " ")) + ".";
  }

  /// Values too: they help to write well, and a digit that is copied from them is refused.
  static std::string told(const Subject& subject) {
    nlohmann::ordered_json facts = nlohmann::ordered_json::array(), reasons = nlohmann::ordered_json::array();
    for (const Fact& fact : subject.facts)
      facts.push_back({{"id", fact.id}, {"names", fact.names}, {"value", fact.text}});
    for (const Reason& reason : subject.reasons)
      reasons.push_back({{"reason", reason.id},
                         {"meaning", reason.meaning},
                         {"facts", reason.facts},
                         {"needs", reason.needs},
                         {"words", words_of(reason)},
                         {"words that need a not", reason.negated},
                         {"may say because", reason.causal ? "yes" : "no"},
                         {"example", reason.text}});
    return nlohmann::ordered_json({{"subject", subject.title}, {"facts", facts}, {"reasons", reasons}})
        .dump();
  }

  ChatEndpoint endpoint_;
  ChatOptions options_;
};

/// The explainer's statement for the reason if it may be shown, else the template's.
Sentence checked_sentence(const Reason& reason, const Subject& subject, const Answer& answer,
                          Explanation& tally) {
  Sentence sentence{reason.id, {}, {}, false, answer.problem};
  const auto offered = std::ranges::find(answer.statements, reason.id, &Statement::reason);
  if (offered != answer.statements.end()) {
    const std::optional<std::string> fault = find_fault(*offered, subject);
    tally.refused += fault.has_value();
    sentence.fault = fault.value_or("");
    sentence.statement = *offered;
  } else if (sentence.fault.empty()) {
    sentence.fault = "there was no statement of this reason";
  }
  if (!sentence.fault.empty()) {
    sentence.statement = template_statement(reason);
    sentence.by_template = true;
  }
  sentence.text = filled(sentence.statement, subject);
  return sentence;
}

Explanation explained(Subject subject, Answer answer) {
  Explanation explanation;
  explanation.offered = static_cast<int64_t>(answer.statements.size());
  for (const Statement& statement : answer.statements)
    explanation.refused += subject.reason(statement.reason) == nullptr;
  for (const Reason& reason : subject.reasons)
    explanation.sentences.push_back(checked_sentence(reason, subject, answer, explanation));
  explanation.answer = std::move(answer);
  explanation.subject = std::move(subject);
  return explanation;
}

}  // namespace

Statement template_statement(const Reason& reason) {
  Statement statement{reason.id, {}, reason.text};
  for (size_t open = 0; (open = reason.text.find('{', open)) != std::string::npos; ++open) {
    const std::string id = reason.text.substr(open + 1, reason.text.find('}', open) - open - 1);
    if (std::ranges::find(statement.facts, id) == statement.facts.end()) statement.facts.push_back(id);
  }
  return statement;
}

std::span<const ExplainerKind> explainer_kinds() {
  static constexpr ExplainerKind kKinds[] = {
      {"template", "sentences of the program's own, offline",
       [](const ChatOptions&) -> std::unique_ptr<Explainer> {
         return std::make_unique<TemplateExplainer>();
       }},
      {"k2", "K2 Think V2, or another model, at the endpoint of QTF_K2_URL",
       [](const ChatOptions& options) -> std::unique_ptr<Explainer> {
         return std::make_unique<K2Explainer>(endpoint_from_environment(), options);
       }}};
  return kKinds;
}

std::unique_ptr<Explainer> make_explainer(std::string_view name, const ChatOptions& options) {
  std::vector<std::string_view> names;
  for (const ExplainerKind& kind : explainer_kinds()) {
    if (kind.name == name) return kind.make(options);
    names.push_back(kind.name);
  }
  throw_input_error("explain", "there is no explainer '{}'{}; there are {}", name, did_you_mean(name, names),
                    fmt::join(names, " and "));
}

std::vector<Explanation> explain_all(std::vector<Subject> subjects, Explainer& explainer,
                                     KnownAnswers known) {
  std::vector<Explanation> all;
  for (Subject& subject : subjects) {
    if (subject.reasons.empty()) continue;
    const std::string prompt = explainer.prompt(subject);
    const std::string hash = prompt.empty() ? subject.hash() : sha256_hex(prompt);
    auto found = known.find(hash);
    const bool asked = found == known.end();
    if (asked) found = known.emplace(hash, explainer.explain(subject)).first;
    all.push_back(explained(std::move(subject), found->second));
    all.back().asked = asked;
  }
  return all;
}

std::string tally(std::span<const Explanation> explanations, const Explainer& explainer) {
  int64_t own = 0, sentences = 0;
  for (const Explanation& explanation : explanations) {
    for (const Sentence& sentence : explanation.sentences) own += !sentence.by_template, ++sentences;
  }
  return fmt::format("explained by {}: {} of {} statements verified", explainer.name(), own, sentences);
}

}  // namespace qtf::explain
