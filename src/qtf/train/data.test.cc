#include "qtf/train/data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "qtf/base/error.h"
#include "qtf/train/train_test.h"

namespace qtf::train {
namespace {

std::vector<int64_t> permuted(int64_t n, uint64_t key) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < n; ++i) order.push_back(permute(i, n, key));
  return order;
}

TEST(Permute, IsAPermutation) {
  for (int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1000, 1024, 1025, 4097, 65537}) {
    for (uint64_t key : {0ULL, 1ULL, ~0ULL}) {
      std::vector<int64_t> order = permuted(n, key);
      std::sort(order.begin(), order.end());
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(order[static_cast<size_t>(i)], i) << n << " " << key;
    }
  }
}

TEST(Permute, ScattersAndDependsOnTheKey) {
  EXPECT_NE(permuted(1000, 1), permuted(1000, 2));
  EXPECT_EQ(permuted(1000, 1), permuted(1000, 1));
  // Neighbours of a random order are n / 3 apart on average.
  const std::vector<int64_t> order = permuted(1000, 3);
  double distance = 0;
  for (size_t i = 1; i < order.size(); ++i)
    distance += static_cast<double>(std::abs(order[i] - order[i - 1]));
  EXPECT_NEAR(distance / 999, 1000.0 / 3, 30);
}

class Windows : public testing::Test {
 protected:
  const SmallCorpus corpus_{small_text(2000)};

  std::vector<int64_t> starts(const WindowSampler& sampler, int64_t epoch) const {
    std::vector<int64_t> list;
    for (int64_t i = 0; i < sampler.windows(); ++i)
      list.push_back(sampler.start_of(epoch * sampler.windows() + i));
    return list;
  }
};

TEST_F(Windows, OfAnEpochLieSideBySideAndCoverTheText) {
  constexpr int64_t kContext = 16;
  for (int64_t size : {17, 18, 31, 32, 33, 34, 47, 48, 49, 50, 63, 64, 65, 100, 1000}) {
    const WindowSampler sampler(corpus_.range(5, 5 + size), kContext, 7);
    std::set<int64_t> offsets;
    for (int64_t epoch = 0; epoch < 40; ++epoch) {
      std::vector<int64_t> at = starts(sampler, epoch);
      std::sort(at.begin(), at.end());
      offsets.insert(at.front());
      ASSERT_GE(at.front(), 0);
      ASSERT_LT(at.front(), kContext);
      ASSERT_LE(at.back() + kContext + 1, size);
      // What is left out at both ends is less than two windows.
      ASSERT_LT(size - 1 - sampler.windows() * kContext, 2 * kContext) << size;
      for (size_t i = 1; i < at.size(); ++i) ASSERT_EQ(at[i] - at[i - 1], kContext);
    }
    if (size > 18 && size != 33) {
      EXPECT_GT(offsets.size(), 1U) << "always the same offset at size " << size;
    }
  }
}

TEST_F(Windows, AreInANewOrderEveryEpochAndTheSameForASeed) {
  const WindowSampler one(corpus_.all(), 16, 1), same(corpus_.all(), 16, 1), other(corpus_.all(), 16, 2);
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    EXPECT_EQ(starts(one, epoch), starts(same, epoch));
    EXPECT_NE(starts(one, epoch), starts(other, epoch));
    EXPECT_NE(starts(one, epoch), starts(one, epoch + 1));
  }
}

TEST_F(Windows, HoldTheTokensAndTheNextOnes) {
  const WindowSampler sampler(corpus_.range(100, 700), 16, 3);
  std::vector<int32_t> inputs(16), targets(16);
  for (int64_t i = 0; i < 3 * sampler.windows(); ++i) {
    sampler.copy(i, inputs.data(), targets.data());
    for (int64_t k = 0; k < 16; ++k) {
      const int64_t at = 100 + sampler.start_of(i) + k;
      ASSERT_EQ(inputs[static_cast<size_t>(k)], corpus_.file()[at]);
      ASSERT_EQ(targets[static_cast<size_t>(k)], corpus_.file()[at + 1]);
    }
  }
}

TEST_F(Windows, OfAShorterTextAreRefused) {
  for (int64_t size : {0, 1, 16}) {
    const std::string error = error_of<InputError>([&] { WindowSampler(corpus_.range(0, size), 16, 1); });
    EXPECT_NE(error.find(fmt::format("{} tokens", size)), std::string::npos) << error;
    EXPECT_NE(error.find("needs 17"), std::string::npos) << error;
  }
}

}  // namespace
}  // namespace qtf::train
