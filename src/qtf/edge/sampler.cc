#include "qtf/edge/sampler.h"

#include <algorithm>
#include <bit>

#include "qtf/base/random.h"
#include "qtf/kernels/softmax.h"

namespace qtf::edge {

namespace {

/// The largest t such that the weights of at least t sum up to `wanted`, each counted as value(weight); 0
/// where all do not. Weights from 0 on are in the order of their bits, which are found eight at a time, from
/// the highest down: of those whose bits so far are the same, the sums by the next eight.
template <class Value>
float threshold(int64_t n, const float* weights, double wanted, const Value& value) {
  constexpr int kBits = 8, kBuckets = 1 << kBits;
  uint32_t found = 0;  // t's bits above `shift`
  double above = 0;    // the sum of the weights beyond the bucket
  for (int shift = 32 - kBits; shift >= 0; shift -= kBits) {
    double sums[kBuckets] = {};
    for (int64_t i = 0; i < n; ++i) {
      const auto bits = std::bit_cast<uint32_t>(weights[i]);
      if (shift + kBits < 32 && bits >> (shift + kBits) != found >> (shift + kBits)) continue;
      sums[bits >> shift & (kBuckets - 1)] += value(weights[i]);
    }
    uint32_t bucket = kBuckets - 1;
    for (; bucket > 0 && above + sums[bucket] < wanted; --bucket) above += sums[bucket];
    found |= bucket << shift;
  }
  return std::bit_cast<float>(found);
}

/// Makes 0 of the weights below t, and returns the sum of the others.
double drop_below(int64_t n, float* weights, float t) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    weights[i] = weights[i] >= t ? weights[i] : 0;
    sum += static_cast<double>(weights[i]);
  }
  return sum;
}

}  // namespace

int32_t draw(int64_t n, const float* logits, const qtf_edge_sampling& sampling, uint64_t position,
             float* weights) {
  const int64_t likeliest = kernels::argmax<float>(n, logits);
  if (sampling.temperature == 0) return static_cast<int32_t>(likeliest);
  for (int64_t i = 0; i < n; ++i) weights[i] = (logits[i] - logits[likeliest]) / sampling.temperature;
  kernels::exp_shifted<float>(n, weights, 0, 1, weights);
  double total = drop_below(n, weights, 0);
  if (sampling.top_k > 0 && sampling.top_k < n)
    total = drop_below(n, weights, threshold(n, weights, sampling.top_k, [](float) { return 1.0; }));
  if (sampling.top_p > 0 && sampling.top_p < 1) {
    const double wanted = static_cast<double>(sampling.top_p) * total;
    total =
        drop_below(n, weights, threshold(n, weights, wanted, [](float w) { return static_cast<double>(w); }));
  }
  double point = Random{sampling.seed, 7}.uniform(position) * total;
  int32_t token = static_cast<int32_t>(likeliest);
  for (int64_t i = 0; i < n; ++i) {
    if (weights[i] <= 0) continue;
    token = static_cast<int32_t>(i);
    point -= static_cast<double>(weights[i]);
    if (point < 0) break;
  }
  return token;
}

}  // namespace qtf::edge
