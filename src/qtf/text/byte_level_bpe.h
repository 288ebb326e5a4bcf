// GPT-2's byte-level byte-pair encoding (Radford et al. 2019), imported from its two files: a vocabulary
// (encoder.json, vocab.json) and a list of merges (vocab.bpe, merges.txt).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "qtf/text/tokenizer.h"

namespace qtf::text {

/// Opens a byte-level BPE tokenizer from its files' contents. Text is split by GPT-2's pattern, each word's
/// bytes merged by rank; the literal text <|endoftext|> is ordinary text to encode(), as in GPT-2's own
/// encoder, while its id is eos().
/// Throws InputError naming the file for malformed JSON, ids that are repeated or leave holes, missing byte
/// tokens, malformed merges, and merges that name unknown tokens.
std::shared_ptr<const Tokenizer> open_byte_level_bpe(std::string_view vocabulary, std::string_view merges,
                                                     std::string_view vocabulary_name = "vocab.json",
                                                     std::string_view merges_name = "merges.txt");

}  // namespace qtf::text
