#include "qtf/text/byte_tokenizer.h"

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/text/byte_level_bpe.h"
#include "qtf/text/pieces.h"
#include "qtf/text/utf8.h"

namespace qtf::text {

namespace {

constexpr int32_t kEndOfTextId = 256;

class ByteTokenizer final : public Tokenizer {
 public:
  using Tokenizer::encode;

  int32_t vocabulary_size() const override { return 257; }

  void encode(std::string_view text, std::vector<int32_t>& ids) const override {
    require_utf8(text, "encode");
    ids.reserve(ids.size() + text.size());
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  }

  std::string token_bytes(int32_t id) const override {
    require_id(id);
    return id == kEndOfTextId ? std::string() : std::string(1, static_cast<char>(id));
  }

  std::optional<int32_t> eos() const override { return kEndOfTextId; }

  size_t split_point(std::string_view text) const override { return complete_utf8_prefix(text); }

  Pieces pieces() const override {
    Pieces pieces;
    pieces.kind = Pieces::Kind::byte_level;
    for (int b = 0; b < 256; ++b)
      pieces.pieces.push_back({byte_level_entry(std::string(1, static_cast<char>(b)))});
    pieces.pieces.push_back({"<|endoftext|>", 0, PieceType::control});
    pieces.eos = kEndOfTextId;
    return pieces;
  }

  std::vector<std::pair<std::string, std::string>> files() const override {
    return {{"tokenizer_config.json", "{\"tokenizer_class\": \"bytes\"}\n"}};
  }
};

}  // namespace

std::shared_ptr<const Tokenizer> make_byte_tokenizer() {
  return std::make_shared<ByteTokenizer>();
}

bool is_byte_tokenizer_config(std::string_view json, std::string_view name) {
  const auto config = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) throw_input_error("tokenizer", "{} is not a JSON object", name);
  const auto kind = config.find("tokenizer_class");
  return kind != config.end() && *kind == "bytes";
}

}  // namespace qtf::text
