#include "qtf/serve/recent_texts.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace qtf::serve {
namespace {

RecentText prompted(std::vector<int32_t> prompt) {
  RecentText text;
  text.prompt_tokens = static_cast<int64_t>(prompt.size());
  text.tokens = std::move(prompt);
  return text;
}

TEST(RecentTexts, KnowsWhatWasReadBeforeEachToken) {
  RecentTexts texts(2);
  texts.add("me", "a", 0, prompted({1, 2, 3}));
  EXPECT_EQ(texts.find("me", "a", 0)->written(), 0);
  texts.append("a", 0, 4, 0);
  texts.append("a", 0, 5, 2);  // the model forgot the first two
  const auto text = texts.find("me", "a", 0);
  EXPECT_EQ(text->written(), 2);
  EXPECT_EQ(text->read_before(0), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(text->read_before(1), (std::vector<int32_t>{3, 4}));
  EXPECT_FALSE(texts.find("you", "a", 0));
  EXPECT_FALSE(texts.find("me", "a", 1));
}

TEST(RecentTexts, KeepsTheLastOnes) {
  RecentTexts texts(2);
  for (const char* id : {"a", "b", "c"}) texts.add("me", id, 0, prompted({1}));
  EXPECT_FALSE(texts.find("me", "a", 0));
  EXPECT_TRUE(texts.find("me", "b", 0) && texts.find("me", "c", 0));
}

TEST(RecentTexts, KeepsTheBeginningOfAVeryLongOne) {
  RecentTexts texts(1);
  texts.add("me", "a", 0, prompted({1}));
  for (int32_t token = 0; token < RecentTexts::kMostWritten + 5; ++token) texts.append("a", 0, token, 0);
  const auto text = texts.find("me", "a", 0);
  EXPECT_EQ(text->written(), RecentTexts::kMostWritten);
  EXPECT_EQ(text->tokens.back(), RecentTexts::kMostWritten - 1);
}

}  // namespace
}  // namespace qtf::serve
