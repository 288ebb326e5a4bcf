// The learned gate of the policy `gate`: a linear function of a token's numbers before a block that says how
// much the token would lose there at a smaller level (adapt/gate_signal.h has its formula).
// model/rank_calibration.h trains it, and model/rank_scheduler.h asks it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "qtf/base/thread_pool.h"
#include "qtf/model/transformer.h"

namespace qtf::model {

/// A gate for each layer that a level changes something in, else none. Of every token but the first of each
/// sequence the loss in nats is measured by which one layer alone at `level` changes what the model predicts
/// from it: KL(whole ‖ that). The gate is the ridge regression of its logarithm on the token's numbers before
/// the block. tokens, ends: as of calibrate_ranks(). The same on any number of threads.
std::vector<std::vector<int64_t>> train_gates(const Transformer<float>& model,
                                              std::span<const int32_t> tokens, std::span<const int64_t> ends,
                                              int level, ThreadPool& pool);

}  // namespace qtf::model
