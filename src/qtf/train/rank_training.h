// The rank policy that a model learns under: its distributions of the signal move along with the weights.
#pragma once

#include <cstdint>
#include <vector>

#include "qtf/model/rank_scheduler.h"
#include "qtf/model/transformer.h"

namespace qtf::train {

/// Quantiles of the signal, a layer each, in 1e-9: all that a resumed run must know.
using RankQuantiles = std::vector<std::vector<int64_t>>;

class RankTraining {
 public:
  /// Begins with uniform distributions. mean: of the ranks, in 1e-9. Throws InputError for a model without
  /// levels to choose from.
  RankTraining(const model::ModelConfig& config, int64_t mean);

  const model::RankScheduler& scheduler() const { return scheduler_; }

  /// Moves the quantiles towards those of a step's tokens: the first step's are taken, later ones move a
  /// share of max(1/step, 1/20), as the router's do. A function of the sets of numbers, not of their order.
  /// Samples that are not finite are left out.
  void move(int64_t step, const model::RankSamples& samples);

  const RankQuantiles& quantiles() const { return quantiles_; }
  void set_quantiles(RankQuantiles quantiles);

 private:
  RankQuantiles quantiles_;
  model::RankScheduler scheduler_;
};

}  // namespace qtf::train
