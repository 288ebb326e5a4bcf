#include "qtf/explain/statement.h"

#include <iostream>
#include <map>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/explain/check_test.h"

namespace qtf::explain {
namespace {

TEST(Check, TemplatesPassAndGoodSentencesDo) {
  int64_t passed = 0, all = 0;
  for (const auto& [statement, subject] : all_good()) {
    const auto fault = find_fault(statement, subject);
    const bool of_template = statement.text == subject.reason(statement.reason)->text;
    EXPECT_TRUE(!of_template || !fault) << statement.text << ": " << fault.value_or("");
    if (fault) std::cout << "refused: " << statement.text << ": " << *fault << "\n";
    passed += !fault, ++all;
    EXPECT_TRUE(fault || filled(statement, subject).find('{') == std::string::npos);
  }
  EXPECT_GE(all, 300);
  EXPECT_GE(static_cast<double>(passed), 0.95 * static_cast<double>(all));
  std::cout << passed << " of " << all << " correct statements pass\n";
}

std::optional<std::string> digits(const Statement& s, const Subject& subject, uint64_t seed) {
  const std::string& id = s.facts[seed % s.facts.size()];
  const std::string value = subject.fact(id)->text;
  if (value.find_first_of("0123456789") == std::string::npos) return std::nullopt;
  return replaced(s.text, "{" + id + "}", value);
}
std::optional<std::string> number_words(const Statement& s, const Subject&, uint64_t seed) {
  const char* words[] = {"two",   "half", "dozen",   "thousand", "twice",
                         "first", "zero", "percent", "a million"};
  return appended(s, std::string("It took ") + words[seed % std::size(words)] + ".");
}
std::optional<std::string> swapped_facts(const Statement& s, const Subject& subject, uint64_t seed) {
  // The right number on the wrong fact: two slots change places.
  const std::string a = s.facts[seed % s.facts.size()], b = s.facts[(seed / 7 + 1 + seed) % s.facts.size()];
  if (a == b || subject.fact(a)->names == subject.fact(b)->names) return std::nullopt;
  if (subject.fact(a)->names.empty() && subject.fact(b)->names.empty()) return std::nullopt;
  std::string text = *replaced(s.text, "{" + a + "}", "{#}");
  text = *replaced(text, "{" + b + "}", "{" + a + "}");
  return replaced(text, "{#}", "{" + b + "}");
}
std::optional<std::string> unknown_fact(const Statement& s, const Subject&, uint64_t seed) {
  return replaced(s.text, "{" + s.facts[seed % s.facts.size()] + "}", "{layer}");
}
std::optional<std::string> invented_cause(const Statement& s, const Subject&, uint64_t seed) {
  const char* causes[] = {"because the user asked for it.", "since the text is about finance.",
                          "because of rounding.", "due to its rare word.", "as the hardware was busy."};
  return appended(s, std::string("This was decided ") + causes[seed % std::size(causes)]);
}
std::optional<std::string> advantage(const Statement& s, const Subject&, uint64_t seed) {
  const char* claims[] = {"This gives a quantum advantage.", "The model is better.",
                          "The circuit improves the text.",  "It is optimal.",
                          "This makes the model faster.",    "It saves energy."};
  return appended(s, claims[seed % std::size(claims)]);
}
std::optional<std::string> wrong_unit(const Statement& s, const Subject&, uint64_t seed) {
  const char* units[] = {"milliseconds", "joules", "tokens", "parameters", "bits", "megabytes", "layers"};
  const std::string slot = "{" + s.facts[seed % s.facts.size()] + "}";
  return replaced(s.text, slot, slot + " " + units[(seed / 3) % std::size(units)]);
}
std::optional<std::string> other_outcome(const Statement& s, const Subject&, uint64_t) {
  if (auto text = replaced(s.text, "not ", "")) return text;
  if (auto text = replaced(s.text, "was routed", "was not routed")) return text;
  return replaced(s.text, "passes", "does not pass");
}
std::optional<std::string> other_direction(const Statement& s, const Subject&, uint64_t) {
  const std::pair<const char*, const char*> flips[] = {
      {"below", "above"},    {"above", "below"},   {"under", "over"},       {"reaches", "misses"},
      {"longer", "shorter"}, {"slower", "faster"}, {"largest", "smallest"}, {"least", "most"},
      {"less", "more"},      {"exceeds", "fails"}};
  for (const auto& [from, to] : flips)
    if (auto text = replaced(s.text, from, to)) return text;
  return std::nullopt;
}
std::optional<std::string> markup(const Statement& s, const Subject&, uint64_t seed) {
  const char* marks[] = {"<b>the layer</b>.",    "See http://x.", "\xE2\x85\xA7 layers.", "100%",
                         "the layer - the map!", "**layer**"};
  return appended(s, marks[seed % std::size(marks)]);
}
std::optional<std::string> other_layer(const Statement& s, const Subject& subject, uint64_t seed) {
  const char* layers[] = {"the third layer", "layer three", "the last layer", "the next block", "lm_head"};
  if (!subject.fact("map")) return std::nullopt;
  return replaced(s.text, "{map}", layers[seed % std::size(layers)]);
}
std::optional<std::string> praise_of_a_fact(const Statement& s, const Subject&, uint64_t seed) {
  const std::string slot = "{" + s.facts[seed % s.facts.size()] + "}";
  const char* praise[] = {"only ", "just ", "an impressive ", "as much as ", "nearly "};
  if (seed % 5 == 3) return std::nullopt;
  return replaced(s.text, slot, praise[seed % std::size(praise)] + slot);
}
std::optional<std::string> said_of_another(const Statement& s, const Subject& subject, uint64_t seed) {
  // A fact's name is exchanged for another one's.
  const Fact& a = *subject.fact(s.facts[seed % s.facts.size()]);
  const Fact& b = *subject.fact(s.facts[(seed + 1 + seed / 5) % s.facts.size()]);
  if (a.names.empty() || b.names.empty() || a.names == b.names) return std::nullopt;
  return replaced(s.text, a.names[0] + " {" + a.id + "}", b.names[0] + " {" + a.id + "}");
}

TEST(Check, CatchesEveryPlantedFault) {
  const NamedMutator mutators[] = {{"digits", digits},
                                   {"number words", number_words},
                                   {"swapped facts", swapped_facts},
                                   {"unknown fact", unknown_fact},
                                   {"invented cause", invented_cause},
                                   {"advantage", advantage},
                                   {"wrong unit", wrong_unit},
                                   {"other outcome", other_outcome},
                                   {"other direction", other_direction},
                                   {"markup", markup},
                                   {"other layer", other_layer},
                                   {"praise", praise_of_a_fact},
                                   {"said of another", said_of_another}};
  const Planted planted = plant(mutators);
  EXPECT_EQ(planted.by_mutator.size(), std::size(mutators));
  EXPECT_GE(planted.all, 300);
  EXPECT_EQ(planted.escaped, 0);
  std::cout << planted.all << " faults planted by " << std::size(mutators) << " mutators, " << planted.escaped
            << " escaped\n";
}

TEST(Check, HoldsTheFactsListAgainstTheText) {
  const Subject subject = subjects_of(test_route(9, 1, 300, 400), 1, {}, test_kinds())[0];
  const Statement good = template_statement(subject.reasons[0]);
  EXPECT_EQ(find_fault(good, subject), std::nullopt);
  Statement bad = good;
  bad.facts.pop_back();
  EXPECT_TRUE(find_fault(bad, subject));
  bad.facts = {"score", "threshold", "quota", "token"};
  EXPECT_TRUE(find_fault(bad, subject));
  bad = good;
  bad.reason = "weather";
  EXPECT_TRUE(find_fault(bad, subject));
  bad = statement_of(good.reason, "The score {score} is below.");
  EXPECT_NE(find_fault(bad, subject).value().find("needs the fact 'threshold'"), std::string::npos);
  bad.text = "The score {score";
  EXPECT_TRUE(find_fault(bad, subject));
  bad.text = std::string(700, 'a');
  EXPECT_TRUE(find_fault(bad, subject));
}

TEST(Statements, AreReadOrRefused) {
  const auto read = parse_statements(R"({"statements":[{"reason":"r","facts":["a"],"text":"{a}"}]})");
  ASSERT_EQ(read.size(), 1U);
  EXPECT_EQ(read[0].facts, std::vector<std::string>{"a"});
  std::string many = R"({"statements":[)", one = R"({"reason":"r","facts":[],"text":""})";
  for (int i = 0; i < 17; ++i) many += (i ? "," : "") + one;
  for (const std::string& bad :
       {std::string("no JSON"), std::string("[]"), std::string("{}"), std::string(R"({"statements":3})"),
        std::string(R"({"statements":[3]})"), std::string(R"({"statements":[{"reason":"r","facts":["a"]}]})"),
        std::string(R"({"statements":[{"reason":"r","facts":"a","text":"t"}]})"),
        std::string(R"({"statements":[{"reason":"r","facts":[1],"text":"t"}]})"), many + "]}",
        R"({"statements":[{"reason":"r","facts":[],"text":")" + std::string(601, 'x') + "\"}]}"})
    EXPECT_THROW(parse_statements(bad), InputError) << bad.substr(0, 80);
}

}  // namespace
}  // namespace qtf::explain
