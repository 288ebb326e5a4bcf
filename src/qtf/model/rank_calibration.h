// Fits a model's rank policy to a text: each layer's distribution of the signal, and thresholds for a mean
// rank. `qtf calibrate`, and whatever makes models with levels, use it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "qtf/audit/decision.h"
#include "qtf/base/thread_pool.h"
#include "qtf/model/transformer.h"

namespace qtf::model {

struct RankCalibrationOptions {
  adapt::RankSignal signal = adapt::kUsualSignal;  ///< of those that are calibrated
  int64_t mean = adapt::kUnit / 2;                 ///< the mean rank that is stored as the model's, in 1e-9
  std::optional<int64_t> alpha = {};               ///< in 1e-9; none: usual_alpha of the signal
  int64_t hysteresis = 0;
};

/// Tokens that a calibration reads where nothing else is asked for.
inline constexpr int64_t kRankCalibrationTokens = 16384;

/// Level of the largest place that is at most the mean, but below the largest level: where the tokens are
/// that a policy of this mean does not lift. Its gates learn what is lost there.
int level_below(const std::vector<int64_t>& places, int64_t mean);

/// The policy of a model that is prepared for inference. tokens: sequences end to end, each read alone;
/// ends[i]: where the i-th ends. First tokens of sequences are left out, as they take the largest level in
/// any case. The distributions are those that the model has under its own policy: they are taken at the
/// largest level, then once more while the policy of the first pass decides; a gate is trained before. The
/// same on any number of threads. Throws InputError for a model without levels, or without the signal,
/// sequences longer than its context, and a text of under two tokens.
RankPolicy calibrate_ranks(const Transformer<float>& model, std::span<const int32_t> tokens,
                           std::span<const int64_t> ends, const RankCalibrationOptions& options,
                           ThreadPool& pool);

/// How each layer's thresholds were solved for, as it is recorded.
audit::DecisionList decisions(const RankPolicy& policy, const ModelConfig& config);

/// Puts the policy into a model folder's config.json, all else in it staying as it is, and its decisions into
/// decisions.jsonl in place of an earlier calibration's. Throws IoError.
void save_rank_policy(const std::filesystem::path& folder, const RankPolicy& policy,
                      const ModelConfig& config);

}  // namespace qtf::model
