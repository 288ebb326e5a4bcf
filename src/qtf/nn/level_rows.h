// Rows of one product at several nested levels: sorted by level, so that a level's rows are one product, and
// put back where they came from. nn/block.h and nn/decode.h use it where a pass has a LevelChooser.
#pragma once

#include <cstdint>
#include <span>

#include "qtf/base/arena.h"
#include "qtf/tensor/matrix.h"
#include "qtf/tt/linear_map.h"

namespace qtf::nn {

using tt::LevelGroup;

/// Rows by level.
struct LevelRows {
  std::span<const LevelGroup> groups;  ///< of all rows, in order
  const int64_t* order = nullptr;      ///< order[i]: which row lies i-th; null: they lie as they are
};

/// All rows at one level.
LevelRows rows_at(int level, int64_t rows, Arena& arena);

/// levels[row]: 1 to 255. The largest level first; rows of one level stay in their order, and nothing is
/// moved where all have the same. What returns lies in the arena.
LevelRows sort_by_level(std::span<const uint8_t> levels, Arena& arena);

/// x[rows, n] in the groups' order: x itself where they lie as they are, else a copy in the arena.
template <class T>
Matrix<T> in_order(const LevelRows& rows, Matrix<T> x, Arena& arena);

/// Where a product in the groups' order goes that belongs into y: y itself, or room in the arena; then
/// put_back.
template <class T>
Matrix<T> room_in_order(const LevelRows& rows, Matrix<T> y, Arena& arena);

/// y[order[i], columns] = sorted[i, columns]; nothing where `sorted` is y itself.
template <class T>
void put_back(const LevelRows& rows, ConstMatrix<T> sorted, Matrix<T> y, int64_t begin, int64_t end);
template <class T>
void put_back(const LevelRows& rows, ConstMatrix<T> sorted, Matrix<T> y) {
  put_back<T>(rows, sorted, y, 0, y.cols);
}

}  // namespace qtf::nn
