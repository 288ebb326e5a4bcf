// Rotary position embedding (Su et al. 2021), Hugging Face's pairing: coordinates i and i + head_dim/2.
#pragma once

#include <cstdint>

namespace qtf::kernels {

/// Rotates `heads` heads of head_dim contiguous numbers at x in place by the angles of one position: cosines
/// and sines hold head_dim/2 numbers each. Pass direction -1 to rotate back (backward).
template <class T>
void rope(int64_t heads, int64_t head_dim, const T* cosines, const T* sines, T direction, T* x);

}  // namespace qtf::kernels
