// README.md of a model folder: the model card, generated from measured facts.
#pragma once

#include <string>

#include "qtf/model/config.h"

namespace qtf::model {

/// What a card states besides the configuration; every number was measured by the run that writes it.
struct CardFacts {
  std::string name;
  std::string trained_on;  ///< path or name of the training text
  int64_t bytes = 0;       ///< of model.safetensors
  int64_t steps = 0;
  double seconds = 0;
  double nats_per_token = 0, standard_error = 0, word_perplexity = 0, bits_per_byte = 0;
  int64_t context = 0, stride = 0;  ///< of the validation
};

/// Markdown with Hugging Face's metadata block.
std::string model_card(const ModelConfig& config, const CardFacts& facts);

}  // namespace qtf::model
