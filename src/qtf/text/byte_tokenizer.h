// The tokenizer that needs no training: one id a byte, and one that ends a text.
#pragma once

#include <memory>
#include <string_view>

#include "qtf/text/tokenizer.h"

namespace qtf::text {

/// Ids 0 … 255 are the bytes, 256 (eos) ends a text.
std::shared_ptr<const Tokenizer> make_byte_tokenizer();

/// Whether `json`, a tokenizer_config.json, says {"tokenizer_class": "bytes"}. Throws InputError naming
/// `name` if it is no JSON object.
bool is_byte_tokenizer_config(std::string_view json, std::string_view name);

}  // namespace qtf::text
