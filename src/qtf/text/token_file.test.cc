#include "qtf/text/token_file.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "qtf/base/error.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/text/byte_level_bpe.h"
#include "qtf/text/byte_tokenizer.h"
#include "qtf/text/random_text.h"
#include "qtf/text/small_bpe.h"

namespace qtf::text {
namespace {

namespace fs = std::filesystem;

std::vector<int32_t> all_ids(const TokenFile& file) {
  std::vector<int32_t> ids(static_cast<size_t>(file.size()));
  file.copy(0, ids);
  return ids;
}

fs::path only_file(const fs::path& folder) {
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1);
  return fs::directory_iterator(folder)->path();
}

std::string text_without_nul(uint64_t seed, uint64_t pieces) {
  std::string text = random_text(seed, pieces);
  std::erase(text, '\0');
  return text;
}

class TokenFiles : public testing::Test {
 protected:
  TokenFile tokenize(std::string_view text, const Tokenizer& tokenizer, int64_t chunk_bytes = 1 << 20) {
    write_file_atomically(folder_ / "corpus.txt", text);
    return tokenize_corpus(folder_ / "corpus.txt", tokenizer,
                           {.cache = folder_ / "cache", .progress = false, .chunk_bytes = chunk_bytes});
  }

  TemporaryFolder folder_;
  std::shared_ptr<const Tokenizer> bytes_ = make_byte_tokenizer();
};

TEST_F(TokenFiles, HoldIdsAndCounts) {
  const TokenFile file = tokenize("ab c\n", *bytes_);
  EXPECT_EQ(all_ids(file), (std::vector<int32_t>{'a', 'b', ' ', 'c', '\n'}));
  EXPECT_EQ(file.counts(), (TextCounts{5, 3}));
  EXPECT_EQ(file.vocabulary_size(), 257);
  EXPECT_EQ(file.tokenizer(), bytes_->fingerprint());
  EXPECT_EQ(file.text_sha256(), Corpus(folder_ / "corpus.txt").sha256());
  std::vector<int32_t> part(2);
  file.copy(2, part);
  EXPECT_EQ(part, (std::vector<int32_t>{' ', 'c'}));
}

TEST_F(TokenFiles, ChunksDoNotChangeIds) {
  const auto bpe = open_byte_level_bpe(small_vocabulary({"th", "the", "an"}), "t h\nth e\na n\n");
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const std::string text = text_without_nul(seed, 300);
    for (const Tokenizer* tokenizer : {bytes_.get(), bpe.get()}) {
      for (const int64_t chunk : {1, 7, 100}) {
        fs::remove_all(folder_ / "cache");
        EXPECT_EQ(all_ids(tokenize(text, *tokenizer, chunk)), tokenizer->encode(text))
            << seed << " " << chunk;
      }
    }
  }
}

TEST_F(TokenFiles, LargeVocabulariesTakeWideIds) {
  std::vector<std::string> more;
  for (int i = 0; i < 70'000; ++i) more.push_back(fmt::format("token{}", i));
  more.push_back("ab");
  const auto bpe = open_byte_level_bpe(small_vocabulary(more), "a b\n");
  EXPECT_EQ(all_ids(tokenize("abc", *bpe)), (std::vector<int32_t>{70'256, 'c'}));
}

TEST_F(TokenFiles, FoldersAreTokenisedFileByFile) {
  fs::create_directories(folder_ / "texts");
  write_file_atomically(folder_ / "texts/b", "two");
  write_file_atomically(folder_ / "texts/a", "one");
  const TokenFile file = tokenize_corpus(folder_ / "texts", *bytes_, {.cache = folder_ / "cache"});
  EXPECT_EQ(bytes_->decode(all_ids(file)), "onetwo");
}

TEST_F(TokenFiles, AreOpenedAgainAndMendedIfDamaged) {
  tokenize("some text\n", *bytes_);
  const fs::path path = only_file(folder_ / "cache");
  const std::string good = read_file(path);
  const auto written = fs::last_write_time(path);
  tokenize("some text\n", *bytes_);
  EXPECT_EQ(fs::last_write_time(path), written);
  std::string bad = good;
  bad[200] ^= 1;
  write_file_atomically(path, bad);
  EXPECT_EQ(all_ids(tokenize("some text\n", *bytes_)), bytes_->encode("some text\n"));
  EXPECT_EQ(read_file(path), good);
}

TEST_F(TokenFiles, EveryChangedByteAndLengthIsNoticed) {
  tokenize("some text\n", *bytes_);
  const fs::path path = only_file(folder_ / "cache");
  const std::string good = read_file(path);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] ^= 0x10;
    write_file_atomically(path, bad);
    EXPECT_THROW(TokenFile{path}, IoError) << "byte " << i;
    write_file_atomically(path, good.substr(0, i));
    EXPECT_THROW(TokenFile{path}, IoError) << "length " << i;
  }
  EXPECT_THROW(TokenFile{folder_ / "missing"}, InputError);
}

TEST_F(TokenFiles, BadTextLeavesNothing) {
  for (const std::string& text : {std::string(), std::string("a\0b", 3), std::string("caf\xE9")}) {
    EXPECT_THROW(tokenize(text, *bytes_), InputError);
  }
  EXPECT_FALSE(fs::exists(folder_ / "cache"));
}

TEST_F(TokenFiles, CacheFolderFollowsTheEnvironment) {
  write_file_atomically(folder_ / "corpus.txt", "text");
  const char* before = std::getenv("XDG_CACHE_HOME");
  const std::string kept = before ? before : "";
  setenv("XDG_CACHE_HOME", folder_.path().c_str(), 1);
  tokenize_corpus(folder_ / "corpus.txt", *bytes_);
  EXPECT_TRUE(fs::exists(only_file(folder_ / "qtf")));
  setenv("XDG_CACHE_HOME", (folder_ / "corpus.txt").c_str(), 1);
  EXPECT_THROW(tokenize_corpus(folder_ / "corpus.txt", *bytes_), IoError);
  before ? setenv("XDG_CACHE_HOME", kept.c_str(), 1) : unsetenv("XDG_CACHE_HOME");
}

}  // namespace
}  // namespace qtf::text
