// llama2.c's tokenizer.bin (github.com/karpathy/llama2.c, tokenizer.py): a SentencePiece BPE model's pieces
// and scores.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "qtf/text/tokenizer.h"

namespace qtf::text {

/// Opens the file's bytes; it encodes as the SentencePiece model did, with a blank put before the text.
/// Throws InputError naming the file and the byte for what is cut off or has impossible lengths.
std::shared_ptr<const Tokenizer> open_llama2c_tokenizer(std::string_view file,
                                                        std::string_view name = "tokenizer.bin");

}  // namespace qtf::text
