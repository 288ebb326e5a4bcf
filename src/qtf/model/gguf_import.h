// Models in GGUF files, as llama.cpp writes them.
#pragma once

#include <filesystem>

#include "qtf/model/model_folder.h"

namespace qtf::model {

/// Reads a GGUF file of the Llama or GPT-2 family with its tokenizer. Q and K rows come in pairs and are
/// reordered (model/rotary_rows.h); quantized numbers become floats. Throws InputError for architectures and
/// tensor types that are not supported (naming what is), IoError with the byte for damaged files. Nothing is
/// allocated for weights that the file does not hold.
LoadedModel load_gguf(const std::filesystem::path& path);

}  // namespace qtf::model
