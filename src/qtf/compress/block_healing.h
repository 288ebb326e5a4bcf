// The first part of healing: every block of a compressed model is trained alone, in order, to answer what the
// original's block answers, given what the compressed model itself gives it (block-wise feature
// distillation). A step costs one block instead of the model, and no logits.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "qtf/compress/sequences.h"
#include "qtf/model/transformer.h"

namespace qtf::compress {

/// One of steps and seconds must be given.
struct BlockHealingOptions {
  int64_t steps = 0;   ///< updates a block
  double seconds = 0;  ///< wall clock for all blocks; not bit-identical
  int64_t batch = 16;  ///< sequences an update
  double learning_rate = 1e-3;
  uint64_t seed = 1;
  /// Called with the share that is done before every update; false ends the healing.
  std::function<bool(double share, std::string_view what)> progress = [](double, std::string_view) {
    return true;
  };
};

/// Relative error ‖y' − y‖/‖y‖ of a block's outputs, the mean of the levels' squares, on the sequences that
/// it was not trained on.
struct HealedBlock {
  double before = 0, after = 0;
};

/// Trains the blocks of `pupil` (all its levels alike) with AdamW, each core at its own step size. A block
/// that does not answer better afterwards keeps its old weights. Of the text's sequences each eighth is held
/// back to judge by. The same bits for the same steps and number of threads. The pupil comes and is left
/// prepared for training. Throws InputError for fewer than 8 sequences, or options out of range.
std::vector<HealedBlock> heal_blocks(const model::Transformer<float>& original,
                                     model::Transformer<float>& pupil, const Sequences& text,
                                     const BlockHealingOptions& options, ThreadPool& pool);

}  // namespace qtf::compress
