#include "qtf/audit/canonical.h"

#include <algorithm>
#include <cstdlib>

#include "qtf/base/error.h"

namespace qtf::audit {

namespace {

bool is_key_character(char c) {
  return c >= ' ' && c <= '~' && c != '"' && c != '\\';
}

void check_integer(const nlohmann::json& value) {
  const bool small = value.is_number_unsigned() ? value.get<uint64_t>() < static_cast<uint64_t>(kIntegerLimit)
                                                : std::abs(value.get<int64_t>() / 2) < kIntegerLimit / 2;
  if (!small)
    throw_input_error("audit record", "{} is too large for an integer; write it as a string", value.dump());
}

void check_holdable(const nlohmann::json& value, int depth) {
  if (depth > kMostDepth) throw_input_error("audit record", "nested more than {} deep", kMostDepth);
  if (value.is_string()) return;
  if (value.is_number_integer()) return check_integer(value);
  if (!value.is_structured())
    throw_input_error("audit record", "a record holds strings and integers only, not {} ({})", value.dump(),
                      value.type_name());
  for (const auto& [key, member] : value.items()) {
    if (value.is_object() && !std::all_of(key.begin(), key.end(), is_key_character))
      throw_input_error("audit record", "the key '{}' has characters that are not plain ASCII",
                        nlohmann::json(key).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
    check_holdable(member, depth + 1);
  }
}

}  // namespace

std::string canonical(const nlohmann::json& value) {
  check_holdable(value, 0);
  return value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

void CanonicalReader::fail(std::string_view expected) const {
  throw_input_error("audit record", "expected {} at byte {}", expected, at_);
}

void CanonicalReader::expect(std::string_view bytes) {
  if (!next_is(bytes)) fail(bytes);
  at_ += bytes.size();
}

void CanonicalReader::end() const {
  if (at_ != text_.size()) fail("the end");
}

std::string_view CanonicalReader::value() {
  const size_t begin = at_;
  any(0);
  return text_.substr(begin, at_ - begin);
}

void CanonicalReader::any(int depth) {
  if (depth > kMostDepth) fail("less nesting");
  switch (peek()) {
    case '{':
      return members(depth);
    case '[':
      return items(depth);
    case '"':
      string();
      return;
    default:
      return integer();
  }
}

void CanonicalReader::members(int depth) {
  expect("{");
  if (next_is("}")) return expect("}");
  std::string_view last;
  for (bool first = true;; first = false) {
    const std::string_view key = string();
    if (!std::all_of(key.begin(), key.end(), is_key_character)) fail("a key of plain characters before");
    if (!first && key <= last) fail("sorted keys before");
    last = key;
    expect(":");
    any(depth + 1);
    if (next_is("}")) return expect("}");
    expect(",");
  }
}

void CanonicalReader::items(int depth) {
  expect("[");
  if (next_is("]")) return expect("]");
  for (;;) {
    any(depth + 1);
    if (next_is("]")) return expect("]");
    expect(",");
  }
}

void CanonicalReader::integer() {
  if (peek() == '-') ++at_;
  const size_t begin = at_;
  int64_t number = 0;
  while (peek() >= '0' && peek() <= '9') {
    number = number * 10 + (text_[at_++] - '0');
    if (number >= kIntegerLimit) fail("an integer below 2^53 before");
  }
  const bool negative = begin > 0 && text_[begin - 1] == '-';
  const bool leading_zero = at_ > begin && text_[begin] == '0' && (at_ > begin + 1 || negative);
  if (at_ == begin || leading_zero) fail("an integer, a string, an object or an array before");
}

std::string_view CanonicalReader::string() {
  expect("\"");
  const size_t begin = at_;
  for (;;) {
    while (at_ < text_.size() && is_key_character(text_[at_])) ++at_;
    if (peek() == '"') break;
    if (peek() != '\\') fail("a printable ASCII character");
    escape();
  }
  ++at_;
  return text_.substr(begin, at_ - 1 - begin);
}

void CanonicalReader::escape() {
  ++at_;
  const char c = peek();
  if (c != 'u') {
    if (c == '\0' || std::string_view("\"\\bfnrt").find(c) == std::string_view::npos) fail("an escape");
    ++at_;
    return;
  }
  ++at_;
  const uint32_t unit = code_unit();
  const bool has_short_form =
      unit < 0x20 && std::string_view("\b\f\n\r\t").find(static_cast<char>(unit)) != std::string_view::npos;
  const bool is_plain = unit >= 0x20 && unit < 0x7f;
  if (has_short_form || is_plain) fail("the shortest escape before");
  if (unit >= 0xdc00 && unit < 0xe000) fail("the first of two surrogates before");
  if (unit < 0xd800 || unit >= 0xe000) return;
  expect("\\u");
  const uint32_t low = code_unit();
  if (low < 0xdc00 || low >= 0xe000) fail("the second of two surrogates before");
}

uint32_t CanonicalReader::code_unit() {
  uint32_t unit = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = peek();
    if (c >= '0' && c <= '9')
      unit = unit * 16 + static_cast<uint32_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
      unit = unit * 16 + static_cast<uint32_t>(c - 'a' + 10);
    else
      fail("four hexadecimal digits");
  }
  return unit;
}

}  // namespace qtf::audit
