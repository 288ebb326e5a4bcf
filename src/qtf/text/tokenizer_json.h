// Hugging Face's tokenizer.json with a BPE model: byte-level (GPT-2, Llama 3, SmolLM), or a SentencePiece BPE
// model rewritten (Llama 1 and 2).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "qtf/text/pieces.h"

namespace qtf::text {

/// Opens the file's text. Special tokens are never made from text and decode to nothing; BOS and EOS are
/// found by their usual names. Throws InputError naming the file for what is damaged or hostile, and for
/// models, normalizers and pre-tokenizers that are not supported (naming what is).
std::shared_ptr<const Tokenizer> open_tokenizer_json(std::string_view json,
                                                     std::string_view name = "tokenizer.json");

/// A byte-level tokenizer as such a file. open_tokenizer_json of it encodes alike.
std::string write_tokenizer_json(const Pieces& pieces);

}  // namespace qtf::text
