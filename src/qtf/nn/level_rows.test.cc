#include "qtf/nn/level_rows.h"

#include <gtest/gtest.h>

#include "qtf/nn/nn_test.h"

namespace qtf::nn {
namespace {

TEST(LevelRows, LieByLevelTheLargestFirstAndInTheirOrder) {
  const std::vector<uint8_t> levels = {1, 4, 2, 1, 4, 1};
  Arena arena;
  const LevelRows rows = sort_by_level(levels, arena);
  ASSERT_EQ(rows.groups.size(), 3U);
  const std::vector<std::array<int64_t, 3>> want = {{4, 0, 2}, {2, 2, 1}, {1, 3, 3}};
  for (size_t g = 0; g < want.size(); ++g) {
    EXPECT_EQ(rows.groups[g].level, want[g][0]);
    EXPECT_EQ(rows.groups[g].first, want[g][1]);
    EXPECT_EQ(rows.groups[g].rows, want[g][2]);
  }
  EXPECT_EQ(std::vector<int64_t>(rows.order, rows.order + 6), (std::vector<int64_t>{1, 4, 2, 0, 3, 5}));
}

TEST(LevelRows, OfOneLevelStayWhereTheyAre) {
  Arena arena;
  const std::vector<uint8_t> levels(5, 3);
  for (const LevelRows& rows : {sort_by_level(levels, arena), rows_at(3, 5, arena)}) {
    EXPECT_EQ(rows.order, nullptr);
    ASSERT_EQ(rows.groups.size(), 1U);
    EXPECT_EQ(rows.groups[0].level, 3);
    EXPECT_EQ(rows.groups[0].rows, 5);
    std::vector<float> x(10);
    const Matrix<float> matrix(x.data(), 5, 2);
    EXPECT_EQ(in_order(rows, matrix, arena).data, x.data());
    EXPECT_EQ(room_in_order(rows, matrix, arena).data, x.data());
    put_back<float>(rows, matrix, matrix);
  }
  EXPECT_EQ(sort_by_level({}, arena).groups[0].rows, 0);
}

TEST(LevelRows, ComeBackToTheirPlaces) {
  const std::vector<uint8_t> levels = {1, 4, 2, 1, 4, 1};
  auto x = random_values<float>(6 * 4, 1);
  const Matrix<float> matrix(x.data(), 6, 4);
  Arena arena;
  const LevelRows rows = sort_by_level(levels, arena);
  const Matrix<float> sorted = in_order(rows, matrix, arena);
  EXPECT_EQ(sorted(0, 3), matrix(1, 3));
  EXPECT_EQ(sorted(5, 0), matrix(5, 0));
  std::vector<float> back(x.size(), -1), part(x.size(), -1);
  put_back<float>(rows, sorted, {back.data(), 6, 4});
  EXPECT_EQ(back, x);
  put_back<float>(rows, sorted, {part.data(), 6, 4}, 1, 3);
  for (size_t i = 0; i < part.size(); ++i) EXPECT_EQ(part[i], i % 4 == 1 || i % 4 == 2 ? x[i] : -1) << i;
}

}  // namespace
}  // namespace qtf::nn
