// From logits to the next token: temperature, truncation and repetition penalty, as a pure function of its
// inputs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "qtf/base/random.h"

namespace qtf::model {

/// How the next token is drawn. Applied in this order: repeat_penalty, temperature, top_k, top_p, min_p.
struct SamplingOptions {
  double temperature = 0.8;    ///< 0: always the most likely token
  int64_t top_k = 0;           ///< keep the k most likely; 0: all
  double top_p = 1;            ///< keep the fewest tokens whose probabilities reach this sum
  double min_p = 0;            ///< keep tokens of at least this share of the largest probability
  double repeat_penalty = 1;   ///< divides positive, multiplies negative logits of recent tokens
  int64_t repeat_window = 64;  ///< how many recent tokens count
  uint64_t seed = 0;
};

/// Throws InputError for values outside their ranges.
void validate(const SamplingOptions& options);

/// Draws the token that follows `history` from logits[V]; the same for the same arguments. Throws InputError
/// if a logit is NaN or infinite. Tokens of the history that have no logit count for nothing.
int32_t sample(std::span<const float> logits, std::span<const int32_t> history,
               const SamplingOptions& options);

}  // namespace qtf::model
