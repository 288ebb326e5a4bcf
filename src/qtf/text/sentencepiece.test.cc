#include "qtf/text/sentencepiece.h"

#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <filesystem>
#include <set>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/text/corpus.h"
#include "qtf/text/model_proto.h"
#include "qtf/text/random_text.h"

namespace qtf::text {
namespace {

namespace fs = std::filesystem;

const fs::path kTinyStories = fs::path(QTF_SHARED_DIR) / "data/tinystories/tinystories_sample.txt";
const fs::path kImported = fs::path(QTF_SHARED_DIR) / "data/stories260K/tok512.model";

std::string train(const std::string& text, SentencePieceOptions options) {
  const std::string_view views[] = {text};
  return train_sentencepiece(views, options);
}

std::shared_ptr<const Tokenizer> trained(SentencePieceModel model) {
  return open_sentencepiece(train(made_up_text(400, " <unk>"), {.vocabulary_size = 400, .model = model}),
                            "test");
}

class OwnSentencePiece : public testing::TestWithParam<SentencePieceModel> {
 protected:
  std::shared_ptr<const Tokenizer> tokenizer_ = trained(GetParam());
};

TEST_P(OwnSentencePiece, RoundTripsAnyUtf8) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::string text = random_text(seed, 100);
    const auto ids = tokenizer_->encode(text);
    ASSERT_EQ(tokenizer_->decode(ids), text) << seed;
    for (const int32_t id : ids) {
      ASSERT_TRUE(id != tokenizer_->bos() && id != tokenizer_->eos() && id != 0) << "a mark in ordinary text";
    }
  }
}

TEST_P(OwnSentencePiece, KeepsEveryBlankAndMark) {
  for (const std::string text : {"", " ", "  ", "\n", "\n\n", " a", "a ", "  a  b  ", "a\nb", "\ta\r\n",
                                 "<unk>", "x<unk>y <unk> <unk>", "<s>", "</s>", "<|unk|>", "<0x41>",
                                 "\xE2\x96\x81", "a\xE2\x96\x81 b", "\xE2\x96\x81\xE2\x96\x81"}) {
    EXPECT_EQ(tokenizer_->decode(tokenizer_->encode(text)), text);
  }
  const std::string nul("a\0b\0", 4);
  EXPECT_EQ(tokenizer_->decode(tokenizer_->encode(nul)), nul);
}

TEST_P(OwnSentencePiece, HasMarksBytesAndSymbols) {
  EXPECT_EQ(tokenizer_->vocabulary_size(), 400);
  EXPECT_EQ(tokenizer_->bos(), 1);
  EXPECT_EQ(tokenizer_->eos(), 2);
  for (int32_t mark = 0; mark < 3; ++mark) EXPECT_EQ(tokenizer_->token_bytes(mark), "");
  std::set<std::string> tokens;
  for (int32_t id = 3; id < 400; ++id) tokens.insert(tokenizer_->token_bytes(id));
  for (int byte = 0; byte < 256; ++byte) EXPECT_TRUE(tokens.count(std::string(1, static_cast<char>(byte))));
  EXPECT_EQ(tokenizer_->encode("<unk>").size(), 1u);
  EXPECT_EQ(tokenizer_->encode(" <unk>").size(), 1u);
  EXPECT_EQ(tokenizer_->encode("\n").size(), 1u);
  EXPECT_EQ(tokenizer_->encode(std::string(1, '\0')).size(), 1u);
  EXPECT_EQ(tokenizer_->encode("\xE2\x96\x81").size(), 3u);
}

TEST_P(OwnSentencePiece, SplitPointsChangeNoIds) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::string text = random_text(seed, 100) + made_up_text(2);
    const auto whole = tokenizer_->encode(text);
    for (size_t n = 1; n < text.size(); n += 3) {
      const std::string_view window(text.data(), complete_utf8_prefix(std::string_view(text).substr(0, n)));
      const size_t at = tokenizer_->split_point(window);
      auto ids = tokenizer_->encode(std::string_view(text).substr(0, at));
      tokenizer_->encode_continuation(std::string_view(text).substr(at), ids);
      ASSERT_EQ(ids, whole) << seed << " at " << at;
    }
  }
}

TEST_P(OwnSentencePiece, LongTextWithoutBlanksRoundTrips) {
  std::string text;
  for (int i = 0; i < 40'000; ++i) text += i % 3 ? "\xE4\xBD\xA0" : "ta";
  EXPECT_EQ(tokenizer_->decode(tokenizer_->encode(text)), text);
}

TEST_P(OwnSentencePiece, TrainingIsRepeatable) {
  const SentencePieceOptions options{.vocabulary_size = 350, .model = GetParam()};
  const std::string text = made_up_text(300);
  EXPECT_EQ(train(text, options), train(text, options));
}

TEST_P(OwnSentencePiece, NamesTheLargestVocabularyThatWorks) {
  const std::string text = made_up_text(30);
  SentencePieceOptions options{.vocabulary_size = 20'000, .model = GetParam()};
  try {
    train(text, options);
    FAIL() << "accepted";
  } catch (const InputError& error) {
    const std::string message = error.what();
    const std::string says = "the largest that works is ";
    ASSERT_NE(message.find(says), std::string::npos) << message;
    options.vocabulary_size = std::stoi(message.substr(message.find(says) + says.size()));
  }
  EXPECT_EQ(open_sentencepiece(train(text, options), "test")->vocabulary_size(), options.vocabulary_size);
}

INSTANTIATE_TEST_SUITE_P(Models, OwnSentencePiece,
                         testing::Values(SentencePieceModel::kUnigram, SentencePieceModel::kBpe),
                         [](const auto& param) {
                           return param.param == SentencePieceModel::kBpe ? "Bpe" : "Unigram";
                         });

TEST(SentencePieceTraining, ManyCharactersFallBackToBytes) {
  std::string text = made_up_text(100);
  for (char32_t c = 0x4E00; c < 0x5600; ++c) append_code_point(c, text += c % 20 ? "" : "\n");
  const auto tokenizer = open_sentencepiece(train(text, {.vocabulary_size = 300}), "test");
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

TEST(SentencePieceTraining, SamplesALargeCorpusEvenly) {
  // The second half has words of its own; a small sample must have seen them.
  std::string text = made_up_text(6000);
  const size_t half = text.size();
  while (text.size() < 2 * half) text += "zebra xylophone\n";
  const auto tokenizer =
      open_sentencepiece(train(text, {.vocabulary_size = 400, .max_bytes = 200'000}), "test");
  EXPECT_LT(tokenizer->encode(" xylophone").size(), 4u);
  EXPECT_LT(tokenizer->encode(" tarimo").size(), 5u);
}

TEST(SentencePieceTraining, RefusesBadInput) {
  const std::string text = made_up_text(50);
  const struct {
    std::string text;
    SentencePieceOptions options;
    std::string says;
  } kCases[] = {
      {text, {.vocabulary_size = 259}, "larger than 259"},
      {text, {.vocabulary_size = 300, .max_bytes = 0}, "max_bytes must be positive"},
      {text, {.vocabulary_size = 300, .threads = 0}, "threads must be positive"},
      {"", {.vocabulary_size = 300}, "no text"},
      {"\n\n", {.vocabulary_size = 300}, "no text"},
      {"caf\xE9", {.vocabulary_size = 300}, "byte 3"},
      {"ab", {.vocabulary_size = 262}, ""},
  };
  for (const auto& [input, options, says] : kCases) {
    try {
      train(input, options);
      if (!says.empty()) ADD_FAILURE() << "accepted: " << says;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
    }
  }
}

TEST(SentencePiece, RefusesDamagedModels) {
  const std::string good = train(made_up_text(50), {.vocabulary_size = 300});
  for (const std::string& bad : {std::string(), std::string("no model"), std::string(100, '\xFF'),
                                 good.substr(0, good.size() / 2), good.substr(0, good.size() - 1)}) {
    try {
      open_sentencepiece(bad, "some.model");
      ADD_FAILURE() << "accepted " << bad.size() << " bytes";
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("some.model"), std::string::npos) << error.what();
    }
  }
  EXPECT_THROW(open_sentencepiece(good, "x")->encode("a\xFF"), InputError);
  EXPECT_THROW(open_sentencepiece(good, "x")->token_bytes(300), InputError);
  EXPECT_THROW(open_sentencepiece(good, "x")->decode(std::vector<int32_t>{-1}), InputError);
}

TEST(SentencePiece, ReadsNormalizerFlags) {
  const std::string model = train(made_up_text(50), {.vocabulary_size = 300});
  const NormalizerFlags ours = read_normalizer_flags(model, "x");
  EXPECT_FALSE(ours.add_dummy_prefix || ours.remove_extra_whitespaces || ours.changes_characters);
  EXPECT_TRUE(ours.escape_whitespaces);
  EXPECT_FALSE(ours.treat_whitespace_as_suffix);
  EXPECT_TRUE(read_normalizer_flags("", "x").add_dummy_prefix);
  const NormalizerFlags plain = read_normalizer_flags(without_blank_rules(""), "x");
  EXPECT_FALSE(plain.add_dummy_prefix || plain.remove_extra_whitespaces);
  EXPECT_THROW(read_normalizer_flags("\x1A\x05", "x"), InputError);  // cut short
  EXPECT_THROW(read_normalizer_flags("\x0B", "x"), InputError);      // a group
  EXPECT_THROW(read_normalizer_flags("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "x"),
               InputError);  // long
}

TEST(ImportedSentencePiece, EncodesAndDecodesAsTheLibrary) {
  if (!fs::exists(kImported) || !fs::exists(kTinyStories)) GTEST_SKIP() << "skipped: no " << kImported;
  const auto tokenizer = open_sentencepiece(read_file(kImported), kImported.string());
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.Load(kImported.string()).ok());
  const std::string stories = read_file(kTinyStories).substr(0, 200'000);
  for (const std::string_view text :
       {std::string_view("Once upon a time"), std::string_view(""), std::string_view(" two  blanks "),
        std::string_view("   "), std::string_view("a  \n  b \n "), std::string_view("\nline\n\n"),
        std::string_view("caf\xC3\xA9 \xF0\x9F\x98\x80"), std::string_view(stories)}) {
    std::vector<int> expected;
    ASSERT_TRUE(library.Encode(text, &expected).ok());
    EXPECT_EQ(tokenizer->encode(text), std::vector<int32_t>(expected.begin(), expected.end()));
    std::string decoded;
    ASSERT_TRUE(library.Decode(expected, &decoded).ok());
    EXPECT_EQ(tokenizer->decode(expected), decoded);
  }
}

TEST(ImportedSentencePiece, HasBlanksInItsPieces) {
  if (!fs::exists(kImported)) GTEST_SKIP() << "skipped: no " << kImported;
  const auto tokenizer = open_sentencepiece(read_file(kImported), kImported.string());
  EXPECT_EQ(tokenizer->vocabulary_size(), 512);
  EXPECT_EQ(tokenizer->bos(), 1);
  const auto ids = tokenizer->encode("the");
  ASSERT_EQ(ids.size(), 1u);
  EXPECT_EQ(tokenizer->token_bytes(ids[0]), " the");
  EXPECT_EQ(tokenizer->decode(ids), "the");
}

TEST(ImportedSentencePiece, SplitPointsChangeNoIds) {
  if (!fs::exists(kImported) || !fs::exists(kTinyStories)) GTEST_SKIP() << "skipped: no " << kImported;
  const auto tokenizer = open_sentencepiece(read_file(kImported), kImported.string());
  const std::string text = read_file(kTinyStories).substr(0, 3000) + "  two   blanks \n  ";
  const auto whole = tokenizer->encode(text);
  for (size_t n = 10; n < text.size(); n += 37) {
    const size_t at = tokenizer->split_point(std::string_view(text).substr(0, n));
    ASSERT_GT(at, 0u);
    auto ids = tokenizer->encode(std::string_view(text).substr(0, at));
    tokenizer->encode_continuation(std::string_view(text).substr(at), ids);
    ASSERT_EQ(ids, whole) << at;
  }
}

}  // namespace
}  // namespace qtf::text
