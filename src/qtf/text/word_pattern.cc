#define PCRE2_CODE_UNIT_WIDTH 8
#include "qtf/text/word_pattern.h"

#include <pcre2.h>

#include <string>

#include "qtf/base/error.h"

namespace qtf::text {

namespace {

// Python's and Rust's \s is Unicode's White_Space, spelt out here because PCRE2's own also takes U+180E.
#define QTF_SPACE \
  R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})"

constexpr WordRule kRules[] = {
    {.name = "gpt-2",
     .summary = "GPT-2's encoder.py",
     .pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" QTF_SPACE R"(\p{L}\p{N}]+|[)" QTF_SPACE
                R"(]+(?![^)" QTF_SPACE R"(])|[)" QTF_SPACE R"(]+)",
     .pre_tokenizer = R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})",
     .joins_line_ends = false},
    // Digits stand alone: white space before one is a word of its own, whole.
    {.name = "smollm",
     .summary = "SmolLM's: GPT-2's with single digits",
     .pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^)" QTF_SPACE R"(\p{L}\p{N}]+|[)" QTF_SPACE
                R"(]+(?![^)" QTF_SPACE R"(\p{N}])|[)" QTF_SPACE R"(]+)",
     .pre_tokenizer =
         R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]})",
     .joins_line_ends = false},
    {.name = "llama-bpe",
     .summary = "Llama 3's",
     .pattern = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^)" QTF_SPACE
                R"(\p{L}\p{N}]+[\r\n]*|[)" QTF_SPACE R"(]*[\r\n]+|[)" QTF_SPACE R"(]+(?![^)" QTF_SPACE
                R"(])|[)" QTF_SPACE R"(]+)",
     .pre_tokenizer =
         R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]})",
     .joins_line_ends = true},
};
#undef QTF_SPACE

std::string pcre2_message(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

std::span<const WordRule> word_rules() {
  return kRules;
}

const WordRule& find_word_rule(std::string_view name, std::string_view place) {
  std::string known;
  for (const WordRule& rule : kRules) {
    if (rule.name == name) return rule;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", rule.name);
  }
  throw_input_error("tokenizer", "{}: the word rule \"{}\" is not supported; {} are", place, name, known);
}

struct WordPattern::Code {
  pcre2_code* code = nullptr;
  ~Code() { pcre2_code_free(code); }
};

struct WordPattern::Words::State {
  pcre2_match_data* match = nullptr;
  ~State() { pcre2_match_data_free(match); }
};

WordPattern::WordPattern(const WordRule& rule) : code_(std::make_unique<Code>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rule.pattern.data()), rule.pattern.size(),
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
