// What GGUF calls the tensors and sizes of the families that we know, and what in such a file we do not
// support. gguf_import.cc and gguf_export.cc read it in both directions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "qtf/model/config.h"

namespace qtf::model {

/// GGUF's "general.architecture".
std::string_view gguf_architecture(Family family);
std::optional<Family> find_gguf_architecture(std::string_view name);

/// "llama, gpt2"
std::string gguf_architectures();

/// GGUF's name of one of our tensors: "model.layers.3.mlp.up_proj.weight" → "blk.3.ffn_up.weight".
std::string gguf_tensor_name(Family family, std::string_view name);

}  // namespace qtf::model
