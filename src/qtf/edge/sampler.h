// Drawing a token from logits, without memory of its own.
#pragma once

#include <cstdint>

#include "qtf/edge/qtf_edge.h"

namespace qtf::edge {

/// The likeliest token of logits[n], or one drawn as `sampling` (valid) says, a function of its arguments
/// alone. weights: n numbers of scratch.
int32_t draw(int64_t n, const float* logits, const qtf_edge_sampling& sampling, uint64_t position,
             float* weights);

}  // namespace qtf::edge
