// Writing models as edge files, which the edge library runs where they lie (docs/edge.md).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "qtf/io/tensor_type.h"
#include "qtf/model/transformer.h"
#include "qtf/text/tokenizer.h"

namespace qtf::model {

/// Writes a model with its tokenizer (null: none). Chains stay chains, with their levels and fixed gauge;
/// mpo, btt and chains that are rebuilt (tt::is_rebuilt) become the matrices that they multiply out to. Cores
/// are of `type` (F32 or F16), or the codes that a quantized model has; all else is F32. Returns what the
/// file does not hold, a sentence each. Throws InputError for a number too large for `type`, IoError if the
/// file cannot be written.
std::vector<std::string> save_edge(const std::filesystem::path& path, const Transformer<float>& model,
                                   const text::Tokenizer* tokenizer, io::TensorType type);

}  // namespace qtf::model
