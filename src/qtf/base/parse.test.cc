#include "qtf/base/parse.h"

#include <gtest/gtest.h>

#include <limits>

#include "qtf/base/error.h"

namespace qtf {
namespace {

TEST(ParseCount, ReadsNumbersAsPeopleTypeThem) {
  const std::pair<const char*, int64_t> cases[] = {
      {"0", 0},
      {"2000", 2000},
      {"007", 7},
      {"1_000", 1000},
      {"2M", 2'000'000},
      {"50k", 50'000},
      {"50K", 50'000},
      {"3G", 3000000000},
      {"1.25M", 1250000},
      {"1_000.5k", 1000500},
      {"1.500k", 1500},
      {"2.0", 2},
      {"9223372036854775807", std::numeric_limits<int64_t>::max()},
  };
  for (const auto& [text, value] : cases) EXPECT_EQ(parse_count(text, "--steps"), value) << text;
}

TEST(ParseCount, RefusesTheRest) {
  for (const char* text : {"",
                           "k",
                           "-1",
                           "+1",
                           " 1",
                           "1 ",
                           "1,000",
                           "1__0",
                           "_1",
                           "1_",
                           "1.",
                           ".5k",
                           "1.2.3k",
                           "1.5",
                           "1.2345k",
                           "2m",
                           "2MB",
                           "1e3",
                           "0x10",
                           "1_k",
                           "nan",
                           "9223372036854775808",
                           "99999999999G"}) {
    EXPECT_THROW(parse_count(text, "--steps"), InputError) << text;
  }
}

TEST(ParseCount, SaysWhoseValueItIs) {
  try {
    parse_count("many", "--steps");
    FAIL() << "nothing thrown";
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "[--steps] expected a whole number such as 2000, 50k or 2M, got 'many'");
  }
}

constexpr std::string_view kWords[] = {"train", "eval", "generate", "tokenize", "info", "--temperature"};

TEST(Closest, FindsSlipsOfTheFinger) {
  const std::pair<const char*, const char*> cases[] = {
      {"trian", "train"},
      {"tran", "train"},
      {"TRAIN", "train"},
      {"evaluate", ""},
      {"gen", "generate"},
      {"genrate", "generate"},
      {"--temp", "--temperature"},
      {"inof", "info"},
      {"xyz", ""},
      {"", ""},
      {"i", ""},
      {"tokenise", "tokenize"},
  };
  for (const auto& [word, expected] : cases) EXPECT_EQ(closest(word, kWords), expected) << word;
  EXPECT_EQ(closest("train", {}), "");
}

TEST(Closest, BecomesAHint) {
  EXPECT_EQ(did_you_mean("trian", kWords), " (did you mean train?)");
  EXPECT_EQ(did_you_mean("quantum", kWords), "");
}

TEST(Format, ThreeDigits) {
  const std::pair<int64_t, const char*> cases[] = {
      {0, "0"},
      {950, "950"},
      {1000, "1 k"},
      {51000, "51 k"},
      {1250000, "1.25 M"},
      {999'949, "1 M"},
      {999'499, "999 k"},
      {-1500, "-1.5 k"},
      {48'800'000'000, "48.8 G"},
      {std::numeric_limits<int64_t>::max(), "9.22 E"},
  };
  for (const auto& [count, text] : cases) EXPECT_EQ(format_count(count), text);
  EXPECT_EQ(format_bytes(12), "12 B");
  EXPECT_EQ(format_bytes(5'012'345), "5.01 MB");
}

}  // namespace
}  // namespace qtf
