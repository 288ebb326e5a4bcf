// What a model knows of its ranks: the places of its levels, and the policy that a calibration text gave it
// (config.json's qtf.rank_policy). model/rank_scheduler.h decides by it.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "qtf/adapt/rank_policy.h"

namespace qtf::model {

struct ModelConfig;

/// Shares and numbers of the signal are integers in 1e-9, as in adapt/rank_policy.h.
struct RankPolicy {
  struct Layer {
    std::vector<int64_t> thresholds;  ///< of Ŝ, one fewer than levels; none where nothing has levels
    std::vector<int64_t> quantiles;   ///< of the signal on the calibration text at 0, 1/(K − 1), …, 1
    std::vector<int64_t> gate = {};   ///< of `gate`, D + 2 numbers in 1e-6 (model/rank_gate.h)
    /// Of `circuit`: quantiles of the entanglement of routed tokens; none before the quantum layer.
    std::vector<int64_t> circuit = {};
    /// Quantiles of the attention's entropy where `quantiles` are another signal's: so that every calibrated
    /// model has the policy `entropy` too.
    std::vector<int64_t> entropy = {};
    bool operator==(const Layer&) const = default;
  };
  adapt::RankSignal signal = adapt::kUsualSignal;
  int64_t mean = adapt::kUnit / 2;  ///< the mean rank that the thresholds were solved for
  int64_t alpha = adapt::usual_alpha(adapt::kUsualSignal);
  int64_t hysteresis = 0;
  std::vector<Layer> layers;  ///< one a block
  bool operator==(const RankPolicy&) const = default;
};

/// A layer's quantiles for a policy; null: the model was not calibrated for it.
const std::vector<int64_t>* quantiles_for(const RankPolicy& policy, size_t layer, adapt::RankSignal signal);

/// Quantiles of a layer's signal that a calibration keeps.
inline constexpr int64_t kSignalQuantiles = 65;

/// The steepest slope: beyond it all tokens take the smallest or the largest level.
inline constexpr int64_t kMostAlpha = 1000 * adapt::kUnit;

/// Throws InputError naming `place` for a policy that is not of a model with these layers and levels.
void validate(const RankPolicy& policy, const ModelConfig& config, const std::string& place);

nlohmann::ordered_json to_json(const RankPolicy& policy);
/// Throws IoError naming `place` for what is not such an object. Its numbers are not yet checked.
RankPolicy rank_policy_from_json(const nlohmann::ordered_json& json, const std::string& place);

/// The rank of what a policy governs in a block (the attention's output projection and the feed-forward
/// layer) at a level: the mean of its maps' ranks, each weighted by in + out, what a rank costs in
/// multiply-adds. 0 where none of them has levels. level 0: the largest.
double block_rank(const ModelConfig& config, int64_t layer, int level);

/// Each level's place in the block's range of ranks, 0 to kUnit. Empty where a level changes nothing.
std::vector<int64_t> level_places(const ModelConfig& config, int64_t layer);

/// Whether a level changes anything after some block's attention.
bool has_rank_choice(const ModelConfig& config);

}  // namespace qtf::model
