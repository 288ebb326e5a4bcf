#include "qtf/edge/sampler.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "qtf/base/random.h"
#include "qtf/kernels/softmax.h"

namespace qtf::edge {

namespace {

/// The largest t such that enough(t), for an `enough` that holds at 0 and from some t on no more. Numbers
/// from 0 on are in the order of their bits, so that 31 steps find it.
template <class Enough>
float largest(const Enough& enough) {
  uint32_t low = 0, high = std::bit_cast<uint32_t>(std::numeric_limits<float>::infinity());
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    enough(std::bit_cast<float>(middle)) ? low = middle : high = middle;
  }
  return std::bit_cast<float>(low);
}

/// The sum of the weights of at least t.
double sum_from(int64_t n, const float* weights, float t) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += weights[i] >= t ? static_cast<double>(weights[i]) : 0;
  return sum;
}

void drop_below(int64_t n, float* weights, float t) {
  for (int64_t i = 0; i < n; ++i) weights[i] = weights[i] >= t ? weights[i] : 0;
}

}  // namespace

int32_t draw(int64_t n, const float* logits, const qtf_edge_sampling& sampling, uint64_t position,
             float* weights) {
  const int64_t likeliest = kernels::argmax<float>(n, logits);
  if (sampling.temperature == 0) return static_cast<int32_t>(likeliest);
  for (int64_t i = 0; i < n; ++i) weights[i] = (logits[i] - logits[likeliest]) / sampling.temperature;
  kernels::exp_shifted<float>(n, weights, 0, 1, weights);
  if (sampling.top_k > 0 && sampling.top_k < n) {
    drop_below(n, weights, largest([&](float t) {
                 return std::count_if(weights, weights + n, [&](float w) { return w >= t; }) >=
                        sampling.top_k;
               }));
  }
  double total = sum_from(n, weights, 0);
  if (sampling.top_p > 0 && sampling.top_p < 1) {
    const double wanted = static_cast<double>(sampling.top_p) * total;
    drop_below(n, weights, largest([&](float t) { return sum_from(n, weights, t) >= wanted; }));
    total = sum_from(n, weights, 0);
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
