// README.md of a model folder: the model card, generated from the folder's records. Behind every number
// stands the record that holds it.
#pragma once

#include <filesystem>
#include <string>

#include "qtf/cli/model_records.h"
#include "qtf/model/config.h"

namespace qtf::cli {

/// Markdown with Hugging Face's metadata block.
std::string model_card(const std::string& name, const model::ModelConfig& config,
                       const ModelRecords& records);

/// Makes README.md of a finished folder anew. Throws like read_model_records.
void write_model_card(const std::filesystem::path& folder, const std::string& name,
                      const model::ModelConfig& config);

}  // namespace qtf::cli
