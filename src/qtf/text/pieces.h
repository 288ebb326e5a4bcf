// What a tokenizer consists of, whatever its files: its tokens with their scores and kinds, and how it treats
// text. GGUF stores tokenizers so, and readers of foreign files hand them over so.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/text/tokenizer.h"

namespace qtf::text {

/// U+2581, the blank of SentencePiece's pieces.
inline constexpr std::string_view kBlankMark = "\xE2\x96\x81";

/// SentencePiece's numbers, which GGUF shares.
enum class PieceType : int32_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6,
};

/// One token.
struct Piece {
  std::string text;  ///< as its model writes it: "▁the", "<0x0A>" (a byte), "Ġthe" (byte-level)
  float score = 0;   ///< unigram: log-probability; bpe: higher merges earlier
  PieceType type = PieceType::normal;

  friend bool operator==(const Piece&, const Piece&) = default;
};

/// A whole tokenizer.
struct Pieces {
  enum class Kind {
    unigram,     ///< SentencePiece's
    bpe,         ///< SentencePiece's
    byte_level,  ///< GPT-2's
  };
  Kind kind = Kind::bpe;
  std::vector<Piece> pieces;  ///< by id
  int32_t bos = -1, eos = -1, unknown = -1;

  // SentencePiece's
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = false;
  std::string character_map;  ///< precompiled replacements of characters (such as NFKC); empty: none

  // Byte-level
  std::vector<std::string> merges;  ///< "left right", first come first
  std::string rule = "gpt-2";       ///< how text is split into words (word_rules())
  bool ignore_merges = false;       ///< a word that is a token is taken whole
};

/// The tokenizer made of these pieces; its files are tokenizer.model or tokenizer.json. `name` names their
/// source in errors. Throws InputError for what is no tokenizer.
std::shared_ptr<const Tokenizer> make_tokenizer(const Pieces& pieces, std::string_view name);

/// Whether a blank or line end in a piece (given as text) follows anything but blanks, or a line end is
/// followed by anything. Without such pieces words and line ends can be encoded one by one.
bool crosses_words(std::string_view text);

/// The text of a byte's piece: "<0x0A>".
std::string byte_piece(uint8_t byte);

}  // namespace qtf::text
