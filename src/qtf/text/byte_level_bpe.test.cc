#include "qtf/text/byte_level_bpe.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/text/random_text.h"
#include "qtf/text/small_bpe.h"

namespace qtf::text {
namespace {

namespace fs = std::filesystem;

const fs::path kGpt2 = fs::path(QTF_SHARED_DIR) / "data/tokenizers/gpt2";

std::shared_ptr<const Tokenizer> gpt2() {
  static const auto tokenizer =
      open_byte_level_bpe(read_file(kGpt2 / "encoder.json"), read_file(kGpt2 / "vocab.bpe"));
  return tokenizer;
}

TEST(ByteLevelBpe, MergesByRankAllPlacesAtOnce) {
  const auto tokenizer = open_byte_level_bpe(small_vocabulary({"ab", "abab", "bc", "aa"}),
                                             "#version: 0.2\na b\nab ab\nb c\na a\n");
  const struct {
    std::string text;
    std::vector<int32_t> ids;
  } kCases[] = {{"", {}},
                {"ab", {256}},
                {"ababab", {257, 256}},
                {"abc", {256, 'c'}},
                {"bc", {258}},
                {"aaaaa", {259, 259, 'a'}},
                {" ab", {' ', 256}}};
  for (const auto& [text, ids] : kCases) EXPECT_EQ(tokenizer->encode(text), ids) << text;
}

TEST(ByteLevelBpe, RoundTripsAnyUtf8) {
  const auto tokenizer = open_byte_level_bpe(small_vocabulary({"th", "the", "an"}), "t h\nth e\na n\n");
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::string text = random_text(seed, 200);
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text) << seed;
  }
  EXPECT_THROW(tokenizer->encode("a\xC3"), InputError);
  EXPECT_THROW(tokenizer->token_bytes(tokenizer->vocabulary_size()), InputError);
}

TEST(ByteLevelBpe, LongWordsTakeNoQuadraticTime) {
  const auto tokenizer = open_byte_level_bpe(small_vocabulary({"aa", "aaaa"}), "a a\naa aa\n");
  EXPECT_EQ(tokenizer->encode(std::string(1 << 20, 'a')).size(), size_t{1} << 18);
}

TEST(ByteLevelBpe, SplitPointsChangeNoIds) {
  const auto tokenizer = open_byte_level_bpe(small_vocabulary({"th", "the", "an"}), "t h\nth e\na n\n");
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::string text = random_text(seed, 150);
    const auto whole = tokenizer->encode(text);
    for (size_t n = 1; n < text.size(); ++n) {
      const size_t at = tokenizer->split_point(
          std::string_view(text).substr(0, complete_utf8_prefix(std::string_view(text).substr(0, n))));
      auto ids = tokenizer->encode(std::string_view(text).substr(0, at));
      tokenizer->encode_continuation(std::string_view(text).substr(at), ids);
      ASSERT_EQ(ids, whole) << seed << " at " << at;
    }
  }
}

TEST(ByteLevelBpe, RefusesDamagedFiles) {
  const std::string good = small_vocabulary({"ab"});
  const struct {
    std::string vocabulary, merges, says;
  } kCases[] = {
      {"", "", "JSON object"},
      {"[1]", "", "JSON object"},
      {"{}", "", "JSON object"},
      {good.substr(0, good.size() / 2), "", "JSON object"},
      {R"({"a": 0, "b": 0})", "", "more than one token"},
      {R"({"a": 0, "b": 2})", "", "between 0 and 1"},
      {R"({"a": -1})", "", "between 0 and 0"},
      {R"({"a": "x"})", "", "between 0 and 0"},
      {R"({"a": 1e99})", "", "between 0 and 0"},
      {R"({"a": 0, "b": 1})", "", "no token for byte"},
      {good, "a", "line 1: expected two tokens"},
      {good, "#version: 0.2\na b c", "line 2: expected two tokens"},
      {good, " a", "expected two tokens"},
      {good, "a ", "expected two tokens"},
      {good, "a zz", "lacks"},
      {good, "a c", "lacks"},
      {good, "a b\na b", "second time"},
  };
  for (const auto& [vocabulary, merges, says] : kCases) {
    try {
      open_byte_level_bpe(vocabulary, merges);
      ADD_FAILURE() << "accepted: " << says << " / " << merges;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
    }
  }
}

TEST(ByteLevelBpe, ReadsWindowsLineEndsAndMergesOfHashes) {
  const auto tokenizer = open_byte_level_bpe(small_vocabulary({"#v", "ab"}), "# v\r\na b\r\n");
  EXPECT_EQ(tokenizer->encode("ab"), std::vector<int32_t>{257});
  EXPECT_EQ(tokenizer->encode("#v"), (std::vector<int32_t>{'#', 'v'}));  // the words part them
}

TEST(ByteLevelBpe, EncodesAsGpt2) {
  if (!fs::exists(kGpt2)) GTEST_SKIP() << "skipped: no " << kGpt2;
  EXPECT_EQ(gpt2()->vocabulary_size(), 50257);
  EXPECT_EQ(gpt2()->eos(), 50256);
  EXPECT_EQ(gpt2()->token_bytes(50256), "");
  EXPECT_EQ(gpt2()->token_bytes(995), " world");
  EXPECT_EQ(gpt2()->encode("Hello world"), (std::vector<int32_t>{15496, 995}));
  EXPECT_EQ(gpt2()->encode("Hello, my dog is cute"),
            (std::vector<int32_t>{15496, 11, 616, 3290, 318, 13779}));
}

TEST(ByteLevelBpe, AgreesWithAnIndependentEncoder) {
  if (!fs::exists(kGpt2)) GTEST_SKIP() << "skipped: no " << kGpt2;
  const auto rows = nlohmann::json::parse(
      read_file(fs::path(QTF_SOURCE_DIR) / "src/qtf/text/testdata/gpt2_golden.json"));  // make_gpt2_golden.py
  EXPECT_GT(rows.size(), 40u);
  for (const auto& row : rows) {
    const auto text = row.at("text").get<std::string>();
    EXPECT_EQ(gpt2()->encode(text), row.at("ids").get<std::vector<int32_t>>()) << text;
    EXPECT_EQ(gpt2()->decode(gpt2()->encode(text)), text);
  }
}

}  // namespace
}  // namespace qtf::text
