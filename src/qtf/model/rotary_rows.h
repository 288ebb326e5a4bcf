// The two orders in which rotary embedding pairs the rows of q and k. Hugging Face and we turn rows i and
// i + d/2 of a head of width d ("halves"); llama2.c and GGUF turn rows 2i and 2i + 1 ("pairs").
#pragma once

#include <algorithm>
#include <cstdint>

namespace qtf::model {

/// Whether this map's rows are turned: q_proj and k_proj of the Llama family.
inline bool is_rotated(std::string_view name) {
  return name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight");
}

/// Where row `row` of the pairs' order stands in the halves' order.
inline int64_t row_in_halves(int64_t row, int64_t head_dim) {
  const int64_t in_head = row % head_dim;
  return row - in_head + in_head / 2 + in_head % 2 * (head_dim / 2);
}

/// to[rows, cols] in the halves' order from `from` in the pairs' order; they must not overlap.
inline void halves_from_pairs(const float* from, int64_t rows, int64_t cols, int64_t head_dim, float* to) {
  for (int64_t row = 0; row < rows; ++row)
    std::copy_n(from + row * cols, cols, to + row_in_halves(row, head_dim) * cols);
}

/// The reverse.
inline void pairs_from_halves(const float* from, int64_t rows, int64_t cols, int64_t head_dim, float* to) {
  for (int64_t row = 0; row < rows; ++row)
    std::copy_n(from + row_in_halves(row, head_dim) * cols, cols, to + row * cols);
}

}  // namespace qtf::model
