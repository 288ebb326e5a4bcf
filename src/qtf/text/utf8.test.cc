#include "qtf/text/utf8.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/text/random_text.h"

namespace qtf::text {
namespace {

TEST(Utf8, FindsTheFirstInvalidByte) {
  const struct {
    std::string text;
    size_t bad;
  } kCases[] = {
      {"", std::string::npos},
      {"plain ASCII, longer than eight bytes", std::string::npos},
      {"caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", std::string::npos},
      {"\xF4\x8F\xBF\xBF", std::string::npos},
      {"12345678\x80", 8},
      {"abc\xFF", 3},
      {"\xC0\x80", 0},          // overlong
      {"\xC1\xBF", 0},          // overlong
      {"a\xE0\x9F\xBF", 1},     // overlong
      {"\xF0\x8F\xBF\xBF", 0},  // overlong
      {"\xED\xA0\x80", 0},      // surrogate
      {"\xF4\x90\x80\x80", 0},  // beyond U+10FFFF
      {"\xF5\x80\x80\x80", 0},
      {"ab\xE2\x82", 2},  // cut short
      {"ab\xE2\x82"
       "c",
       2},
      {"\xF0\x9F\x98", 0},
      {"\xC3", 0},
  };
  for (const auto& [text, bad] : kCases) EXPECT_EQ(find_invalid_utf8(text), bad) << text;
}

TEST(Utf8, RequireNamesPlaceAndByte) {
  require_utf8("fine", "here");
  try {
    require_utf8("abc\xFF", "here");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("[here]"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("byte 3"), std::string::npos);
  }
}

TEST(Utf8, CodePointsRoundTrip) {
  for (char32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 97) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text = "x";
    append_code_point(c, text);
    ASSERT_EQ(find_invalid_utf8(text), std::string::npos);
    size_t position = 1;
    ASSERT_EQ(read_code_point(text, position), c);
    ASSERT_EQ(position, text.size());
    ASSERT_EQ(code_point_before(text, text.size()), c);
  }
}

TEST(Utf8, CompletePrefixEndsBetweenCharacters) {
  const std::string text = random_text(1, 200);
  for (size_t n = 0; n <= text.size(); ++n) {
    const size_t whole = complete_utf8_prefix(std::string_view(text).substr(0, n));
    ASSERT_LE(n - whole, 3u);
    ASSERT_EQ(find_invalid_utf8(std::string_view(text).substr(0, whole)), std::string::npos);
    if (n == text.size() || !is_continuation(text[n])) {
      ASSERT_EQ(whole, n);
    }
  }
  EXPECT_EQ(complete_utf8_prefix("\x80\x80\x80\x80"), 4u);
}

TEST(Utf8, WhiteSpaceIsUnicodes) {
  for (const char32_t c : {U'\t', U' ', U'\u0085', U'\u00a0', U'\u2003', U'\u3000'})
    EXPECT_TRUE(is_white_space(c));
  for (const char32_t c : {U'a', U'\x1c', U'\u180e', U'\u200b', U'\ufeff'}) EXPECT_FALSE(is_white_space(c));
}

TEST(Utf8, LastWordEnd) {
  const struct {
    std::string_view text;
    size_t end;
  } kCases[] = {{"", 0},          {"word", 0},           {" word", 0},
                {"two words", 3}, {"two words ", 9},     {"a\n\nb", 1},
                {"a \n \n", 1},   {"\xE3\x80\x80 x", 0}, {"\xE3\x80\x82\nx", 3}};
  for (const auto& [text, end] : kCases) EXPECT_EQ(last_word_end(text), end) << text;
}

}  // namespace
}  // namespace qtf::text
