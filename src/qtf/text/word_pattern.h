// GPT-2's rule for splitting text into words before byte pairs are merged, through PCRE2.
#pragma once

#include <memory>
#include <string_view>

namespace qtf::text {

/// The compiled pattern. Immutable; safe to use from many threads.
class WordPattern {
 public:
  WordPattern();
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
