// UTF-8: checking, reading and writing code points. Corpora, tokenizers and streamed generation use it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace qtf::text {

/// The offset of the first byte that does not begin or continue a valid UTF-8 sequence (Unicode 15, table
/// 3-7: no surrogates, no overlong forms, at most U+10FFFF), or npos if all of `text` is valid.
size_t find_invalid_utf8(std::string_view text);

/// Throws InputError with the byte offset if `text` is not valid UTF-8. `place` names the caller.
void require_utf8(std::string_view text, std::string_view place);

/// Length in bytes of the longest prefix of `text` that does not end inside a UTF-8 sequence: what a stream
/// may print now. Bytes that cannot begin a sequence count as whole.
size_t complete_utf8_prefix(std::string_view text);

/// Whether `byte` continues a sequence (10xxxxxx).
inline bool is_continuation(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

/// Reads the code point at `position` of valid UTF-8 and moves `position` behind it.
char32_t read_code_point(std::string_view text, size_t& position);

/// The code point that ends right before `position` > 0 of valid UTF-8.
char32_t code_point_before(std::string_view text, size_t position);

/// Appends the UTF-8 form of `code_point` (<= U+10FFFF).
void append_code_point(char32_t code_point, std::string& out);

/// Unicode's White_Space property.
bool is_white_space(char32_t code_point);

/// The last position p > 0 of valid UTF-8 `text` where a blank or line end follows a character that is not
/// white space, or 0 if there is none. Tokenizers that never join the two split exactly there.
size_t last_word_end(std::string_view text);

}  // namespace qtf::text
