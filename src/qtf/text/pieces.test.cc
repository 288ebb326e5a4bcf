#include "qtf/text/pieces.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/text/byte_level_bpe.h"
#include "qtf/text/byte_tokenizer.h"
#include "qtf/text/random_text.h"
#include "qtf/text/sentencepiece.h"
#include "qtf/text/small_bpe.h"

namespace qtf::text {
namespace {

struct Kind {
  std::string name;
  std::shared_ptr<const Tokenizer> tokenizer;
};

std::string training_text() {
  std::string text;
  for (int i = 0; i < 200; ++i) text += fmt::format("number {} and its square {}: the <unk> hat\n", i, i * i);
  return text;
}

std::vector<Kind> kinds() {
  const std::string text = training_text();
  const std::vector<std::string_view> texts = {text};
  const auto trained = [&](SentencePieceModel model) {
    return open_sentencepiece(train_sentencepiece(texts, {.vocabulary_size = 330, .model = model}),
                              "trained");
  };
  return {{"unigram", trained(SentencePieceModel::kUnigram)},
          {"bpe", trained(SentencePieceModel::kBpe)},
          {"bytes", make_byte_tokenizer()},
          {"byte_level", open_byte_level_bpe(small_vocabulary({"th", "the", "\xC4\xA0the", "<|endoftext|>"}),
                                             "t h\nth e\n\xC4\xA0 the\n")}};
}

// The law: a tokenizer made of another's pieces encodes and decodes alike.
TEST(Pieces, MakeTheSameTokenizer) {
  for (const auto& [name, tokenizer] : kinds()) {
    SCOPED_TRACE(name);
    const Pieces pieces = tokenizer->pieces();
    const auto copy = make_tokenizer(pieces, "copy");
    ASSERT_EQ(copy->vocabulary_size(), tokenizer->vocabulary_size());
    EXPECT_EQ(copy->bos(), tokenizer->bos());
    EXPECT_EQ(copy->eos(), tokenizer->eos());
    EXPECT_EQ(copy->pieces().pieces, pieces.pieces);
    EXPECT_EQ(copy->pieces().merges, pieces.merges);
    for (int32_t id = 0; id < copy->vocabulary_size(); ++id)
      ASSERT_EQ(copy->token_bytes(id), tokenizer->token_bytes(id)) << id;
    for (uint64_t seed = 0; seed < 60; ++seed) {
      const std::string text = " the  cat\n <unk> " + random_text(seed, 80);
      const auto ids = tokenizer->encode(text);
      ASSERT_EQ(copy->encode(text), ids) << text;
      ASSERT_EQ(copy->decode(ids), tokenizer->decode(ids));
    }
  }
}

TEST(Pieces, KeepTheRulesOfBlanks) {
  for (const bool prefix : {false, true}) {
    for (const bool squeeze : {false, true}) {
      Pieces pieces = kinds()[1].tokenizer->pieces();
      pieces.add_dummy_prefix = prefix, pieces.remove_extra_whitespaces = squeeze;
      const auto copy = make_tokenizer(pieces, "copy");
      EXPECT_EQ(copy->pieces().add_dummy_prefix, prefix);
      EXPECT_EQ(copy->pieces().remove_extra_whitespaces, squeeze);
      EXPECT_EQ(copy->encode("the") != kinds()[1].tokenizer->encode("the"), prefix);
    }
  }
}

TEST(Pieces, RefuseWhatIsNoTokenizer) {
  EXPECT_THROW(make_tokenizer({}, "none"), InputError);
  Pieces bpe = kinds()[1].tokenizer->pieces();
  bpe.pieces[5].text = bpe.pieces[300].text;
  EXPECT_THROW(make_tokenizer(bpe, "two alike"), InputError);
  bpe.pieces[5].text = "";
  EXPECT_THROW(make_tokenizer(bpe, "an empty piece"), InputError);
  Pieces bytes = make_byte_tokenizer()->pieces();
  bytes.rule = "qwen2";
  try {
    make_tokenizer(bytes, "a rule that we lack");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("\"qwen2\" is not supported; gpt-2, smollm, llama-bpe are"),
              std::string::npos)
        << error.what();
  }
  bytes = make_byte_tokenizer()->pieces();
  bytes.pieces[5].text = "\xFF";
  EXPECT_THROW(make_tokenizer(bytes, "not UTF-8"), InputError);
  bytes = make_byte_tokenizer()->pieces();
  bytes.pieces[5].text = bytes.pieces[6].text;
  EXPECT_THROW(make_tokenizer(bytes, "two alike"), InputError);
  bytes = make_byte_tokenizer()->pieces();
  bytes.merges = {"a b"};
  EXPECT_THROW(make_tokenizer(bytes, "a merge of unknown tokens"), InputError);
}

}  // namespace
}  // namespace qtf::text
