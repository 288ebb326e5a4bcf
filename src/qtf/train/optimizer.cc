#include "qtf/train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "qtf/kernels/adamw.h"
#include "qtf/kernels/vector.h"

namespace qtf::train {

namespace {
constexpr int64_t kNormBlock = 1 << 16;  // of numbers summed by one worker: fixed, so that the sum is too
}  // namespace

double norm(std::span<const float> x, ThreadPool& pool) {
  const auto size = static_cast<int64_t>(x.size());
  std::vector<double> sums(static_cast<size_t>((size + kNormBlock - 1) / kNormBlock));
  pool.parallel_for(static_cast<int64_t>(sums.size()), [&](int, Range range) {
    for (int64_t i = range.begin; i < range.end; ++i) {
      const int64_t n = std::min(kNormBlock, size - i * kNormBlock);
      sums[static_cast<size_t>(i)] = kernels::sum_squares<float>(n, x.data() + i * kNormBlock);
    }
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return std::sqrt(total);
}

AdamW::AdamW(const model::ParameterLayout& layout, const AdamWOptions& options)
    : layout_(layout), options_(options), first_(static_cast<size_t>(layout.size), 0.F), second_(first_) {}

double AdamW::step(int64_t step, double learning_rate, std::span<const float> gradients,
                   std::span<float> parameters, ThreadPool& pool) {
  const double gradient_norm = norm(gradients.first(parameters.size()), pool);
  const bool clipped = options_.clip > 0 && gradient_norm > options_.clip;
  const auto power = static_cast<double>(step);
  kernels::AdamWStep<float> update{};
  update.beta1 = static_cast<float>(options_.beta1);
  update.beta2 = static_cast<float>(options_.beta2);
  update.epsilon = static_cast<float>(options_.epsilon);
  update.correction1 = static_cast<float>(1 / (1 - std::pow(options_.beta1, power)));
  update.correction2 = static_cast<float>(1 / (1 - std::pow(options_.beta2, power)));
  update.gradient_scale = clipped ? static_cast<float>(options_.clip / gradient_norm) : 1.F;

  pool.parallel_for(layout_.size, [&](int, Range range) {
    for (const model::Parameter& p : layout_.parameters) {
      const int64_t begin = std::max(range.begin, p.offset), end = std::min(range.end, p.offset + p.size);
      if (begin >= end) continue;
      kernels::AdamWStep<float> own = update;
      own.learning_rate = static_cast<float>(learning_rate * p.rate_scale);
      // Decay is part of the recipe, not of a core's geometry: every core shrinks at the base rate.
      own.weight_decay = p.decay ? static_cast<float>(options_.weight_decay / p.rate_scale) : 0.F;
      kernels::adamw<float>(end - begin, own, gradients.data() + begin, parameters.data() + begin,
                            first_.data() + begin, second_.data() + begin);
    }
  });
  return gradient_norm;
}

void update_average(double decay, std::span<const float> values, std::span<float> average, ThreadPool& pool) {
  pool.parallel_for(static_cast<int64_t>(values.size()), [&](int, Range range) {
    kernels::scale<float>(range.size(), static_cast<float>(decay), average.data() + range.begin);
    kernels::axpy<float>(range.size(), static_cast<float>(1 - decay), values.data() + range.begin,
                         average.data() + range.begin);
  });
}

double schedule(double progress, double warmup, double final_share) {
  if (progress < warmup) return std::max(progress, 1e-3) / warmup;
  const double rest = std::clamp((progress - warmup) / (1 - warmup), 0.0, 1.0);
  return final_share + (1 - final_share) * 0.5 * (1 + std::cos(std::numbers::pi * rest));
}

}  // namespace qtf::train
