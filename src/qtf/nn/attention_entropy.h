// A token's attention entropy from its heads' entropies, for attention and the edge library alike.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace qtf::nn {

/// The mean of its heads' entropies, whose sum in nats is given, by ln(t + 1), the largest that a token at
/// position t (from 0) can have, clamped to [0, 1]. The first token of a sequence, which attends to itself
/// alone, has 1.
template <class T>
T attention_entropy(T sum, int64_t heads, int64_t position) {
  if (position == 0) return T{1};
  return std::clamp(sum / (static_cast<T>(heads) * std::log(static_cast<T>(position + 1))), T{0}, T{1});
}

}  // namespace qtf::nn
