// Models in llama2.c's legacy .bin format, with their tokenizer.
#pragma once

#include <filesystem>

#include "qtf/model/model_folder.h"

namespace qtf::model {

/// Reads a .bin and finds its tokenizer beside it: the tok*.model (SentencePiece) or tok*.bin (llama2.c's
/// form) of the vocabulary's size. llama2.c rotates neighbouring coordinates (model/rotary_rows.h). Throws
/// IoError for a damaged file, InputError for sizes that are not supported.
LoadedModel load_llama2c(const std::filesystem::path& path);

}  // namespace qtf::model
