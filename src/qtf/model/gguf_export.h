// Writing dense models as GGUF files that llama.cpp runs.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "qtf/io/tensor_type.h"
#include "qtf/model/transformer.h"
#include "qtf/text/tokenizer.h"

namespace qtf::model {

/// Writes a dense model with its tokenizer (null: none). Matrices are of `type` (F32, F16 or Q8_0; rows no
/// multiple of 32 stay F16), vectors and positions F32, as llama.cpp has them. Returns what the file does not
/// hold or llama.cpp does otherwise, a sentence each. Throws InputError for a model with tensor trains or a
/// number too large for `type`, IoError if the file cannot be written.
std::vector<std::string> save_gguf(const std::filesystem::path& path, const Transformer<float>& model,
                                   const text::Tokenizer* tokenizer, io::TensorType type);

}  // namespace qtf::model
