#include "qtf/nn/kv_cache.h"

#include <gtest/gtest.h>

#include "qtf/nn/nn_test.h"

namespace qtf::nn {
namespace {

TEST(KvCache, GivesBackWhatWasStored) {
  const int64_t layers = 2, heads = 3, width = 5, capacity = 7;
  KvCache<float> cache(layers, heads, width, capacity);
  EXPECT_EQ(cache.capacity(), capacity);
  EXPECT_EQ(cache.bytes(), static_cast<size_t>(2 * layers * heads * width * capacity) * sizeof(float));
  const auto key_of = [&](int64_t layer, int64_t head, int64_t t) {
    return random_values<float>(width, static_cast<uint64_t>((layer * heads + head) * capacity + t));
  };
  const auto value_of = [&](int64_t layer, int64_t head, int64_t t) {
    return random_values<float>(width, static_cast<uint64_t>(1000 + (layer * heads + head) * capacity + t));
  };
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t t = 0; t < capacity; ++t)
        cache.store(layer, head, t, key_of(layer, head, t).data(), value_of(layer, head, t).data());
    }
  }
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (int64_t head = 0; head < heads; ++head) {
      const auto keys_t = cache.keys_t(layer, head, 4);
      const auto values = cache.values(layer, head, 4);
      EXPECT_EQ(keys_t.rows, width);
      EXPECT_EQ(keys_t.cols, 4);
      EXPECT_EQ(values.rows, 4);
      for (int64_t t = 0; t < 4; ++t) {
        for (int64_t d = 0; d < width; ++d) {
          EXPECT_EQ(keys_t(d, t), key_of(layer, head, t)[static_cast<size_t>(d)]);
          EXPECT_EQ(values(t, d), value_of(layer, head, t)[static_cast<size_t>(d)]);
        }
      }
    }
  }
}

TEST(KvCache, KeepsLevelsOfEveryLayer) {
  KvCache<float> cache(2, 1, 2, 3);
  cache.keep_level(0, 2, 4);
  cache.keep_level(1, 0, 3);
  EXPECT_EQ(cache.level(0, 2), 4);
  EXPECT_EQ(cache.level(1, 0), 3);
  EXPECT_EQ(cache.level(0, 0), 0);
  EXPECT_EQ(cache.level(1, 2), 0);
}

TEST(KvCache, CountsItsTokens) {
  KvCache<double> cache(1, 1, 2, 8);
  EXPECT_EQ(cache.length(), 0);
  cache.advance(5);
  cache.advance(1);
  EXPECT_EQ(cache.length(), 6);
  cache.truncate(9);
  EXPECT_EQ(cache.length(), 6) << "truncation never adds";
  cache.truncate(2);
  EXPECT_EQ(cache.length(), 2);
}

}  // namespace
}  // namespace qtf::nn
