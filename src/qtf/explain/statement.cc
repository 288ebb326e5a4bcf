#include "qtf/explain/statement.h"

#include <fmt/format.h>

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/base/json.h"

namespace qtf::explain {

namespace {

constexpr size_t kMostText = 600, kMostStatements = 16;
// How far before its slot a fact's name may stand, in words; and a "not" before what it negates.
constexpr size_t kNameReach = 6, kNotReach = 3;

constexpr std::string_view kCausal[] = {"because", "since", "so", "therefore"};
// Of these the cause stands behind, of the others before.
constexpr std::string_view kCauseFollows[] = {"because", "since"};
constexpr std::string_view kNegations[] = {"not", "no", "never"};
// What is compared stands before these.
constexpr std::string_view kDirections[] = {"below",   "under",   "lower",   "less",   "short",  "above",
                                            "exceeds", "reaches", "reached", "longer", "slower", "reach"};
// Nouns that would give a number another unit.
constexpr std::string_view kAfterNumbers[] = {"token", "tokens", "parameter", "parameters", "map", "maps",
                                              "size",  "sizes",  "layer",     "layers",     "rank"};

// Between a slot and a noun that would be its unit: "{score} of the tokens".
constexpr std::string_view kOfUnits[] = {"of", "the", "a", "an", "in", "each", "these", "those"};
// What may stand between a fact's name and its slot beside grammar: "the factors took {factors}".
constexpr std::string_view kLinks[] = {"took", "takes", "take"};
// What may stand before a slot without a name, which has no noun to say what it is.
constexpr std::string_view kBeforeNames[] = {"in", "of", "for", "so", "and", "that", "to"};

/// A word, a slot, or a mark that ends a clause.
struct Piece {
  enum class Kind { word, slot, comma, stop } kind;
  std::string text;
};

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

/// Splits a text; the first character that may not be there ends it with a fault.
std::optional<std::string> split(std::string_view text, std::vector<Piece>& pieces) {
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '{') {
      const size_t end = text.find('}', i);
      if (end == std::string_view::npos) return "a slot has no end";
      pieces.push_back({Piece::Kind::slot, std::string(text.substr(i + 1, end - i - 1))});
      i = end + 1;
    } else if (is_letter(c)) {
      Piece word{Piece::Kind::word, {}};
      for (; i < text.size() && (is_letter(text[i]) || text[i] == '\''); ++i) word.text += lower(text[i]);
      pieces.push_back(std::move(word));
    } else if (c == ',' || c == '.' || c == ';' || c == ':') {
      pieces.push_back({c == ',' ? Piece::Kind::comma : Piece::Kind::stop, std::string(1, c)});
      ++i;
    } else if (c == ' ' || c == '(' || c == ')') {
      ++i;
    } else if (c >= '0' && c <= '9') {
      return "a digit stands in the text; numbers come from facts alone";
    } else {
      return fmt::format("the character {:#04x} may not stand in a statement", static_cast<unsigned char>(c));
    }
  }
  return std::nullopt;
}

template <class List>
bool holds(const List& list, std::string_view word) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

bool is_word(const Piece& piece) {
  return piece.kind == Piece::Kind::word;
}
bool is_slot(const Piece& piece) {
  return piece.kind == Piece::Kind::slot;
}

/// Pieces [begin, end).
struct Span {
  size_t begin = 0, end = 0;
};

/// "so that".
bool is_aim(const std::vector<Piece>& pieces, size_t at) {
  return pieces[at].text == "so" && at + 1 < pieces.size() && pieces[at + 1].text == "that";
}

bool is_causal(const std::vector<Piece>& pieces, size_t at) {
  return is_word(pieces[at]) && holds(kCausal, pieces[at].text) && !is_aim(pieces, at);
}

/// The clause that a causal word at `at` makes the cause: behind "because" to the end of the sentence, or to
/// the comma if the sentence begins with it; before "so" from the sentence's beginning.
Span cause_clause(const std::vector<Piece>& pieces, size_t at) {
  const auto ends = [&](size_t i) { return pieces[i].kind == Piece::Kind::stop; };
  if (!holds(kCauseFollows, pieces[at].text)) {
    size_t begin = at;
    while (begin > 0 && !(ends(begin - 1) && pieces[begin - 1].text == ".")) --begin;
    return {begin, at};
  }
  const bool leads = at == 0 || ends(at - 1);
  size_t end = at + 1;
  for (bool cited = false; end < pieces.size() && !ends(end); ++end) {
    cited = cited || is_slot(pieces[end]);
    if (leads && cited && pieces[end].kind == Piece::Kind::comma) break;
  }
  return {at + 1, end};
}

/// What a reason's own sentence gives as the cause.
struct Causes {
  std::vector<std::string> slots;     ///< of a sentence without "because": what it needs
  std::vector<std::string> words;     ///< with a meaning, of a cause without slots
  std::vector<std::string> outcomes;  ///< words of the reason that say the effect
};

std::vector<std::string> slots_of(const std::vector<Piece>& pieces, Span span) {
  std::vector<std::string> slots;
  for (size_t i = span.begin; i < span.end; ++i)
    if (is_slot(pieces[i])) slots.push_back(pieces[i].text);
  return slots;
}

Causes causes_of(const Reason& reason) {
  std::vector<Piece> pieces;
  if (split(reason.text, pieces)) return {};
  Causes causes{reason.needs, {}, reason.negated};
  for (size_t at = 0; at < pieces.size(); ++at) {
    if (!is_causal(pieces, at)) continue;
    const Span cause = cause_clause(pieces, at);
    causes.slots = slots_of(pieces, cause);
    for (size_t i = cause.begin; causes.slots.empty() && i < cause.end; ++i)
      if (is_word(pieces[i]) && !std::ranges::binary_search(lexicon(), std::string_view(pieces[i].text)))
        causes.words.push_back(pieces[i].text);
    const Span effect = cause.begin > at && at > 0 ? Span{0, at} : Span{cause.end, pieces.size()};
    for (size_t i = effect.begin; i < effect.end; ++i)
      if (holds(reason.words, pieces[i].text)) causes.outcomes.push_back(pieces[i].text);
    break;
  }
  return causes;
}

/// Holds one statement's pieces against its reason.
class Checker {
 public:
  Checker(const Statement& statement, const Reason& reason, const Subject& subject)
      : statement_(statement), reason_(reason), subject_(subject), words_(words_of(reason)) {}

  std::optional<std::string> run() {
    if (statement_.text.size() > kMostText) return "the text is too long";
    if (auto fault = split(statement_.text, pieces_)) return fault;
    if (auto fault = check_slots()) return fault;
    if (auto fault = check_sentences()) return fault;
    if (auto fault = check_causes()) return fault;
    for (size_t i = 0; i < pieces_.size(); ++i) {
      const bool slot = pieces_[i].kind == Piece::Kind::slot;
      const bool word = pieces_[i].kind == Piece::Kind::word;
      if (auto fault = slot ? check_unit(i) : std::nullopt) return fault;
      if (auto fault = slot ? check_name(i) : word ? check_word(i) : std::nullopt) return fault;
    }
    return check_order();
  }

 private:
  std::optional<std::string> check_slots() const {
    std::vector<std::string> cited;
    for (const Piece& piece : pieces_) {
      if (piece.kind != Piece::Kind::slot) continue;
      if (!subject_.fact(piece.text)) return fmt::format("there is no fact '{}'", piece.text);
      if (!holds(reason_.facts, piece.text))
        return fmt::format("the fact '{}' is foreign to the reason", piece.text);
      if (!holds(cited, piece.text)) cited.push_back(piece.text);
    }
    for (const std::string& id : statement_.facts)
      if (!holds(cited, id)) return fmt::format("the fact '{}' is listed, but not cited", id);
    if (cited.size() != statement_.facts.size()) return "a fact is cited that is not listed";
    for (const std::string& id : reason_.needs)
      if (!holds(cited, id)) return fmt::format("the reason needs the fact '{}'", id);
    return std::nullopt;
  }

  /// Each sentence says something of a fact.
  std::optional<std::string> check_sentences() const {
    bool cited = false, any = false;
    for (const Piece& piece : pieces_) {
      cited = cited || is_slot(piece);
      any = any || is_word(piece);
      if (piece.kind != Piece::Kind::stop || piece.text != ".") continue;
      if (any && !cited) return "a sentence cites no fact";
      cited = any = false;
    }
    if (any && !cited) return "a sentence cites no fact";
    return std::nullopt;
  }

  /// One cause, and it is what the counterfactual moves.
  std::optional<std::string> check_causes() const {
    const Causes causes = causes_of(reason_);
    size_t number = 0;
    for (size_t at = 0; at < pieces_.size(); ++at) {
      if (is_aim(pieces_, at)) return "an aim is named; reasons have causes";
      if (!is_causal(pieces_, at)) continue;
      if (++number > 1) return "there is more than one cause";
      const Span clause = cause_clause(pieces_, at);
      bool given = false;
      for (size_t i = clause.begin; i < clause.end; ++i) {
        given = given || (is_slot(pieces_[i]) ? holds(causes.slots, pieces_[i].text)
                                              : holds(causes.words, pieces_[i].text));
      }
      if (!given) return fmt::format("what '{}' gives is not the cause", pieces_[at].text);
      bool told = false;
      for (size_t i = 0; i < pieces_.size(); ++i)
        told = told || (i != at && (i < clause.begin || i >= clause.end) && in_sentence_of(i, at) &&
                        (is_slot(pieces_[i]) || holds(causes.outcomes, pieces_[i].text)));
      if (!told) return fmt::format("what '{}' explains is not the outcome", pieces_[at].text);
    }
    return std::nullopt;
  }

  bool in_sentence_of(size_t i, size_t at) const {
    for (size_t k = std::min(i, at); k < std::max(i, at); ++k)
      if (pieces_[k].text == "." && pieces_[k].kind == Piece::Kind::stop) return false;
    return true;
  }

  /// Whether a unit's noun behind a slot is its own fact's name: "{token} in layer {layer}".
  bool names_the_next(size_t noun) const { return noun + 1 < pieces_.size() && is_slot(pieces_[noun + 1]); }

  std::optional<std::string> check_unit(size_t slot) const {
    size_t next = slot + 1;
    while (next < pieces_.size() && is_word(pieces_[next]) && holds(kOfUnits, pieces_[next].text)) ++next;
    if (next >= pieces_.size() || !is_word(pieces_[next]) || !holds(kAfterNumbers, pieces_[next].text) ||
        names_the_next(next))
      return std::nullopt;
    return fmt::format("'{}' stands behind a slot, which has its own unit", pieces_[next].text);
  }

  bool is_name(std::string_view word) const {
    return std::ranges::any_of(subject_.facts, [&](const Fact& fact) { return holds(fact.names, word); });
  }

  std::optional<std::string> check_word(size_t at) const {
    const std::string& word = pieces_[at].text;
    const bool negation = holds(kNegations, word);
    const bool known = std::ranges::binary_search(lexicon(), std::string_view(word)) || is_name(word) ||
                       holds(words_, word) || holds(reason_.negated, word) ||
                       (negation && !reason_.negated.empty()) || (reason_.causal && holds(kCausal, word));
    if (!known) return fmt::format("the word '{}' is not one of this reason's", word);
    if (holds(kDirections, word) && !compares_first(at))
      return fmt::format("'{}' is said of the wrong fact", word);
    if (negation && !stands_near(at, +1)) return fmt::format("'{}' negates what it must not", word);
    if (negation && is_denied(at)) return fmt::format("'{}' denies a denial", word);
    if (holds(reason_.negated, word) && !stands_near(at, -1))
      return fmt::format("'{}' must be negated", word);
    return std::nullopt;
  }

  /// Whether the nearest name or slot before, in the sentence, is the first of the comparison.
  bool compares_first(size_t at) const {
    if (reason_.ordered.empty()) return true;
    const Fact* first = subject_.fact(reason_.ordered.front());
    for (size_t i = at; i-- > 0 && pieces_[i].kind != Piece::Kind::stop;) {
      if (pieces_[i].kind == Piece::Kind::slot) return pieces_[i].text == reason_.ordered.front();
      if (is_name(pieces_[i].text)) return first && holds(first->names, pieces_[i].text);
    }
    return false;
  }

  /// Whether a word to be negated follows a negation, or a negation stands before such a word.
  bool stands_near(size_t at, int direction) const {
    for (size_t step = 1, i = at; step <= kNotReach; ++step) {
      if (direction < 0 ? i == 0 : i + 1 == pieces_.size()) return false;
      i = direction < 0 ? i - 1 : i + 1;
      if (pieces_[i].kind != Piece::Kind::word) return false;
      if (direction < 0 ? holds(kNegations, pieces_[i].text) : holds(reason_.negated, pieces_[i].text))
        return true;
    }
    return false;
  }

  /// Whether another negation stands just before one.
  bool is_denied(size_t at) const {
    for (size_t step = 1; step <= kNotReach && step <= at; ++step) {
      if (!is_word(pieces_[at - step])) return false;
      if (holds(kNegations, pieces_[at - step].text)) return true;
    }
    return false;
  }

  /// The nearest name before a slot, in its sentence, must be its own, and no unit stands between.
  std::optional<std::string> check_name(size_t at) const {
    const Fact& fact = *subject_.fact(pieces_[at].text);
    if (fact.names.empty()) return check_nameless(at);
    size_t words = 0;
    for (size_t i = at; i-- > 0 && words < kNameReach;) {
      const Piece& piece = pieces_[i];
      if (piece.kind == Piece::Kind::stop && piece.text != ":") break;
      if (piece.kind == Piece::Kind::slot) break;
      if (piece.kind != Piece::Kind::word) continue;
      ++words;
      if (holds(fact.names, piece.text)) return std::nullopt;
      if (is_name(piece.text))
        return fmt::format("{{{}}} stands behind '{}', which is another fact", fact.id, piece.text);
      if (!std::ranges::binary_search(lexicon(), std::string_view(piece.text)) && !holds(kLinks, piece.text))
        return fmt::format("{{{}}} stands behind '{}', which does not name it", fact.id, piece.text);
    }
    return fmt::format("{{{}}} is not called by its name before", fact.id);
  }

  /// A slot that needs no name must not stand where another fact's name asks for its own.
  std::optional<std::string> check_nameless(size_t at) const {
    if (at > 0 && is_word(pieces_[at - 1]) && !holds(kBeforeNames, pieces_[at - 1].text))
      return fmt::format("{{{}}} stands behind '{}', which does not lead to it", pieces_[at].text,
                         pieces_[at - 1].text);
    for (size_t i = at, words = 0; i-- > 0 && words < kNotReach;) {
      const Piece& piece = pieces_[i];
      if (is_slot(piece) || piece.kind == Piece::Kind::stop) break;
      if (!is_word(piece)) continue;
      ++words;
      if (is_name(piece.text) || holds(kAfterNumbers, piece.text))
        return fmt::format("{{{}}} stands behind '{}', which is another fact", pieces_[at].text, piece.text);
    }
    return std::nullopt;
  }

  std::optional<std::string> check_order() const {
    size_t reached = 0;
    for (const Piece& piece : pieces_) {
      if (piece.kind == Piece::Kind::stop) reached = 0;
      if (piece.kind != Piece::Kind::slot) continue;
      const auto place = std::ranges::find(reason_.ordered, piece.text) - reason_.ordered.begin();
      if (place == static_cast<std::ptrdiff_t>(reason_.ordered.size())) continue;
      if (static_cast<size_t>(place) < reached)
        return fmt::format("{{{}}} comes too late for the comparison", piece.text);
      reached = static_cast<size_t>(place);
    }
    return std::nullopt;
  }

  const Statement& statement_;
  const Reason& reason_;
  const Subject& subject_;
  std::vector<std::string> words_;
  std::vector<Piece> pieces_;
};

}  // namespace

std::optional<std::string> find_fault(const Statement& statement, const Subject& subject) {
  const Reason* reason = subject.reason(statement.reason);
  if (!reason) return fmt::format("'{}' is no reason here", statement.reason);
  return Checker(statement, *reason, subject).run();
}

std::string filled(const Statement& statement, const Subject& subject) {
  std::string text;
  std::string_view rest = statement.text;
  for (size_t open; (open = rest.find('{')) != std::string_view::npos;) {
    const size_t close = rest.find('}', open);
    const Fact* fact = subject.fact(rest.substr(open + 1, close - open - 1));
    QTF_ASSERT(fact != nullptr);
    text += rest.substr(0, open);
    text += fact->text;
    rest.remove_prefix(close + 1);
  }
  return text += rest;
}

std::vector<Statement> parse_statements(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  const auto list = json.is_object() ? json.find("statements") : json.end();
  if (!json.is_object() || list == json.end() || !list->is_array())
    throw_input_error("explain", "the answer is no JSON object with a list of statements");
  if (list->size() > kMostStatements)
    throw_input_error("explain", "the answer has {} statements", list->size());
  std::vector<Statement> statements;
  for (const nlohmann::json& one : *list) {
    const auto text_of = [&](const char* key) {
      if (!one.is_object() || !one.contains(key) || !one[key].is_string())
        throw_input_error("explain", "a statement has no '{}'", key);
      return one[key].get<std::string>();
    };
    Statement statement{text_of("reason"), {}, text_of("text")};
    if (statement.text.size() > kMostText) throw_input_error("explain", "a statement's text is too long");
    if (!one.contains("facts") || !one["facts"].is_array())
      throw_input_error("explain", "a statement has no 'facts'");
    for (const nlohmann::json& id : one["facts"]) {
      if (!id.is_string()) throw_input_error("explain", "a fact's id is no string");
      statement.facts.push_back(id.get<std::string>());
    }
    statements.push_back(std::move(statement));
  }
  return statements;
}

const std::vector<std::string_view>& lexicon() {
  static const std::vector<std::string_view> words = [] {
    // No negation, no comparison, no cause, no number, no unit, no praise, nothing with a meaning of its own.
    std::vector<std::string_view> list = {
        "a",    "an",   "and",   "any",  "at",    "are",   "as",    "been",  "being", "but",  "by",   "do",
        "does", "each", "for",   "from", "had",   "has",   "have",  "here",  "in",    "is",   "it",   "its",
        "of",   "on",   "one's", "or",   "that",  "the",   "their", "there", "these", "they", "this", "those",
        "to",   "was",  "were",  "when", "where", "which", "while", "with",  "would"};
    std::ranges::sort(list);
    return list;
  }();
  return words;
}

std::vector<std::string> words_of(const Reason& reason) {
  // Words that mean something in a model: a reason lends those that its own sentence has in some form.
  static constexpr std::string_view kMeaning[] = {
      "attention", "before",  "calibration", "chain",      "choice",    "chosen",  "circuit", "common",
      "count",     "decided", "decision",    "dense",      "entropy",   "file",    "form",    "given",
      "keeps",     "kept",    "layer",       "made",       "map",       "maps",    "matrix",  "measured",
      "merged",    "model",   "model's",     "parameters", "predicted", "quantum", "rank",    "ranks",
      "recorded",  "router",  "router's",    "runs",       "set",       "size",    "sizes",   "stands",
      "stays",     "stored",  "stores",      "taken",      "takes",     "taking",  "text",    "through",
      "token",     "token's", "tokens",      "took",       "whole",     "machine", "among",   "passes"};
  constexpr size_t kStem = 4;  // letters in which forms of a word agree
  std::vector<Piece> own;
  split(reason.text, own);
  std::vector<std::string> words = reason.words;
  for (const std::string_view word : kMeaning) {
    const bool lent = std::ranges::any_of(own, [&](const Piece& piece) {
      return is_word(piece) && std::string_view(piece.text).substr(0, kStem) == word.substr(0, kStem);
    });
    if (lent && !holds(words, word)) words.emplace_back(word);
  }
  return words;
}

}  // namespace qtf::explain
