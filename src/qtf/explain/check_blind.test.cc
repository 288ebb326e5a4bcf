// Blind mutators: written after the check and not used to tune it. On their first run, against the check as
// it was, 2,817 of the 11,227 faults of the first fourteen escaped: 900 claims and 735 causes made of words
// that every statement might then use, 747 units before numbers, 327 causes turned about, 107 stray negations
// and one other slot. The check was then changed in general (sentences cite facts, one cause that is the
// counterfactual's, reasons lend their words, no units between names and numbers). Whoever changes it again
// changes nothing here.
#include <iostream>

#include "qtf/explain/check_test.h"

namespace qtf::explain {
namespace {

template <size_t N>
const char* pick(const char* const (&list)[N], uint64_t seed) {
  return list[seed % N];
}

/// Where words begin, outside of slots.
std::vector<size_t> word_starts(const std::string& text) {
  std::vector<size_t> starts;
  bool in_slot = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '{') in_slot = true;
    if (text[i] == '}') in_slot = false;
    if (!in_slot && i > 0 && text[i - 1] == ' ' && std::isalpha(static_cast<unsigned char>(text[i])))
      starts.push_back(i);
  }
  return starts;
}

std::optional<std::string> inserted(const std::string& text, const std::string& more, uint64_t seed) {
  const std::vector<size_t> starts = word_starts(text);
  if (starts.empty()) return std::nullopt;
  std::string copy = text;
  return copy.insert(starts[seed % starts.size()], more + " ");
}

std::optional<std::string> quantity_words(const Statement& s, const Subject&, uint64_t seed) {
  const char* const words[] = {"IV",     "tenfold", "double",  "both", "couple",
                               "triple", "single",  "several", "most", "few"};
  return inserted(s.text, pick(words, seed), seed / 7);
}

std::optional<std::string> other_scripts(const Statement& s, const Subject&, uint64_t seed) {
  const char* const signs[] = {"\xEF\xBC\x93", "\xC2\xB2", "\xD9\xA3",
                               "\xE2\x80\x8B", "\xD0\xB0", "\xC2\xBD"};
  return inserted(s.text, pick(signs, seed), seed / 5);
}

/// The right number on the wrong fact: a slot's number is exchanged for another fact's of the subject.
std::optional<std::string> other_slot(const Statement& s, const Subject& subject, uint64_t seed) {
  const std::string& from = s.facts[seed % s.facts.size()];
  const Fact& other = subject.facts[(seed / 3) % subject.facts.size()];
  if (other.id == from || other.text == subject.fact(from)->text) return std::nullopt;
  return replaced(s.text, "{" + from + "}", "{" + other.id + "}");
}

std::optional<std::string> stray_negation(const Statement& s, const Subject&, uint64_t seed) {
  const char* const words[] = {"not", "never", "no"};
  return inserted(s.text, pick(words, seed), seed / 3);
}

/// What was the cause becomes the effect.
std::optional<std::string> turned_cause(const Statement& s, const Subject&, uint64_t) {
  const size_t at = s.text.find(" because ");
  if (at == std::string::npos) return std::nullopt;
  size_t end = s.text.find_first_of(";.:", at);
  if (end == std::string::npos) end = s.text.size();
  return s.text.substr(at + 9, end - at - 9) + " because " + s.text.substr(0, at) + s.text.substr(end);
}

/// Causes of words that statements may use.
std::optional<std::string> cause_of_known_words(const Statement& s, const Subject&, uint64_t seed) {
  const char* const causes[] = {"because the text is dense",          "because the machine was measured",
                                "so the model keeps the whole text",  "since the router looked on the text",
                                "because the calibration was merged", "since the attention is quantum"};
  const std::string cause = pick(causes, seed);
  if (seed % 2) return s.text + " This was " + cause + ".";
  const size_t end = s.text.find_last_of('.');
  return s.text.substr(0, end) + " and " + cause + ".";
}

/// Claims of words that statements may use.
std::optional<std::string> claim_of_known_words(const Statement& s, const Subject&, uint64_t seed) {
  const char* const claims[] = {"The circuit was measured on the quantum machine.",
                                "The quantum model keeps the whole text.",
                                "The router looked through the whole text.",
                                "The model was made on the quantum machine.",
                                "The machine decided the rank.",
                                "These tokens were given to the circuit."};
  return s.text + " " + pick(claims, seed);
}

/// Another unit between a fact's name and its number.
std::optional<std::string> unit_before(const Statement& s, const Subject&, uint64_t seed) {
  const char* const units[] = {"in tokens ", "in parameters ", "in layers ",
                               "of maps ",   "in sizes ",      "in ranks "};
  const std::string slot = "{" + s.facts[seed % s.facts.size()] + "}";
  return replaced(s.text, slot, pick(units, seed / 4) + slot);
}

/// A second sentence gives one fact's name another's number.
std::optional<std::string> wrong_echo(const Statement& s, const Subject& subject, uint64_t seed) {
  const Fact& a = *subject.fact(s.facts[seed % s.facts.size()]);
  const Fact& b = *subject.fact(s.facts[(seed / 2 + 1) % s.facts.size()]);
  if (a.names.empty() || a.text == b.text || a.names == b.names) return std::nullopt;
  return s.text + " The " + a.names[seed % a.names.size()] + " is {" + b.id + "}.";
}

std::optional<std::string> broken_slot(const Statement& s, const Subject&, uint64_t seed) {
  const std::string& id = s.facts[seed % s.facts.size()];
  const std::string slots[] = {"{ " + id + " }", "{" + id, "{" + id + "}}",
                               "{{" + id + "}}", "{}",     "{" + id + ".text}"};
  return replaced(s.text, "{" + id + "}", slots[(seed / 3) % std::size(slots)]);
}

std::optional<std::string> hedges(const Statement& s, const Subject&, uint64_t seed) {
  const char* const words[] = {"perhaps", "probably", "always", "roughly", "about",
                               "soon",    "usually",  "hardly", "maybe"};
  return inserted(s.text, pick(words, seed), seed / 9);
}

std::optional<std::string> other_claims(const Statement& s, const Subject&, uint64_t seed) {
  const char* const claims[] = {"It outperforms a classical layer.",   "This is a quantum speedup.",
                                "No classical computer can do it.",    "Entanglement makes the text clear.",
                                "The superposition chose the rank.",   "It beats the dense model.",
                                "The model understands the sentence.", "This was approved by the auditor."};
  return s.text + " " + pick(claims, seed);
}

/// The name of a fact's neighbour, put before the number in addition to its own.
std::optional<std::string> two_names(const Statement& s, const Subject& subject, uint64_t seed) {
  const Fact& a = *subject.fact(s.facts[seed % s.facts.size()]);
  const Fact& b = subject.facts[(seed / 3) % subject.facts.size()];
  if (a.id == b.id || a.names.empty() || b.names.empty() || a.names == b.names) return std::nullopt;
  const std::string& name = b.names[seed % b.names.size()];
  if (std::ranges::find(a.names, name) != a.names.end()) return std::nullopt;
  return replaced(s.text, "{" + a.id + "}", name + " {" + a.id + "}");
}

/// Digits typed out beside the slot, so that another number is read.
std::optional<std::string> more_digits(const Statement& s, const Subject&, uint64_t seed) {
  const std::string slot = "{" + s.facts[seed % s.facts.size()] + "}";
  const char* const digits[] = {"1", "0", ".5", "e3", "k", "M"};
  const std::string more = pick(digits, seed / 5);
  return replaced(s.text, slot, seed % 2 ? slot + more : more + slot);
}

// ---- written after that change of the check ----
// On their first run 835 of their 5,300 faults escaped: 586 invented aims ("so that"), 189 units behind
// numbers, 34 echoes and 26 names and causes made of a reason's own words. The check was changed in general
// again.

const char* own_word(const Statement& s, const Subject& subject, uint64_t seed, std::string& kept) {
  const std::vector<std::string> words = words_of(*subject.reason(s.reason));
  if (words.empty()) return nullptr;
  kept = words[seed % words.size()];
  return kept.c_str();
}

std::optional<std::string> unit_behind(const Statement& s, const Subject&, uint64_t seed) {
  const char* const units[] = {" of the tokens", " of a map", " in the layers",
                               " of parameters", " a token",  " of each size"};
  const std::string slot = "{" + s.facts[seed % s.facts.size()] + "}";
  return replaced(s.text, slot, slot + pick(units, seed / 3));
}

/// "the score {score} … the threshold {threshold}" with both, names and numbers, in each other's places.
std::optional<std::string> turned_comparison(const Statement& s, const Subject& subject, uint64_t) {
  const Reason& reason = *subject.reason(s.reason);
  if (reason.ordered.size() < 2) return std::nullopt;
  const Fact &a = *subject.fact(reason.ordered[0]), &b = *subject.fact(reason.ordered[1]);
  const std::string first = a.names[0] + " {" + a.id + "}", second = b.names[0] + " {" + b.id + "}";
  if (s.text.find(first) == std::string::npos || s.text.find(second) == std::string::npos)
    return std::nullopt;
  std::string text = *replaced(s.text, first, "#");
  text = *replaced(text, second, first);
  return replaced(text, "#", second);
}

/// Causes of the reason's own words, without the fact that decided.
std::optional<std::string> cause_by_own_words(const Statement& s, const Subject& subject, uint64_t seed) {
  std::string word;
  if (!own_word(s, subject, seed, word)) return std::nullopt;
  const char* const begins[] = {" because the ", ", since its ", ", so the "};
  const size_t end = s.text.find_last_of('.');
  return s.text.substr(0, end) + pick(begins, seed) + word + " was " + word + ".";
}

/// A number called by one of the reason's own words in place of its fact's name.
std::optional<std::string> name_by_own_word(const Statement& s, const Subject& subject, uint64_t seed) {
  std::string word;
  const Fact& fact = *subject.fact(s.facts[seed % s.facts.size()]);
  if (fact.names.empty() || !own_word(s, subject, seed / 3, word)) return std::nullopt;
  if (std::ranges::find(fact.names, word) != fact.names.end()) return std::nullopt;
  for (const std::string& name : fact.names)
    if (auto text = replaced(s.text, name + " {" + fact.id + "}", word + " {" + fact.id + "}")) return text;
  return std::nullopt;
}

std::optional<std::string> echo_by_own_word(const Statement& s, const Subject& subject, uint64_t seed) {
  std::string word;
  const Fact& fact = *subject.fact(s.facts[seed % s.facts.size()]);
  if (!own_word(s, subject, seed / 3, word)) return std::nullopt;
  if (std::ranges::find(fact.names, word) != fact.names.end()) return std::nullopt;
  return s.text + " The " + word + " is {" + fact.id + "}.";
}

std::optional<std::string> invented_aim(const Statement& s, const Subject& subject, uint64_t seed) {
  std::string word;
  if (!own_word(s, subject, seed, word) || s.text.find("so that") != std::string::npos) return std::nullopt;
  const size_t end = s.text.find_last_of('.');
  return s.text.substr(0, end) + " so that the " + word + " is " + word + ".";
}

std::optional<std::string> lone_slot(const Statement& s, const Subject& subject, uint64_t seed) {
  const Fact& fact = *subject.fact(s.facts[seed % s.facts.size()]);
  if (fact.names.empty()) return std::nullopt;
  const char* const forms[] = {" {%}.", " It is {%}.", " That is {%} each.", " ({%})"};
  std::string form = pick(forms, seed / 3);
  return s.text + form.replace(form.find('%'), 1, fact.id);
}

TEST(BlindCheck, CatchesEveryLaterFaultToo) {
  const NamedMutator mutators[] = {{"unit behind", unit_behind},
                                   {"turned comparison", turned_comparison},
                                   {"cause by own words", cause_by_own_words},
                                   {"name by own word", name_by_own_word},
                                   {"echo by own word", echo_by_own_word},
                                   {"invented aim", invented_aim},
                                   {"lone slot", lone_slot}};
  const Planted planted = plant(mutators);
  EXPECT_EQ(planted.by_mutator.size(), std::size(mutators));
  EXPECT_EQ(planted.escaped, 0);
  std::cout << planted.all << " faults planted by " << std::size(mutators) << " later blind mutators, "
            << planted.escaped << " escaped\n";
  for (const auto& [name, count] : planted.escaped_by_mutator) std::cout << name << ": " << count << "\n";
}

TEST(BlindCheck, CatchesEveryPlantedFault) {
  const NamedMutator mutators[] = {{"quantity words", quantity_words},
                                   {"other scripts", other_scripts},
                                   {"other slot", other_slot},
                                   {"stray negation", stray_negation},
                                   {"turned cause", turned_cause},
                                   {"cause of known words", cause_of_known_words},
                                   {"claim of known words", claim_of_known_words},
                                   {"unit before", unit_before},
                                   {"wrong echo", wrong_echo},
                                   {"broken slot", broken_slot},
                                   {"hedges", hedges},
                                   {"other claims", other_claims},
                                   {"two names", two_names},
                                   {"more digits", more_digits}};
  const Planted planted = plant(mutators);
  EXPECT_EQ(planted.by_mutator.size(), std::size(mutators));
  EXPECT_GE(planted.all, 300);
  EXPECT_EQ(planted.escaped, 0);
  std::cout << planted.all << " faults planted by " << std::size(mutators) << " blind mutators, "
            << planted.escaped << " escaped\n";
  for (const auto& [name, count] : planted.escaped_by_mutator) std::cout << name << ": " << count << "\n";
}

}  // namespace
}  // namespace qtf::explain
