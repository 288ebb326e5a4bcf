#include "qtf/train/rank_training.h"

#include <algorithm>
#include <cmath>

namespace qtf::train {

namespace {

RankQuantiles uniform_quantiles(int64_t layers) {
  std::vector<int64_t> steps;
  for (int64_t k = 0; k < model::kSignalQuantiles; ++k)
    steps.push_back(k * adapt::kUnit / (model::kSignalQuantiles - 1));
  return RankQuantiles(static_cast<size_t>(layers), steps);
}

model::RankScheduler training_scheduler(model::ModelConfig config, const RankQuantiles& quantiles,
                                        int64_t mean) {
  model::RankPolicy policy;
  policy.signal = adapt::RankSignal::entropy;
  policy.alpha = adapt::usual_alpha(policy.signal);
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::vector<int64_t> places = model::level_places(config, layer);
    policy.layers.push_back({{}, quantiles[static_cast<size_t>(layer)]});
    if (!places.empty())
      policy.layers.back().thresholds = adapt::solve_thresholds({mean, places, policy.alpha}).thresholds;
  }
  policy.mean = mean;
  config.rank_policy = policy;
  return {config, {{policy.signal, 0}, {}, {}, {}}};
}

}  // namespace

RankTraining::RankTraining(const model::ModelConfig& config, int64_t mean)
    : quantiles_(uniform_quantiles(config.layers)),
      scheduler_(training_scheduler(config, quantiles_, mean)) {}

void RankTraining::set_quantiles(RankQuantiles quantiles) {
  quantiles_ = std::move(quantiles);
  scheduler_.set_quantiles(quantiles_);
}

void RankTraining::move(int64_t step, const model::RankSamples& samples) {
  constexpr int64_t kMemory = 20;  // steps, as the router's
  const int64_t part = std::clamp<int64_t>(step, 1, kMemory);
  for (size_t layer = 0; layer < std::min(samples.size(), quantiles_.size()); ++layer) {
    std::vector<int64_t> units;
    for (const float sample : samples[layer])
      if (std::isfinite(sample)) units.push_back(adapt::to_units(static_cast<double>(sample)));
    if (units.empty()) continue;
    const auto target = adapt::distribution_of(std::move(units), model::kSignalQuantiles).quantiles;
    for (size_t k = 0; k < target.size(); ++k)
      quantiles_[layer][k] += (target[k] - quantiles_[layer][k]) / part;
  }
  scheduler_.set_quantiles(quantiles_);
}

}  // namespace qtf::train
