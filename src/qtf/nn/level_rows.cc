#include "qtf/nn/level_rows.h"

#include <algorithm>
#include <array>

namespace qtf::nn {

LevelRows rows_at(int level, int64_t rows, Arena& arena) {
  auto* group = arena.allocate<LevelGroup>(1);
  *group = {level, 0, rows};
  return {{group, 1}, nullptr};
}

LevelRows sort_by_level(std::span<const uint8_t> levels, Arena& arena) {
  std::array<int64_t, 256> counts{};
  for (const uint8_t level : levels) ++counts[level];
  const auto distinct = std::count_if(counts.begin(), counts.end(), [](int64_t n) { return n > 0; });
  const auto rows = static_cast<int64_t>(levels.size());
  if (distinct <= 1) return rows_at(levels.empty() ? 0 : levels[0], rows, arena);
  auto* groups = arena.allocate<LevelGroup>(distinct);
  std::array<int64_t, 256> next{};
  int64_t first = 0, group = 0;
  for (size_t level = counts.size(); level-- > 0;) {
    if (counts[level] == 0) continue;
    groups[group++] = {static_cast<int>(level), first, counts[level]};
    next[level] = first;
    first += counts[level];
  }
  auto* order = arena.allocate<int64_t>(rows);
  for (int64_t row = 0; row < rows; ++row) order[next[levels[static_cast<size_t>(row)]]++] = row;
  return {{groups, static_cast<size_t>(distinct)}, order};
}

template <class T>
Matrix<T> in_order(const LevelRows& rows, Matrix<T> x, Arena& arena) {
  if (!rows.order) return x;
  const Matrix<T> sorted(arena.allocate<T>(x.rows * x.cols), x.rows, x.cols);
  for (int64_t i = 0; i < x.rows; ++i) std::copy_n(x.row(rows.order[i]), x.cols, sorted.row(i));
  return sorted;
}

template <class T>
Matrix<T> room_in_order(const LevelRows& rows, Matrix<T> y, Arena& arena) {
  return rows.order ? Matrix<T>(arena.allocate<T>(y.rows * y.cols), y.rows, y.cols) : y;
}

template <class T>
void put_back(const LevelRows& rows, ConstMatrix<T> sorted, Matrix<T> y, int64_t begin, int64_t end) {
  if (!rows.order) return;
  for (int64_t i = 0; i < y.rows; ++i)
    std::copy(sorted.data + i * sorted.row_stride + begin, sorted.data + i * sorted.row_stride + end,
              y.row(rows.order[i]) + begin);
}

#define QTF_INSTANTIATE_LEVEL_ROWS(T)                                       \
  template Matrix<T> in_order<T>(const LevelRows&, Matrix<T>, Arena&);      \
  template Matrix<T> room_in_order<T>(const LevelRows&, Matrix<T>, Arena&); \
  template void put_back<T>(const LevelRows&, ConstMatrix<T>, Matrix<T>, int64_t, int64_t);
QTF_INSTANTIATE_LEVEL_ROWS(float)
QTF_INSTANTIATE_LEVEL_ROWS(double)
#undef QTF_INSTANTIATE_LEVEL_ROWS

}  // namespace qtf::nn
