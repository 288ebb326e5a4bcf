#include "qtf/base/huge_pages.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <thread>

#include "qtf/base/aligned.h"
#include "qtf/base/random.h"

namespace qtf {
namespace {

/// Small ones, those that share slabs, and those with pages of their own.
constexpr size_t kSizes[] = {1, 64, 65, 65535, 65536, 1 << 20, (4 << 20) - 1, 4 << 20, (17 << 20) + 3};

TEST(HugePages, BlocksAreAlignedAndTheirOwn) {
  struct Block {
    void* data;
    size_t size;
    int fill;
  };
  std::vector<Block> blocks;
  const Random random{1, 1};
  int fill = 0;
  for (int round = 0; round < 4; ++round) {
    for (const size_t size : kSizes) {
      blocks.push_back({allocate_shared(size), size, ++fill});
      ASSERT_EQ(reinterpret_cast<uintptr_t>(blocks.back().data) % 64, 0U) << size;
      std::memset(blocks.back().data, fill, size);
    }
    // Every other block goes, so that slabs end at different times.
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (random.below(static_cast<uint64_t>(fill * 100) + i, 2) == 0) continue;
      free_shared(blocks[i].data, blocks[i].size);
      blocks[i] = blocks.back();
      blocks.pop_back();
    }
    for (const Block& block : blocks) {
      const auto* bytes = static_cast<const uint8_t*>(block.data);
      EXPECT_EQ(bytes[0], block.fill);
      EXPECT_EQ(bytes[block.size - 1], block.fill);
      EXPECT_EQ(std::memcmp(bytes, bytes + 1, block.size - 1), 0) << block.size;
    }
  }
  for (const Block& block : blocks) free_shared(block.data, block.size);
}

TEST(HugePages, ManyThreadsMayAllocate) {
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int round = 0; round < 50; ++round) {
        std::vector<WeightVector<int>> vectors;
        for (int i = 0; i < 20; ++i) vectors.emplace_back(20'000 + 1000 * i, t);
        for (const auto& vector : vectors) EXPECT_EQ(vector.back(), t);
      }
    });
  }
}

TEST(HugePages, LargeVectorsBeginAtACacheLine) {
  for (const size_t size : kSizes) {
    const AlignedVector<char> vector(size, 'x');
    EXPECT_EQ(reinterpret_cast<uintptr_t>(vector.data()) % 64, 0U) << size;
    EXPECT_EQ(vector.back(), 'x');
  }
}

}  // namespace
}  // namespace qtf
