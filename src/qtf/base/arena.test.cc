#include "qtf/base/arena.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "qtf/base/aligned.h"

namespace qtf {
namespace {

bool is_aligned(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % 64 == 0;
}

TEST(Arena, AlignsWhateverTheSizes) {
  Arena arena;
  for (int64_t count : {1, 3, 64, 65, 1000}) {
    EXPECT_TRUE(is_aligned(arena.allocate<char>(count))) << count;
    EXPECT_TRUE(is_aligned(arena.allocate<double>(count))) << count;
  }
}

TEST(Arena, NeverMovesOrOverlapsWhatItHandedOut) {
  Arena arena;
  std::vector<std::pair<int*, int64_t>> blocks;
  for (int i = 0; i < 200; ++i) {
    const int64_t count = 1 + i * i * 7 % 30000;  // beyond one chunk in all
    blocks.emplace_back(arena.allocate<int>(count), count);
    std::fill_n(blocks.back().first, count, i);
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    const auto [data, count] = blocks[i];
    EXPECT_TRUE(std::all_of(data, data + count, [&](int x) { return x == static_cast<int>(i); })) << i;
  }
}

TEST(Arena, ReleaseGivesTheSameMemoryAgain) {
  Arena arena;
  arena.allocate<float>(10);
  const Arena::Mark mark = arena.mark();
  float* first = arena.allocate<float>(100);
  arena.allocate<float>(1 << 20);  // a second chunk
  arena.release(mark);
  EXPECT_EQ(arena.allocate<float>(100), first);
  arena.release({});
}

TEST(Arena, ScopesNestAndPeakStays) {
  Arena arena;
  {
    ArenaScope outer(arena);
    float* kept = arena.allocate<float>(16);
    float* inside = nullptr;
    {
      ArenaScope inner(arena);
      inside = arena.allocate<float>(1 << 10);
    }
    EXPECT_NE(kept, inside);
    EXPECT_EQ(arena.allocate<float>(1), inside);
  }
  EXPECT_EQ(arena.peak_bytes(), 64u + (4u << 10));
}

TEST(Arena, ReusesChunksOnceGrown) {
  Arena arena;
  for (int step = 0; step < 3; ++step) {
    ArenaScope scope(arena);
    for (int i = 0; i < 5; ++i) arena.allocate<char>(700'000);
  }
  EXPECT_GE(arena.peak_bytes(), 5u * 700'000);
  EXPECT_LT(arena.peak_bytes(), 5u * 700'000 + 5 * 64);
}

TEST(AlignedVector, StartsOnACacheLine) {
  for (size_t size : {1, 5, 1000}) EXPECT_TRUE(is_aligned(AlignedVector<float>(size).data()));
}

}  // namespace
}  // namespace qtf
