// Healing: the compressed model is trained on a text with the original as its teacher, first block by block,
// then whole.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "qtf/compress/block_healing.h"
#include "qtf/text/token_file.h"
#include "qtf/text/tokenizer.h"

namespace qtf::compress {

struct HealingOptions {
  double minutes = 1;                      ///< wall clock
  double block_share = 0;                  ///< of the minutes, for the blocks one by one; in [0, 1)
  double learning_rate = 1e-3;             ///< the largest
  std::filesystem::path out;               ///< a folder for the run's files, of which metrics.jsonl stays
  bool progress = true;                    ///< bars on stderr
  const std::atomic<int>* stop = nullptr;  ///< a signal's number ends the healing
};

struct Healing {
  std::unique_ptr<model::Transformer<float>> model;  ///< null if the model was better without
  std::vector<HealedBlock> blocks;
  std::optional<int> interrupted;  ///< by this signal; there is no model then
};

/// Half cross-entropy, half KL to the original, all numbers of the chains free and all nested levels trained;
/// the best weights by the text's last twentieth, all levels counting alike. Ends early when five validations
/// bring nothing. The result has the gauge of `model` and is prepared for inference.
Healing heal(const model::Transformer<float>& model, const model::Transformer<float>& original,
             const text::TokenFile& text, std::shared_ptr<const text::Tokenizer> tokenizer,
             const HealingOptions& options, ThreadPool& pool);

}  // namespace qtf::compress
