// The rules by which text is split into words before byte pairs are merged, through PCRE2.
#pragma once

#include <memory>
#include <span>
#include <string_view>

namespace qtf::text {

/// One rule. Its name is GGUF's ("tokenizer.ggml.pre").
struct WordRule {
  std::string_view name;
  std::string_view summary;
  std::string_view pattern;        ///< matches cover any text
  std::string_view pre_tokenizer;  ///< how tokenizer.json says it, in JSON
  bool joins_line_ends;            ///< a line end may belong to the word before it
};

/// Every rule. To add one, add a row in word_pattern.cc.
std::span<const WordRule> word_rules();

/// Throws InputError naming the rules that exist; `place` names who asks.
const WordRule& find_word_rule(std::string_view name, std::string_view place);

/// The compiled pattern. Immutable; safe to use from many threads.
class WordPattern {
 public:
  explicit WordPattern(const WordRule& rule = word_rules()[0]);
  ~WordPattern();
  WordPattern(const WordPattern&) = delete;
  WordPattern& operator=(const WordPattern&) = delete;

  /// Goes through the words of one text; they cover it without gaps.
  class Words {
   public:
    /// `text` must be valid UTF-8 and outlive this.
    Words(const WordPattern& pattern, std::string_view text);
    ~Words();
    Words(const Words&) = delete;
    Words& operator=(const Words&) = delete;

    /// The next word, or an empty view at the end.
    std::string_view next();

   private:
    struct State;
    std::unique_ptr<State> state_;
    const WordPattern& pattern_;
    std::string_view text_;
    size_t position_ = 0;
  };

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace qtf::text
