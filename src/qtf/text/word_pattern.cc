#define PCRE2_CODE_UNIT_WIDTH 8
#include "qtf/text/word_pattern.h"

#include <pcre2.h>

#include <string>

#include "qtf/base/error.h"

namespace qtf::text {

namespace {

// The pattern of GPT-2's encoder.py. Its \s is Unicode's White_Space, spelt out here because PCRE2's own also
// takes U+180E.
#define QTF_SPACE \
  R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})"
constexpr char kPattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" QTF_SPACE
                            R"(\p{L}\p{N}]+|[)" QTF_SPACE R"(]+(?![^)" QTF_SPACE R"(])|[)" QTF_SPACE R"(]+)";
#undef QTF_SPACE

std::string pcre2_message(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct WordPattern::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

struct WordPattern::Words::State {
  pcre2_match_data* match = nullptr;
  ~State() { pcre2_match_data_free(match); }
};

WordPattern::WordPattern() : code_(std::make_unique<Code>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kPattern), PCRE2_ZERO_TERMINATED,
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (!code_->code) throw_io_error("tokenizer", "PCRE2 refuses the word pattern: {}", pcre2_message(error));
  // Where there is no JIT, matching is interpreted, to the same result.
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);
}

WordPattern::~WordPattern() = default;

WordPattern::Words::Words(const WordPattern& pattern, std::string_view text)
    : state_(std::make_unique<State>()), pattern_(pattern), text_(text) {
  state_->match = pcre2_match_data_create(1, nullptr);
  if (!state_->match) throw std::bad_alloc();
}

WordPattern::Words::~Words() = default;

std::string_view WordPattern::Words::next() {
  if (position_ == text_.size()) return {};
  const int found = pcre2_match(pattern_.code_->code, reinterpret_cast<PCRE2_SPTR>(text_.data()),
                                text_.size(), position_, PCRE2_NO_UTF_CHECK, state_->match, nullptr);
  if (found < 0) throw_io_error("encode", "PCRE2 failed at byte {}: {}", position_, pcre2_message(found));
  const PCRE2_SIZE end = pcre2_get_ovector_pointer(state_->match)[1];
  const std::string_view word = text_.substr(position_, end - position_);
  position_ = end;
  return word;
}

}  // namespace qtf::text
