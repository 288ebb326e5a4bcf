#include "qtf/text/tokenizer.h"

#include <gtest/gtest.h>

#include <set>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/text/byte_level_bpe.h"
#include "qtf/text/byte_tokenizer.h"
#include "qtf/text/pieces.h"
#include "qtf/text/random_text.h"
#include "qtf/text/sentencepiece.h"
#include "qtf/text/small_bpe.h"

namespace qtf::text {
namespace {

/// One tokenizer of each kind, under the kind's name.
std::shared_ptr<const Tokenizer> example_of(std::string_view kind) {
  if (kind == "bytes") return make_byte_tokenizer();
  if (kind == "byte-level-bpe")
    return open_byte_level_bpe(small_vocabulary({"ab", "<|endoftext|>"}), "a b\n");
  if (kind == "tokenizer.json") return make_tokenizer(example_of("byte-level-bpe")->pieces(), "example");
  std::string text;
  for (int i = 0; i < 200; ++i) text += fmt::format("number {} and its square {}\n", i, i * i);
  const std::string_view views[] = {text};
  // llama2.c's files become SentencePiece BPE models.
  const auto model = kind == "llama2c" ? SentencePieceModel::kBpe : SentencePieceModel::kUnigram;
  return open_sentencepiece(train_sentencepiece(views, {.vocabulary_size = 300, .model = model}), "example");
}

void save(const Tokenizer& tokenizer, const std::filesystem::path& folder) {
  for (const auto& [name, contents] : tokenizer.files()) write_file_atomically(folder / name, contents);
}

TEST(Tokenizers, EveryKindSavesLoadsAndRoundTrips) {
  std::set<std::string> fingerprints;
  for (const TokenizerKind& kind : tokenizer_kinds()) {
    SCOPED_TRACE(kind.name);
    EXPECT_FALSE(kind.summary.empty());
    TemporaryFolder folder;
    const auto tokenizer = example_of(kind.name);
    save(*tokenizer, folder.path());
    const auto loaded = load_tokenizer(folder.path());
    EXPECT_EQ(loaded->fingerprint(), tokenizer->fingerprint());
    EXPECT_EQ(loaded->vocabulary_size(), tokenizer->vocabulary_size());
    EXPECT_TRUE(fingerprints.insert(loaded->fingerprint()).second);
    for (const auto& [name, contents] : tokenizer->files()) {
      EXPECT_EQ(load_tokenizer(folder / name)->fingerprint(), tokenizer->fingerprint()) << name;
    }
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const std::string text = random_text(seed, 50);
      EXPECT_EQ(loaded->decode(loaded->encode(text)), text);
      std::string joined;
      for (const int32_t id : loaded->encode(text)) joined += loaded->token_bytes(id);
      EXPECT_EQ(joined, text);
    }
    EXPECT_THROW(loaded->encode("\xC3("), InputError);
    EXPECT_THROW(loaded->token_bytes(loaded->vocabulary_size()), InputError);
    EXPECT_TRUE(loaded->eos());
  }
}

TEST(Tokenizers, LoadsBytesByName) {
  EXPECT_EQ(load_tokenizer("bytes")->vocabulary_size(), 257);
}

TEST(Tokenizers, LoadsOtherNamesOfTheFiles) {
  TemporaryFolder folder;
  const auto bpe = example_of("byte-level-bpe");
  write_file_atomically(folder / "encoder.json", bpe->files()[0].second);
  write_file_atomically(folder / "vocab.bpe", bpe->files()[1].second);
  EXPECT_EQ(load_tokenizer(folder.path())->fingerprint(), bpe->fingerprint());
  EXPECT_EQ(load_tokenizer(folder / "vocab.bpe")->fingerprint(), bpe->fingerprint());
  const auto pieces = example_of("sentencepiece");
  write_file_atomically(folder / "tok300.model", pieces->files()[0].second);
  EXPECT_EQ(load_tokenizer(folder / "tok300.model")->fingerprint(), pieces->fingerprint());
}

TEST(Tokenizers, SaysWhatItLookedFor) {
  TemporaryFolder folder;
  std::filesystem::create_directories(folder / "empty");
  std::filesystem::create_directories(folder / "half");
  std::filesystem::create_directories(folder / "other");
  write_file_atomically(folder / "half/vocab.json", "{}");
  write_file_atomically(folder / "other/tokenizer_config.json", R"({"tokenizer_class": "Other"})");
  write_file_atomically(folder / "notes.txt", "hello");
  const std::pair<const char*, const char*> kCases[] = {
      {"missing", "does not exist"},
      {"empty", "tokenizer.model | tokenizer.json | vocab.json + merges.txt"},
      {"half", "needs merges.txt"},
      {"other", "looked for"},
      {"other/tokenizer_config.json", "no tokenizer file"},
      {"notes.txt", "no tokenizer file"},
  };
  for (const auto& [name, says] : kCases) {
    try {
      load_tokenizer(folder / name);
      ADD_FAILURE() << "accepted " << name;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace qtf::text
