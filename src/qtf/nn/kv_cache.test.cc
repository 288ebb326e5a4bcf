#include "qtf/nn/kv_cache.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qtf/nn/attention.h"
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

/// A cache's scores and products of a head beside those of a cache of numbers, for 1 and 20 queries.
void expect_products_near(CodeType type, int64_t width, double tolerance) {
  const int64_t layers = 2, heads = 3, capacity = 50, tokens = 37;
  KvCache<float> coded(layers, heads, width, capacity, type), exact(layers, heads, width, capacity);
  for (int64_t at = 0; at < layers * heads * tokens; ++at) {
    const auto key = random_values<float>(width, static_cast<uint64_t>(at)),
               value = random_values<float>(width, static_cast<uint64_t>(10'000 + at));
    for (auto* cache : {&coded, &exact})
      cache->store(at / tokens / heads, at / tokens % heads, at % tokens, key.data(), value.data());
  }
  Arena arena;
  for (const int64_t rows : {int64_t{1}, int64_t{20}}) {
    const auto queries = random_values<float>(rows * width, 5);
    const ConstMatrix<float> q{queries.data(), rows, width};
    std::vector<float> out[2], log_sums[2], entropies[2];
    for (int side = 0; side < 2; ++side) {
      out[side].resize(static_cast<size_t>(rows * width));
      log_sums[side].resize(static_cast<size_t>(rows));
      entropies[side].resize(static_cast<size_t>(rows));
      cached_attention_forward<float>(
          q, side == 0 ? coded : exact, 1, 2, tokens - rows, 1 / std::sqrt(static_cast<float>(width)),
          {out[side].data(), rows, width}, log_sums[side].data(), entropies[side].data(), arena);
    }
    for (size_t i = 0; i < out[0].size(); ++i) ASSERT_NEAR(out[0][i], out[1][i], tolerance) << i;
    for (size_t i = 0; i < log_sums[0].size(); ++i) {
      ASSERT_NEAR(log_sums[0][i], log_sums[1][i], tolerance);
      ASSERT_NEAR(entropies[0][i], entropies[1][i], tolerance);
    }
  }
}

TEST(KvCache, OfCodesAttendsAsItsNumbersDo) {
  for (const int64_t width : {5, 16, 32, 80}) {
    expect_products_near(CodeType::f16, width, 2e-3);
    expect_products_near(CodeType::int8, width, 3e-2);
    expect_products_near(CodeType::int4, width, 0.4);
  }
}

TEST(KvCache, OfCodesTakesTheirBits) {
  const auto bytes = [](std::optional<CodeType> type) {
    return static_cast<double>(KvCache<float>(2, 3, 32, 1024, type).bytes());
  };
  EXPECT_LT(bytes(CodeType::f16), bytes({}) / 1.9);
  EXPECT_LT(bytes(CodeType::int8), bytes({}) / 3.5);
  EXPECT_LT(bytes(CodeType::int4), bytes({}) / 6.3);
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
