// config.json of a model folder: Hugging Face's keys, and ours under "qtf" (docs/model-format.md).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "qtf/io/safetensors.h"
#include "qtf/model/config.h"
#include "qtf/tensor/quantized_matrix.h"

namespace qtf::model {

/// Text of config.json. `dtype`: of the weights beside it (F32, F16 or BF16), for other programs;
/// `quantization`: of the cores, if they are codes.
std::string config_to_json(const ModelConfig& config, const std::string& tokenizer_fingerprint,
                           io::DType dtype = io::DType::f32, const std::optional<Coding>& quantization = {});

/// What config.json says beyond the ModelConfig.
struct ConfigFile {
  ModelConfig config;
  std::string tokenizer_fingerprint;   ///< empty: none recorded
  std::optional<Coding> quantization;  ///< of the cores; none: they are floats
};

/// Reads config.json's text; `place` names it in errors. Throws IoError for what is not such a file,
/// InputError for families, versions or sizes that are not supported (naming what is).
ConfigFile config_from_json(std::string_view text, const std::string& place);

}  // namespace qtf::model
