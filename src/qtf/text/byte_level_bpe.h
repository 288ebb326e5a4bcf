// GPT-2's byte-level byte-pair encoding (Radford et al. 2019), imported from its two files: a vocabulary
// (encoder.json, vocab.json) and a list of merges (vocab.bpe, merges.txt).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "qtf/text/tokenizer.h"

namespace qtf::text {

/// What a byte-level BPE tokenizer is made of, read from its files but not yet checked.
struct ByteLevelParts {
  struct Merge {
    std::string left, right;
    int64_t line = 0;  ///< where it stands in its file
  };
  std::vector<std::string> entries;  ///< by id, bytes in GPT-2's writing
  std::vector<bool> special;         ///< by id: never made from text, decoded to nothing
  std::vector<Merge> merges;         ///< first come first
  std::string_view rule = "gpt-2";   ///< of word_rules()
  bool ignore_merges = false;        ///< a word that is an entry is taken whole
  std::optional<int32_t> bos, eos;
  std::vector<std::pair<std::string, std::string>> files;  ///< what the tokenizer will give as its files
  std::string vocabulary_name, merges_name;                ///< for errors; the latter with "line" or so
};

/// Throws InputError naming the file for missing byte tokens, repeated merges, and merges that name unknown
/// tokens.
std::shared_ptr<const Tokenizer> make_byte_level_bpe(ByteLevelParts parts);

/// Opens a byte-level BPE tokenizer from its files' contents. Text is split by GPT-2's pattern, each word's
/// bytes merged by rank; the literal text <|endoftext|> is ordinary text to encode(), as in GPT-2's own
/// encoder, while its id is eos().
/// Throws InputError naming the file for malformed JSON, ids that are repeated or leave holes, missing byte
/// tokens, malformed merges, and merges that name unknown tokens.
std::shared_ptr<const Tokenizer> open_byte_level_bpe(std::string_view vocabulary, std::string_view merges,
                                                     std::string_view vocabulary_name = "vocab.json",
                                                     std::string_view merges_name = "merges.txt");

/// Bytes as GPT-2 writes them, each as a printable character.
std::string byte_level_entry(std::string_view bytes);

}  // namespace qtf::text
