#include "qtf/text/corpus.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/sha256.h"
#include "qtf/base/temporary_folder.h"

namespace qtf::text {
namespace {

namespace fs = std::filesystem;

TEST(Corpus, CountsWordsAsWikiTextDoes) {
  const struct {
    std::string_view text;
    int64_t words;
  } kCases[] = {{"", 0},
                {"a", 2},
                {"a\n", 2},
                {" = a = \n", 4},
                {"\n", 1},
                {" \n \n", 2},
                {"a b\nc\n", 5},
                {"a\tb\r\n", 3},
                {"a\xC2\xA0"
                 "b\n",
                 3},
                {"a\n ", 3}};
  for (const auto& [text, words] : kCases) {
    EXPECT_EQ(count_text(text), (TextCounts{static_cast<int64_t>(text.size()), words})) << text;
  }
}

TEST(Corpus, CountsWikiText2) {
  const fs::path folder = fs::path(QTF_SHARED_DIR) / "data/wikitext-2";
  if (!fs::exists(folder)) GTEST_SKIP() << "skipped: no " << folder;
  EXPECT_EQ(Corpus(folder / "wiki.train.tokens").counts().words, 2'088'628);
  EXPECT_EQ(Corpus(folder / "wiki.valid.tokens").counts().words, 217'646);
  EXPECT_EQ(Corpus(folder / "wiki.test.tokens").counts().words, 245'569);
}

TEST(Corpus, OpensAFile) {
  TemporaryFolder folder;
  write_file_atomically(folder / "a.txt", "one two\n");
  const Corpus corpus(folder / "a.txt");
  ASSERT_EQ(corpus.texts().size(), 1u);
  EXPECT_EQ(corpus.texts()[0], "one two\n");
  EXPECT_EQ(corpus.sha256(), sha256_hex("one two\n"));
  EXPECT_EQ(corpus.counts(), (TextCounts{8, 3}));
}

TEST(Corpus, OpensAFolderInPathOrder) {
  TemporaryFolder folder;
  fs::create_directories(folder / "b/deep");
  fs::create_directories(folder / ".git");
  write_file_atomically(folder / "c.txt", "3\n");
  write_file_atomically(folder / "a.txt", "1\n");
  write_file_atomically(folder / "b/deep/x.txt", "2\n");
  write_file_atomically(folder / "empty.txt", "");
  write_file_atomically(folder / ".hidden", "no");
  write_file_atomically(folder / ".git/config", std::string_view("\0", 1));
  const Corpus corpus(folder.path());
  EXPECT_EQ(std::vector(corpus.texts().begin(), corpus.texts().end()),
            (std::vector<std::string_view>{"1\n", "2\n", "3\n"}));
  EXPECT_EQ(corpus.counts(), (TextCounts{6, 6}));
  EXPECT_EQ(corpus.sha256(), sha256_hex("2:1\n2:2\n2:3\n"));
}

TEST(Corpus, RefusesWhatIsNoText) {
  TemporaryFolder folder;
  fs::create_directories(folder / "none");
  const struct {
    std::string name, contents, says;
  } kCases[] = {
      {"empty", "", "is empty"},
      {"binary", std::string("text\0more", 9), "NUL at byte 4"},
      {"latin1", "caf\xE9 au lait", "not valid UTF-8 at byte 3"},
      {"utf16",
       std::string("\xFF\xFE"
                   "a\0",
                   4),
       "UTF-16"},
      {"utf16be", std::string("\xFE\xFF\0a", 4), "UTF-16"},
      {"missing", "", "no such file"},
      {"none", "", "holds no text"},
  };
  for (const auto& [name, contents, says] : kCases) {
    if (name != "missing" && name != "none") write_file_atomically(folder / name, contents);
    try {
      Corpus corpus(folder / name);
      ADD_FAILURE() << "accepted " << name;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find((folder / name).string()), std::string::npos) << error.what();
    }
  }
}

TEST(Corpus, SplitsDocuments) {
  using Views = std::vector<std::string_view>;
  EXPECT_EQ(split_documents("\none\n<|e|>\n two \n<|e|>\n<|e|>", "<|e|>"), (Views{"one", "two"}));
  EXPECT_EQ(split_documents("all", "<|e|>"), Views{"all"});
  EXPECT_EQ(split_documents("", "x"), Views{});
  EXPECT_THROW(split_documents("a", ""), InputError);
}

}  // namespace
}  // namespace qtf::text
