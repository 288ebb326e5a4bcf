#include "qtf/text/sentencepiece.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "qtf/base/error.h"
#include "qtf/text/model_proto.h"
#include "qtf/text/pieces.h"
#include "qtf/text/utf8.h"
#include "qtf/text/word_cache.h"

namespace qtf::text {

namespace {

// SentencePiece writes a blank inside its pieces as U+2581.
// A run without blanks longer than this is cut, counted from its start, so that the library's memory stays
// small.
constexpr size_t kLongestWord = 16384;

std::string with_blanks(std::string_view piece) {
  std::string text;
  size_t begin = 0;
  for (size_t at; (at = piece.find(kBlankMark, begin)) != std::string_view::npos;
       begin = at + kBlankMark.size()) {
    text.append(piece, begin, at - begin);
    text += ' ';
  }
  return text.append(piece, begin);
}

/// One blank for each run of them, none at the end.
std::string squeeze(std::string_view text) {
  std::string squeezed;
  for (const char c : text) {
    if (c != ' ' || !squeezed.ends_with(' ')) squeezed += c;
  }
  if (squeezed.ends_with(' ')) squeezed.pop_back();
  return squeezed;
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  using Tokenizer::encode;

  SentencePieceTokenizer(std::string model, std::string_view name)
      : model_(std::move(model)), flags_(read_normalizer_flags(model_, name)) {
    plain_ = !flags_.changes_characters && flags_.escape_whitespaces && !flags_.treat_whitespace_as_suffix;
    const auto status = processor_.LoadFromSerializedProto(plain_ ? without_blank_rules(model_) : model_);
    if (!status.ok() || processor_.GetPieceSize() == 0) {
      throw_input_error("tokenizer", "{} is not a SentencePiece model, or is damaged: {}", name,
                        status.message());
    }
    learn_pieces();
  }

  int32_t vocabulary_size() const override { return static_cast<int32_t>(bytes_.size()); }

  void encode(std::string_view text, std::vector<int32_t>& ids) const override {
    require_utf8(text, "encode");
    if (!plain_) return encode_word(text, ids);
    if (!has_blank_rules()) return encode_plain(text, ids);
    std::string ruled = flags_.remove_extra_whitespaces ? squeeze(text) : std::string(text);
    if (flags_.remove_extra_whitespaces && ruled.starts_with(' ')) ruled.erase(0, 1);
    if (flags_.add_dummy_prefix && !ruled.empty()) ruled.insert(0, 1, ' ');
    encode_plain(ruled, ids);
  }

  void encode_continuation(std::string_view text, std::vector<int32_t>& ids) const override {
    require_utf8(text, "encode");
    if (!plain_) return encode_word(text, ids);
    if (!flags_.remove_extra_whitespaces) return encode_plain(text, ids);
    encode_plain(squeeze(text), ids);
  }

  size_t split_point(std::string_view text) const override {
    return plain_ && words_apart_ ? last_word_end(text) : 0;
  }

  std::string token_bytes(int32_t id) const override {
    require_id(id);
    return bytes_[static_cast<size_t>(id)];
  }

  std::string decode(std::span<const int32_t> ids) const override {
    std::string text = Tokenizer::decode(ids);
    if (has_blank_rules() && text.starts_with(' ')) text.erase(0, 1);
    return text;
  }

  std::optional<int32_t> bos() const override { return control(processor_.bos_id()); }
  std::optional<int32_t> eos() const override { return control(processor_.eos_id()); }

  Pieces pieces() const override {
    if (flags_.model_type != 1 && flags_.model_type != 2) {
      throw_input_error("tokenizer", "a SentencePiece model of words or characters has no other form");
    }
    if (!flags_.escape_whitespaces || flags_.treat_whitespace_as_suffix) {
      throw_input_error("tokenizer", "a SentencePiece model with blanks of its own kind has no other form");
    }
    Pieces pieces;
    pieces.kind = flags_.model_type == 1 ? Pieces::Kind::unigram : Pieces::Kind::bpe;
    pieces.pieces = text::read_pieces(model_, "tokenizer.model");
    pieces.bos = processor_.bos_id(), pieces.eos = processor_.eos_id(), pieces.unknown = processor_.unk_id();
    pieces.add_dummy_prefix = flags_.add_dummy_prefix;
    pieces.remove_extra_whitespaces = flags_.remove_extra_whitespaces;
    pieces.character_map = flags_.character_map;
    return pieces;
  }

  std::vector<std::pair<std::string, std::string>> files() const override {
    return {{"tokenizer.model", model_}};
  }

 private:
  static std::optional<int32_t> control(int id) { return id < 0 ? std::nullopt : std::optional<int32_t>(id); }

  bool has_blank_rules() const { return flags_.add_dummy_prefix || flags_.remove_extra_whitespaces; }

  void learn_pieces() {
    byte_ids_.fill(-1);
    const int count = processor_.GetPieceSize();
    for (int id = 0; id < count; ++id) {
      bytes_.push_back(read_piece(id));
      const bool written = !processor_.IsByte(id) && !processor_.IsUnknown(id);
      words_apart_ = words_apart_ && !(written && crosses_words(bytes_.back()));
    }
    falls_back_ = std::all_of(byte_ids_.begin(), byte_ids_.end(), [](int32_t id) { return id >= 0; });
    const int unknown = processor_.unk_id();
    // Never emitted where there are all bytes; else shown as the library shows it.
    if (unknown >= 0 && !falls_back_) bytes_[static_cast<size_t>(unknown)] = " \xE2\x81\x87 ";
  }

  /// The text that a piece stands for; a byte piece is noted too.
  std::string read_piece(int id) {
    const std::string& piece = processor_.IdToPiece(id);
    if (processor_.IsControl(id) || processor_.IsUnknown(id)) return {};
    if (!processor_.IsByte(id)) return with_blanks(piece);
    const auto byte = static_cast<unsigned char>(std::strtol(piece.c_str() + 3, nullptr, 16));  // "<0x41>"
    byte_ids_[byte] = id;
    return std::string(1, static_cast<char>(byte));
  }

  /// Encodes literal U+2581 and NUL, which the library takes for a blank and an end, as byte pieces, and the
  /// text between them word by word.
  void encode_plain(std::string_view text, std::vector<int32_t>& ids) const {
    WordCache cache;
    while (!text.empty()) {
      size_t end = text.size();
      size_t skip = 0;
      for (const std::string_view special : {kBlankMark, std::string_view("\0", 1)}) {
        const size_t at = falls_back_ ? text.substr(0, end).find(special) : text.npos;
        if (at == text.npos) continue;
        end = at;
        skip = special.size();
      }
      encode_words(text.substr(0, end), cache, ids);
      for (size_t i = end; i < end + skip; ++i) ids.push_back(byte_ids_[static_cast<unsigned char>(text[i])]);
      text.remove_prefix(end + skip);
    }
  }

  void encode_words(std::string_view text, WordCache& cache, std::vector<int32_t>& ids) const {
    if (!words_apart_) return encode_word(text, ids);
    while (!text.empty()) {
      const std::string_view word = text.substr(0, word_length(text));
      text.remove_prefix(word.size());
      if (cache.find(word, ids)) continue;
      const size_t before = ids.size();
      encode_word(word, ids);
      cache.insert(word, std::span(ids).subspan(before));
    }
  }

  /// Length of the word that begins `text`: a line end; or blanks and what follows up to a blank or line end.
  static size_t word_length(std::string_view text) {
    if (text[0] == '\n') return 1;
    const size_t start = std::min(text.find_first_not_of(' '), text.size());
    size_t end = std::min(text.find_first_of(" \n", start), text.size());
    if (end <= kLongestWord) return end;
    end = kLongestWord;
    while (is_continuation(text[end])) --end;
    return end;
  }

  void encode_word(std::string_view word, std::vector<int32_t>& ids) const {
    std::vector<int> found;
    const auto status = processor_.Encode(word, &found);
    if (!status.ok()) throw_input_error("encode", "SentencePiece failed: {}", status.message());
    ids.insert(ids.end(), found.begin(), found.end());
  }

  std::string model_;
  NormalizerFlags flags_;
  bool plain_ = false;       ///< characters are not replaced, and blanks are as we handle them
  bool words_apart_ = true;  ///< no piece joins two words
  bool falls_back_ = false;  ///< every byte has a piece
  sentencepiece::SentencePieceProcessor processor_;
  std::vector<std::string> bytes_;
  std::array<int32_t, 256> byte_ids_{};
};

}  // namespace

std::shared_ptr<const Tokenizer> open_sentencepiece(std::string model, std::string_view name) {
  return std::make_shared<SentencePieceTokenizer>(std::move(model), name);
}

}  // namespace qtf::text
