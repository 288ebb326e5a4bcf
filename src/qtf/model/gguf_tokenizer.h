// Tokenizers in GGUF's metadata ("tokenizer.ggml.*"), in both directions.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "qtf/io/gguf.h"
#include "qtf/model/config.h"
#include "qtf/text/pieces.h"

namespace qtf::model {

/// What a file says of its tokenizer and of what begins and ends a text.
struct GgufTokenizer {
  text::Pieces pieces;
  int32_t bos = -1;  ///< put before every text; -1: none
  int32_t eos = -1;  ///< ends a generated text; -1: none
};

/// Reads it. Throws InputError for kinds of tokenizers and word rules that are not supported (naming what
/// is), IoError with the byte for metadata that contradicts itself.
GgufTokenizer read_gguf_tokenizer(const io::GgufFile& file);

/// Writes it. Returns what llama.cpp will do otherwise than we do, a sentence each.
std::vector<std::string> write_gguf_tokenizer(const text::Pieces& pieces, const ModelConfig& config,
                                              io::GgufWriter& writer);

}  // namespace qtf::model
