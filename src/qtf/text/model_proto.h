// The fields of a SentencePiece model file (a serialised ModelProto) that its library does not tell, and
// making such a file. Layout: sentencepiece_model.proto of SentencePiece 0.1.97.
#pragma once

#include <string>
#include <string_view>

#include "qtf/text/pieces.h"

namespace qtf::text {

/// How a model treats text before it splits it into pieces.
struct NormalizerFlags {
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool treat_whitespace_as_suffix = false;
  bool changes_characters = false;  ///< a table of replacements (such as NFKC) is there
  std::string_view character_map;   ///< that table, a view into the model
  int model_type = 1;               ///< 1 unigram, 2 BPE, 3 words, 4 characters
};

/// Reads the flags of `model`. Throws InputError naming `name` if it is no well-formed protocol buffer.
NormalizerFlags read_normalizer_flags(std::string_view model, std::string_view name);

/// The pieces of `model`. Throws like read_normalizer_flags.
std::vector<Piece> read_pieces(std::string_view model, std::string_view name);

/// A unigram or BPE model of these pieces. open_sentencepiece() says whether they make a tokenizer.
std::string write_model_proto(const Pieces& pieces);

/// The same model that neither adds a dummy prefix nor removes white space: fields that come later in a
/// protocol buffer overrule earlier ones.
std::string without_blank_rules(std::string model);

}  // namespace qtf::text
