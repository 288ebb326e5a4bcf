// AdamW over a model's parameters with a step size of its own for every core, and averaged weights (EMA).
#pragma once

#include <span>

#include "qtf/base/aligned.h"
#include "qtf/base/thread_pool.h"
#include "qtf/model/parameters.h"

namespace qtf::train {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  ///< decoupled, of matrices only
  double clip = 1;            ///< largest gradient norm; 0: no clipping
};

/// Moments of all parameters. The update is elementwise, so that the threads' number changes nothing.
class AdamW {
 public:
  AdamW(const model::ParameterLayout& layout, const AdamWOptions& options);

  /// One update of `parameters`; step counts from 1. Returns the gradient's norm before clipping.
  double step(int64_t step, double learning_rate, std::span<const float> gradients,
              std::span<float> parameters, ThreadPool& pool);

  std::span<float> first_moments() { return first_; }
  std::span<float> second_moments() { return second_; }

 private:
  const model::ParameterLayout& layout_;
  AdamWOptions options_;
  AlignedVector<float> first_, second_;
};

/// ‖x‖ in double, the same for any number of threads.
double norm(std::span<const float> x, ThreadPool& pool);

/// average = decay · average + (1 - decay) · values.
void update_average(double decay, std::span<const float> values, std::span<float> average, ThreadPool& pool);

/// Share of the base learning rate at `progress` in [0, 1]: linear warm-up over the first `warmup` share,
/// then a cosine down to `final_share`.
double schedule(double progress, double warmup, double final_share);

}  // namespace qtf::train
