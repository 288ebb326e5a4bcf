// The state of an unfinished training run: one file, replaced atomically, so that whoever kills the process
// loses at most the steps since the last one.
#pragma once

#include <filesystem>
#include <functional>

#include "qtf/base/json.h"
#include "qtf/train/step.h"

namespace qtf::train {

/// What besides the numbers is needed to go on.
struct RunState {
  int64_t step = 0;        ///< updates done
  double seconds = 0;      ///< trained so far
  int64_t best_step = -1;  ///< -1: not validated yet
  double best_nats = 0;
  double best_error = 0;
  int64_t bad_validations = 0;  ///< in a row, without a new best
  int64_t metrics_bytes = 0;    ///< length of metrics.jsonl then; what follows is cut off on resume
  bool guided = false;          ///< guides stand beside the weights still
  /// Of a rank policy that the model learns under (rank_training.h); empty: there is none.
  std::vector<std::vector<int64_t>> rank_quantiles = {};
};

/// Where a checkpoint's numbers lie; `average` may be empty, and the guides' are where there are none.
struct CheckpointArrays {
  std::span<float> parameters, first_moments, second_moments, average;
  std::span<float> guides = {}, guide_first_moments = {}, guide_second_moments = {};
};

/// Writes `folder`/checkpoint.safetensors: parameters, both moments, averaged weights, guides, progress and
/// `identity`.
void save_checkpoint(const std::filesystem::path& folder, const RunState& progress,
                     const nlohmann::json& identity, const CheckpointArrays& arrays);

/// Reads it back: `arrays` is asked for the places of the numbers once the state is known. Throws InputError
/// if there is none, or if its identity is not this one (naming the first key that differs: another text,
/// seed, model, …; null goes with any value), IoError if it is damaged.
RunState load_checkpoint(const std::filesystem::path& folder, const nlohmann::json& identity,
                         const std::function<CheckpointArrays(const RunState&)>& arrays);

bool has_checkpoint(const std::filesystem::path& folder);
void remove_checkpoint(const std::filesystem::path& folder);

}  // namespace qtf::train
