// The learned gate of the policy `gate`: a linear function of a token's numbers before a block that says how
// much the token would lose there at a smaller level. model/rank_calibration.h trains it, and
// model/rank_scheduler.h asks it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "qtf/base/thread_pool.h"
#include "qtf/model/transformer.h"

namespace qtf::model {

/// Weights of a layer's gate are integers in this unit.
inline constexpr double kGateUnit = 1e-6;

/// z/(1 + |z|) moved to (0, 1), of z = Σ weights[i]·x[i]/rms(x) + weights[D]·entropy + weights[D + 1].
/// weights: D + 2 numbers in kGateUnit.
template <class T>
double gate_signal(std::span<const int64_t> weights, const T* x, double entropy);

/// A gate for each layer that a level changes something in, else none. Of every token but the first of each
/// sequence the loss in nats is measured by which one layer alone at `level` changes what the model predicts
/// from it: KL(whole ‖ that). The gate is the ridge regression of its logarithm on the token's numbers before
/// the block. tokens, ends: as of calibrate_ranks(). The same on any number of threads.
std::vector<std::vector<int64_t>> train_gates(const Transformer<float>& model,
                                              std::span<const int32_t> tokens, std::span<const int64_t> ends,
                                              int level, ThreadPool& pool);

}  // namespace qtf::model
