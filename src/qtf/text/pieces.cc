#include "qtf/text/pieces.h"

#include "qtf/base/error.h"
#include "qtf/text/model_proto.h"
#include "qtf/text/sentencepiece.h"
#include "qtf/text/tokenizer_json.h"

namespace qtf::text {

std::shared_ptr<const Tokenizer> make_tokenizer(const Pieces& pieces, std::string_view name) {
  if (pieces.kind == Pieces::Kind::byte_level) return open_tokenizer_json(write_tokenizer_json(pieces), name);
  return open_sentencepiece(write_model_proto(pieces), name);
}

bool crosses_words(std::string_view text) {
  if (text.size() < 2) return false;
  return text.find('\n') != std::string_view::npos ||
         text.find(' ', text.find_first_not_of(' ')) != text.npos;
}

std::string byte_piece(uint8_t byte) {
  return fmt::format("<0x{:02X}>", byte);
}

}  // namespace qtf::text
