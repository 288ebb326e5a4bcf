// The one spelling in which records are written (docs/audit.md): JSON of objects, arrays, strings and
// integers, ASCII, keys sorted, no spaces. Python's json.dumps(x, sort_keys=True, separators=(",", ":")).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "qtf/base/json.h"

namespace qtf::audit {

/// Integers in records are below this in absolute value; larger ones are written as decimal strings.
inline constexpr int64_t kIntegerLimit = int64_t{1} << 53;

/// Deepest nesting of objects and arrays.
inline constexpr int kMostDepth = 64;

/// The canonical text. Bytes that are no UTF-8 become U+FFFD. Throws InputError naming the value that a
/// record cannot hold: a real number, true, false, null, a larger integer, a key with other characters, or
/// nesting beyond kMostDepth.
std::string canonical(const nlohmann::json& value);

/// Reads canonical text from its beginning, piece by piece. Every call throws InputError with the byte at
/// which the text is not canonical.
class CanonicalReader {
 public:
  explicit CanonicalReader(std::string_view text) : text_(text) {}

  /// Takes exactly these bytes.
  void expect(std::string_view bytes);
  /// Whether these bytes come next.
  bool next_is(std::string_view bytes) const { return text_.substr(at_).starts_with(bytes); }
  /// Takes a value of any kind and returns its text.
  std::string_view value();
  /// Takes a string and returns its text as it is written, without the quotes.
  std::string_view string();
  /// Throws unless all was taken.
  void end() const;

 private:
  [[noreturn]] void fail(std::string_view expected) const;
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void any(int depth);
  void members(int depth);
  void items(int depth);
  void integer();
  void escape();
  uint32_t code_unit();

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace qtf::audit
