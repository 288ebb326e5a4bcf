// A tokenizer as the tables of an edge file.
#pragma once

#include <string>

#include "qtf/model/edge_file.h"
#include "qtf/text/tokenizer.h"

namespace qtf::model {

/// Adds the tables and fills in header.tokenizer. Returns why that cannot be (and adds nothing): a word rule
/// of its own, replaced characters, or missing byte tokens. Empty: it could.
std::string add_edge_tokenizer(const text::Tokenizer& tokenizer, int64_t vocabulary, EdgeFile& file,
                               edge::Header& header);

}  // namespace qtf::model
