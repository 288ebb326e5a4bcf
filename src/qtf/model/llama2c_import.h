// Models in llama2.c's legacy .bin format, with their tokenizer.
#pragma once

#include <filesystem>

#include "qtf/model/model_folder.h"

namespace qtf::model {

/// Reads a .bin and finds its SentencePiece model beside it: tokenizer.model, or the tok*.model of the
/// vocabulary's size. llama2.c rotates neighbouring coordinates, Hugging Face's pairing is i and i +
/// head_dim/2, so the rows of q and k are permuted within each head. Throws IoError for a damaged file.
LoadedModel load_llama2c(const std::filesystem::path& path);

}  // namespace qtf::model
