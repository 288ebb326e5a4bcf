#include "qtf/model/edge_tokenizer.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "qtf/base/error.h"
#include "qtf/text/pieces.h"

namespace qtf::model {

namespace {

using text::Piece;
using text::Pieces;
using text::PieceType;

/// The tables, before they lie in a file.
struct Tables {
  edge::Tokenizer head;
  std::vector<uint32_t> starts{0};
  std::string bytes;
  std::vector<uint32_t> order;
  std::vector<double> scores;
  std::vector<uint8_t> whole;
  std::vector<uint32_t> byte_tokens;

  std::string_view bytes_of(uint32_t id) const {
    return std::string_view(bytes).substr(starts[id], starts[id + 1] - starts[id]);
  }
};

bool is_text(const Piece& piece) {
  return piece.type == PieceType::normal || piece.type == PieceType::user_defined;
}

/// Which token stands for each byte; none if one is missing.
std::vector<uint32_t> byte_tokens(const Pieces& pieces, const Tables& tables) {
  std::vector<uint32_t> ids(256, edge::kNone);
  for (uint32_t id = 0; id < pieces.pieces.size(); ++id)
    if (pieces.pieces[id].type == PieceType::byte)
      ids[static_cast<unsigned char>(tables.bytes_of(id).front())] = id;
  if (std::count(ids.begin(), ids.end(), edge::kNone)) return {};
  return ids;
}

/// Order, scores and what stays whole, of SentencePiece's kinds.
void add_pieces(const Pieces& pieces, Tables& tables) {
  const bool unigram = pieces.kind == Pieces::Kind::unigram;
  float least = std::numeric_limits<float>::max(), most = std::numeric_limits<float>::lowest();
  for (const Piece& piece : pieces.pieces) {
    if (piece.type != PieceType::normal) continue;
    least = std::min(least, piece.score), most = std::max(most, piece.score);
  }
  // SentencePiece's penalty of what no piece is.
  constexpr float kUnknownPenalty = 10;
  tables.head.unknown_score = static_cast<double>(least - kUnknownPenalty);
  for (uint32_t id = 0; id < pieces.pieces.size(); ++id)
    if (is_text(pieces.pieces[id]) && !tables.bytes_of(id).empty()) tables.order.push_back(id);
  std::sort(tables.order.begin(), tables.order.end(),
            [&](uint32_t a, uint32_t b) { return tables.bytes_of(a) < tables.bytes_of(b); });
  for (const uint32_t id : tables.order) {
    const Piece& piece = pieces.pieces[id];
    const bool whole = piece.type == PieceType::user_defined;
    // A piece that the user defined outbids every other way to split what it covers.
    const double bonus = static_cast<double>(static_cast<float>(piece.text.size()) * most) - 0.1;
    tables.scores.push_back(whole && unigram ? bonus : static_cast<double>(piece.score));
    tables.whole.push_back(whole ? 1 : 0);
  }
}

/// Why the edge library cannot encode as these pieces do; empty: it can.
std::string obstacle(const Pieces& pieces) {
  if (pieces.kind == Pieces::Kind::byte_level) return "words are split by a rule with Unicode's tables";
  if (!pieces.character_map.empty()) return "it replaces characters before it encodes them";
  for (const Piece& piece : pieces.pieces)
    if (piece.type == PieceType::unused) return "it has pieces that are not used";
  return {};
}

}  // namespace

std::string add_edge_tokenizer(const text::Tokenizer& tokenizer, int64_t vocabulary, EdgeFile& file,
                               edge::Header& header) {
  Tables tables;
  const int64_t count = std::min<int64_t>(vocabulary, tokenizer.vocabulary_size());
  for (int64_t id = 0; id < vocabulary; ++id) {
    if (id < count) tables.bytes += tokenizer.token_bytes(static_cast<int32_t>(id));
    tables.starts.push_back(static_cast<uint32_t>(tables.bytes.size()));
  }
  const bool bytes = tokenizer.files().front().first == "tokenizer_config.json";
  if (bytes) {
    tables.head.kind = edge::TokenizerKind::bytes;
    tables.byte_tokens.resize(256);
    std::iota(tables.byte_tokens.begin(), tables.byte_tokens.end(), 0U);
  } else {
    Pieces pieces;
    try {
      pieces = tokenizer.pieces();
    } catch (const InputError& error) {
      return error.what();
    }
    if (std::string why = obstacle(pieces); !why.empty()) return why;
    tables.byte_tokens = byte_tokens(pieces, tables);
    if (tables.byte_tokens.empty()) return "it lacks pieces for single bytes";
    tables.head.kind =
        pieces.kind == Pieces::Kind::unigram ? edge::TokenizerKind::unigram : edge::TokenizerKind::bpe;
    add_pieces(pieces, tables);
    const bool apart = std::ranges::none_of(
        tables.order, [&](uint32_t id) { return text::crosses_words(tables.bytes_of(id)); });
    tables.head.flags = (pieces.add_dummy_prefix ? edge::kDummyPrefix : 0U) |
                        (pieces.remove_extra_whitespaces ? edge::kSqueeze : 0U) |
                        (apart ? edge::kWordsApart : 0U);
  }
  edge::Tokenizer& to = header.tokenizer = tables.head;
  to.starts = file.add(std::span<const uint32_t>(tables.starts));
  to.bytes = file.add(std::span<const char>(tables.bytes));
  to.order = file.add(std::span<const uint32_t>(tables.order));
  to.scores = file.add(std::span<const double>(tables.scores));
  to.whole = file.add(std::span<const uint8_t>(tables.whole));
  to.byte_tokens = file.add(std::span<const uint32_t>(tables.byte_tokens));
  return {};
}

}  // namespace qtf::model
