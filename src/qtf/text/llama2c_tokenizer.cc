#include "qtf/text/llama2c_tokenizer.h"

#include <cmath>
#include <cstring>

#include "qtf/base/error.h"
#include "qtf/text/pieces.h"
#include "qtf/text/utf8.h"

namespace qtf::text {

namespace {

constexpr int32_t kUnknown = 0, kBos = 1, kEos = 2, kFirstByte = 3, kFirstText = kFirstByte + 256;

class Cursor {
 public:
  Cursor(std::string_view file, std::string_view name) : file_(file), name_(name) {}

  bool at_end() const { return at_ == file_.size(); }

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::string_view take(size_t bytes) {
    if (bytes > file_.size() - at_) fail("is cut off");
    const std::string_view taken = file_.substr(at_, bytes);
    at_ += bytes;
    return taken;
  }

  [[noreturn]] void fail(std::string_view what) const {
    throw_input_error("tokenizer", "{} {} at byte {}; it is no llama2.c tokenizer, or damaged", name_, what,
                      at_);
  }

 private:
  std::string_view file_;
  std::string_view name_;
  size_t at_ = 0;
};

std::string with_marks(std::string_view text) {
  std::string marked;
  for (const char c : text) c == ' ' ? marked.append(kBlankMark) : marked.append(1, c);
  return marked;
}

Piece read_piece(Cursor& cursor, int32_t id) {
  const auto score = cursor.number<float>();
  const auto length = cursor.number<int32_t>();
  if (length < 0) cursor.fail("has a negative length");
  const std::string_view text = cursor.take(static_cast<size_t>(length));
  if (!std::isfinite(score)) cursor.fail("has a score that is no number");
  // Control tokens and bytes have fixed places; the file's texts for them differ between exporters.
  if (id == kUnknown) return {"<unk>", 0, PieceType::unknown};
  if (id == kBos) return {"<s>", 0, PieceType::control};
  if (id == kEos) return {"</s>", 0, PieceType::control};
  if (id < kFirstText) {
    const std::string piece = byte_piece(static_cast<uint8_t>(id - kFirstByte));
    if (text != piece) cursor.fail("lacks the byte tokens 3 to 258");
    return {piece, 0, PieceType::byte};
  }
  if (text.empty() || find_invalid_utf8(text) != text.npos) cursor.fail("has a token that is no text");
  return {with_marks(text), score, PieceType::normal};
}

}  // namespace

std::shared_ptr<const Tokenizer> open_llama2c_tokenizer(std::string_view file, std::string_view name) {
  Cursor cursor(file, name);
  cursor.number<uint32_t>();  // the longest token's length, which nobody needs
  Pieces pieces;
  pieces.kind = Pieces::Kind::bpe;
  pieces.unknown = kUnknown, pieces.bos = kBos, pieces.eos = kEos;
  while (!cursor.at_end())
    pieces.pieces.push_back(read_piece(cursor, static_cast<int32_t>(pieces.pieces.size())));
  if (pieces.pieces.size() < kFirstText) cursor.fail("lacks the byte tokens 3 to 258");
  return make_tokenizer(pieces, name);
}

}  // namespace qtf::text
