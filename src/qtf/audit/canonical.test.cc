#include "qtf/audit/canonical.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"

namespace qtf::audit {
namespace {

using nlohmann::json;

bool reads(std::string_view text) {
  CanonicalReader reader(text);
  try {
    reader.value();
    reader.end();
    return true;
  } catch (const InputError&) {
    return false;
  }
}

TEST(Canonical, WritesWhatItReads) {
  const std::pair<json, std::string> cases[] = {
      {json::object(), "{}"},
      {json::array(), "[]"},
      {"", "\"\""},
      {0, "0"},
      {-17, "-17"},
      {kIntegerLimit - 1, "9007199254740991"},
      {1 - kIntegerLimit, "-9007199254740991"},
      {{{"b", 1}, {"a", {"x", 2, json::object()}}, {"B", "y"}}, R"({"B":"y","a":["x",2,{}],"b":1})"},
      {"quote \" back \\ slash / bell \a del \x7f", R"("quote \" back \\ slash / bell \u0007 del \u007f")"},
      {"\b\f\n\r\t\x1f", R"("\b\f\n\r\t\u001f")"},
      {"na\xC3\xAFve \xF0\x9F\x98\x80", R"("na\u00efve \ud83d\ude00")"},
      {"no UTF-8: \xFF", R"("no UTF-8: \ufffd")"}};
  for (const auto& [value, text] : cases) {
    EXPECT_EQ(canonical(value), text);
    EXPECT_TRUE(reads(text)) << text;
    EXPECT_EQ(canonical(json::parse(text)), text);
  }
}

TEST(Canonical, HoldsNothingElse) {
  json deep = 1;
  for (int i = 0; i <= kMostDepth; ++i) deep = json::array({deep});
  const json bad[] = {1.5,
                      true,
                      false,
                      nullptr,
                      kIntegerLimit,
                      -kIntegerLimit,
                      uint64_t{1} << 63,
                      INT64_MIN,
                      json{{"a", {1, {{"b", nullptr}}}}},
                      json{{"k\xC3\xA9y", 1}},
                      json{{"a\"", 1}},
                      deep};
  for (const json& value : bad) EXPECT_THROW(canonical(value), InputError) << value;
  EXPECT_NO_THROW(canonical(deep[0]));
  EXPECT_TRUE(reads(canonical(deep[0])));
  EXPECT_FALSE(reads(deep.dump()));
}

TEST(Canonical, OtherSpellingsAreRefused) {
  for (const char* text : {"",
                           " {}",
                           "{} ",
                           "{ }",
                           "[1,]",
                           "[,1]",
                           "[1 ,2]",
                           "{\"a\":1,}",
                           "{\"a\" :1}",
                           "{\"b\":1,\"a\":2}",
                           "{\"a\":1,\"a\":2}",
                           "{a:1}",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{",
                           "[",
                           "\"",
                           "\"\\",
                           "\"\\u",
                           "\"\\u12",
                           "\"\\u0041\"",
                           "\"\\u000a\"",
                           "\"\\u00E9\"",
                           "\"\\/\"",
                           "\"\\x41\"",
                           "\"\\ud83d\"",
                           "\"\\ude00\"",
                           "\"\\ud83d\\u0041\"",
                           "\"\\ud83dxxxxxx\"",
                           "\"\n\"",
                           "\"\x7f\"",
                           "\"\xC3\xA9\"",
                           "01",
                           "-0",
                           "-",
                           "+1",
                           "1.0",
                           "1e3",
                           "9007199254740992",
                           "99999999999999999999",
                           "true",
                           "null",
                           "{\"a\\n\":1}",
                           "{}{}"}) {
    EXPECT_FALSE(reads(text)) << text;
  }
}

TEST(Canonical, ErrorsNameTheByte) {
  CanonicalReader reader(R"({"a":1.5})");
  try {
    reader.value();
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("at byte 6"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace qtf::audit
