// Text to tokens as SentencePiece splits it, unigram or BPE, and bytes; from the tables of an edge file.
// text/ does the same for the rest of qtf with the library.
#pragma once

#include "qtf/edge/arena.h"
#include "qtf/edge/file.h"
#include "qtf/edge/message.h"

namespace qtf::edge {

class Encoder {
 public:
  Encoder() = default;
  /// Takes its memory for words of up to `text_bytes`; file must outlive it.
  Encoder(const File& file, uint32_t text_bytes, Arena& arena);

  /// See qtf_edge_encode. behind: whether other text is before it.
  qtf_edge_status encode(const char* text, size_t bytes, bool behind, int32_t* tokens, size_t room,
                         size_t* count, qtf_edge_message* message);

  /// The bytes of a valid token.
  const char* token(uint32_t id, size_t* bytes) const;

 private:
  /// Tokens as they come; those beyond the room are counted.
  struct Output {
    int32_t* tokens = nullptr;
    size_t room = 0, count = 0;
    void add(uint32_t token) {
      if (count < room) tokens[count] = static_cast<int32_t>(token);
      ++count;
    }
  };
  /// unigram: the best way to split the unit up to here.
  struct Best {
    float score;
    int32_t begin;  ///< of its last token; -1: none ends here yet
    int32_t token;  ///< -1: bytes
  };
  /// bpe: a part of the unit, and what joining it with the next is worth.
  struct Part {
    int32_t begin, end;
    int32_t next;  ///< -1: none
    int32_t token;
    double score;  ///< of the pair
    bool joins, whole;
  };
  /// Tokens of text, `order`'s from begin to end, whose first bytes are those looked at.
  struct Matches {
    uint32_t begin, end;
  };

  void encode_unit(Output& out);
  void encode_unigram(Output& out);
  void encode_bpe(Output& out);
  void add_bytes(int64_t begin, int64_t end, Output& out) const;
  Matches narrow(Matches matches, uint32_t at, unsigned char byte) const;
  int64_t find(int64_t begin, int64_t end) const;
  int32_t split(int64_t at, Part& part) const;
  void look_at(Part& part) const;
  unsigned char byte_of(uint32_t entry, uint32_t at) const;
  uint32_t length_of(uint32_t entry) const;

  const File* file_ = nullptr;
  const Tokenizer* tokenizer_ = nullptr;
  char* unit_ = nullptr;
  int64_t length_ = 0, most_ = 0;  // bytes in the unit, and how many it holds
  Best* best_ = nullptr;
  Part* parts_ = nullptr;
};

}  // namespace qtf::edge
