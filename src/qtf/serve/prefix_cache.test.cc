#include "qtf/serve/prefix_cache.h"

#include <gtest/gtest.h>

namespace qtf::serve {
namespace {

/// A cache of 8 tokens (256 bytes of keys and values) that holds the first `tokens`.
nn::KvCache<float> cache_of(int64_t tokens) {
  nn::KvCache<float> cache(1, 1, 4, 8);
  cache.advance(tokens);
  return cache;
}

const PrefixScope kMine{.caller = "me"};

TEST(PrefixCache, FindsTheLongestCommonBeginning) {
  PrefixCache prefixes(10'000);
  prefixes.keep(kMine, {1, 2, 3}, cache_of(3));
  prefixes.keep(kMine, {1, 9}, cache_of(2));
  const std::vector<int32_t> prompt{1, 2, 4};
  const auto hit = prefixes.find(kMine, prompt);
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->tokens, 2);
  EXPECT_EQ(hit->cache.length(), 2);
  EXPECT_FALSE(prefixes.find(kMine, std::vector<int32_t>{7}));
}

TEST(PrefixCache, ShowsNobodyWhatIsNotTheirs) {
  PrefixCache prefixes(10'000);
  prefixes.keep(kMine, {1, 2, 3}, cache_of(3));
  const std::vector<int32_t> prompt{1, 2, 3};
  EXPECT_FALSE(prefixes.find({.caller = "other"}, prompt));
  EXPECT_FALSE(prefixes.find({.caller = "me", .level = 1}, prompt));
  EXPECT_TRUE(prefixes.find(kMine, prompt));
}

TEST(PrefixCache, DropsWhatALongerTextCovers) {
  PrefixCache prefixes(10'000);
  prefixes.keep(kMine, {1, 2}, cache_of(2));
  prefixes.keep(kMine, {1, 2, 3}, cache_of(3));
  EXPECT_EQ(prefixes.texts(), 1U);
  prefixes.keep(kMine, {}, cache_of(0));
  EXPECT_EQ(prefixes.texts(), 1U);
}

TEST(PrefixCache, HoldsNoMoreThanItsBytes) {
  const int64_t size = static_cast<int64_t>(cache_of(1).bytes());
  PrefixCache prefixes(2 * size);
  prefixes.keep(kMine, {1}, cache_of(1));
  prefixes.keep(kMine, {2}, cache_of(1));
  EXPECT_TRUE(prefixes.find(kMine, std::vector<int32_t>{1}));  // now 2 was not asked for the longest
  prefixes.keep(kMine, {3}, cache_of(1));
  EXPECT_EQ(prefixes.bytes(), 2 * size);
  EXPECT_TRUE(prefixes.find(kMine, std::vector<int32_t>{1}));
  EXPECT_FALSE(prefixes.find(kMine, std::vector<int32_t>{2}));

  PrefixCache none(0);
  none.keep(kMine, {1}, cache_of(1));
  EXPECT_EQ(none.texts(), 0U);
}

}  // namespace
}  // namespace qtf::serve
