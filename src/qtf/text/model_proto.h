// The few fields of a SentencePiece model file (a serialised ModelProto) that its library does not tell.
// Layout: sentencepiece_model.proto of SentencePiece 0.1.97.
#pragma once

#include <string>
#include <string_view>

namespace qtf::text {

/// How a model treats text before it splits it into pieces.
struct NormalizerFlags {
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool treat_whitespace_as_suffix = false;
  bool changes_characters = false;  ///< a table of replacements (such as NFKC) is there
};

/// Reads the flags of `model`. Throws InputError naming `name` if it is no well-formed protocol buffer.
NormalizerFlags read_normalizer_flags(std::string_view model, std::string_view name);

/// The same model that neither adds a dummy prefix nor removes white space: fields that come later in a
/// protocol buffer overrule earlier ones.
std::string without_blank_rules(std::string model);

}  // namespace qtf::text
