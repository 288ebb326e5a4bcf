// How many tokens took each level in each layer: what reports and calibration say of a policy.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "qtf/model/rank_scheduler.h"

namespace qtf::model {

class RankMix {
 public:
  RankMix() = default;
  explicit RankMix(const RankScheduler& scheduler, int64_t layers)
      : counts_(static_cast<size_t>(layers), std::vector<int64_t>(static_cast<size_t>(scheduler.levels()))) {}

  /// Counts a token in a layer; level 0, where nothing was chosen, is left out.
  void add(int64_t layer, int level) {
    if (level > 0) ++counts_[static_cast<size_t>(layer)][static_cast<size_t>(level - 1)];
  }
  /// chosen[layers, rows]: as Levels::chosen, of the layers that the scheduler governs.
  void add(const RankScheduler& scheduler, const uint8_t* chosen, int64_t rows);
  /// The tokens of a sequence that its cache holds.
  template <class T>
  void add(const RankScheduler& scheduler, const nn::KvCache<T>& cache) {
    for (int64_t layer = 0; layer < static_cast<int64_t>(counts_.size()); ++layer)
      for (int64_t t = 0; t < cache.length() && scheduler.governs(layer); ++t)
        add(layer, cache.level(layer, t));
  }
  void add(const RankMix& other);

  /// Tokens of all layers.
  int64_t total() const;
  /// Of all layers' tokens, those at a level (from 1); 0 without any.
  double share(int level) const;
  /// The mean place in the range of ranks, 0 to 1, over tokens and layers.
  double mean_rank(const RankScheduler& scheduler) const;

 private:
  std::vector<std::vector<int64_t>> counts_;  // [layers][levels]
};

/// As --rank-policy has it: "entropy", "fixed:2".
std::string policy_name(const adapt::RankPolicyChoice& policy);

/// A policy and the mix that it came to, for reports and answers: {policy, mean_rank, level_shares} and, of
/// those that have them, {asked_mean_rank, alpha, hysteresis}.
nlohmann::ordered_json ranks_json(const RankScheduler& scheduler, const RankMix& mix);

}  // namespace qtf::model
