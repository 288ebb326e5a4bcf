#include "qtf/model/rank_mix.h"

#include <fmt/format.h>

#include "qtf/base/json.h"

namespace qtf::model {

void RankMix::add(const RankScheduler& scheduler, const uint8_t* chosen, int64_t rows) {
  for (int64_t layer = 0; layer < static_cast<int64_t>(counts_.size()); ++layer) {
    if (!scheduler.governs(layer)) continue;
    for (int64_t row = 0; row < rows; ++row) add(layer, chosen[layer * rows + row]);
  }
}

void RankMix::add(const RankMix& other) {
  if (counts_.empty()) counts_.resize(other.counts_.size());
  for (size_t layer = 0; layer < other.counts_.size(); ++layer) {
    counts_[layer].resize(other.counts_[layer].size());
    for (size_t level = 0; level < counts_[layer].size(); ++level)
      counts_[layer][level] += other.counts_[layer][level];
  }
}

int64_t RankMix::total() const {
  int64_t sum = 0;
  for (const auto& layer : counts_)
    for (const int64_t count : layer) sum += count;
  return sum;
}

double RankMix::share(int level) const {
  int64_t at = 0;
  for (const auto& layer : counts_) at += layer[static_cast<size_t>(level - 1)];
  const int64_t all = total();
  return all > 0 ? static_cast<double>(at) / static_cast<double>(all) : 0;
}

double RankMix::mean_rank(const RankScheduler& scheduler) const {
  double sum = 0;
  for (size_t layer = 0; layer < counts_.size(); ++layer) {
    const std::vector<int64_t>& places = scheduler.places(static_cast<int64_t>(layer));
    for (size_t level = 0; level < places.size(); ++level)
      sum += static_cast<double>(counts_[layer][level]) * static_cast<double>(places[level]) /
             static_cast<double>(adapt::kUnit);
  }
  const int64_t all = total();
  return all > 0 ? sum / static_cast<double>(all) : 0;
}

std::string policy_name(const adapt::RankPolicyChoice& policy) {
  return policy.signal == adapt::RankSignal::fixed ? fmt::format("fixed:{}", policy.level)
                                                   : std::string(adapt::info(policy.signal).name);
}

nlohmann::ordered_json ranks_json(const RankScheduler& scheduler, const RankMix& mix) {
  const auto share = [](int64_t units) {
    return static_cast<double>(units) / static_cast<double>(adapt::kUnit);
  };
  nlohmann::ordered_json shares = nlohmann::ordered_json::array();
  for (int level = 1; level <= scheduler.levels(); ++level) shares.push_back(mix.share(level));
  nlohmann::ordered_json json = {{"policy", policy_name(scheduler.options().policy)},
                                 {"mean_rank", mix.mean_rank(scheduler)},
                                 {"level_shares", shares}};
  if (scheduler.options().policy.signal != adapt::RankSignal::fixed) {
    json["asked_mean_rank"] = share(scheduler.mean());
    json["alpha"] = share(scheduler.alpha());
    json["hysteresis"] = share(scheduler.hysteresis());
  }
  return json;
}

}  // namespace qtf::model
