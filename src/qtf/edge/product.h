// Products with the matrices and maps of an edge file, by the kernels that the rest of qtf runs: every number
// is the same chain of fused multiply-adds as there, and as of any other number of rows.
#pragma once

#include "qtf/edge/arena.h"
#include "qtf/edge/file.h"

namespace qtf::edge {

/// Numbers of scratch that apply() needs for `rows` rows of a map.
int64_t scratch_size(const File& file, const Map& map, int64_t rows);

/// y[rows, out] = x[rows, in]·Wᵀ + bias, with row strides ldx and ldy. level: of nested chains, 0: the
/// largest. scratch: scratch_size() numbers.
void apply(const File& file, const Map& map, uint32_t level, int64_t rows, const float* x, int64_t ldx,
           float* y, int64_t ldy, float* scratch);

/// x[in] = W[token, :]: the map as an embedding. scratch: scratch_size() numbers of one row.
void gather(const File& file, const Map& map, uint32_t level, uint32_t token, float* x, float* scratch);

}  // namespace qtf::edge
