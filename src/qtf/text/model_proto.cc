#include "qtf/text/model_proto.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>

#include "qtf/base/error.h"

namespace qtf::text {

namespace {

// Field numbers: of the model,
constexpr uint64_t kPiece = 1;
constexpr uint64_t kTrainerSpec = 2;
constexpr uint64_t kNormalizerSpec = 3;
// of a piece,
constexpr uint64_t kPieceText = 1;
constexpr uint64_t kPieceScore = 2;
constexpr uint64_t kPieceType = 3;
// of the normalizer,
constexpr uint64_t kNormalizerName = 1;
constexpr uint64_t kCharacterMap = 2;
constexpr uint64_t kAddDummyPrefix = 3;
constexpr uint64_t kRemoveExtraWhitespaces = 4;
constexpr uint64_t kEscapeWhitespaces = 5;
// and of the trainer.
constexpr uint64_t kModelType = 3;
constexpr uint64_t kVocabularySize = 4;
constexpr uint64_t kWhitespaceAsSuffix = 24;
constexpr uint64_t kByteFallback = 35;
constexpr uint64_t kUnknownId = 40, kBosId = 41, kEosId = 42;
constexpr uint64_t kUnknownPiece = 45, kBosPiece = 46, kEosPiece = 47;

struct Field {
  uint64_t number = 0;
  uint64_t value = 0;           ///< of a varint, or the bits of 4 bytes
  std::string_view bytes = {};  ///< of a length-delimited field
};

/// Walks over the fields of one message.
class MessageReader {
 public:
  MessageReader(std::string_view bytes, std::string_view name) : rest_(bytes), name_(name) {}

  std::optional<Field> next() {
    if (rest_.empty()) return std::nullopt;
    const uint64_t key = varint();
    Field field{.number = key >> 3};
    switch (key & 7) {
      case 0:
        field.value = varint();
        break;
      case 1:
        take(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5: {
        uint32_t bits;
        std::memcpy(&bits, take(sizeof bits).data(), sizeof bits);
        field.value = bits;
        break;
      }
      default:
        fail();
    }
    return field;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    fail();
  }

  std::string_view take(uint64_t count) {
    if (count > rest_.size()) fail();
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  [[noreturn]] void fail() const {
    throw_input_error("tokenizer", "{} is not a SentencePiece model, or is damaged", name_);
  }

  std::string_view rest_;
  std::string_view name_;
};

void read_normalizer(std::string_view bytes, std::string_view name, NormalizerFlags& flags) {
  MessageReader reader(bytes, name);
  while (const auto field = reader.next()) {
    if (field->number == kCharacterMap) flags.character_map = field->bytes;
    if (field->number == kAddDummyPrefix) flags.add_dummy_prefix = field->value != 0;
    if (field->number == kRemoveExtraWhitespaces) flags.remove_extra_whitespaces = field->value != 0;
    if (field->number == kEscapeWhitespaces) flags.escape_whitespaces = field->value != 0;
  }
  flags.changes_characters = !flags.character_map.empty();
}

void read_trainer(std::string_view bytes, std::string_view name, NormalizerFlags& flags) {
  MessageReader reader(bytes, name);
  while (const auto field = reader.next()) {
    if (field->number == kWhitespaceAsSuffix) flags.treat_whitespace_as_suffix = field->value != 0;
    if (field->number == kModelType) flags.model_type = static_cast<int>(field->value & 7);
  }
}

}  // namespace

NormalizerFlags read_normalizer_flags(std::string_view model, std::string_view name) {
  NormalizerFlags flags;
  MessageReader reader(model, name);
  while (const auto field = reader.next()) {
    if (field->number == kNormalizerSpec) read_normalizer(field->bytes, name, flags);
    if (field->number == kTrainerSpec) read_trainer(field->bytes, name, flags);
  }
  return flags;
}

std::vector<Piece> read_pieces(std::string_view model, std::string_view name) {
  std::vector<Piece> pieces;
  MessageReader reader(model, name);
  while (const auto field = reader.next()) {
    if (field->number != kPiece) continue;
    Piece& piece = pieces.emplace_back();
    MessageReader inner(field->bytes, name);
    while (const auto part = inner.next()) {
      if (part->number == kPieceText) piece.text = part->bytes;
      if (part->number == kPieceScore) piece.score = std::bit_cast<float>(static_cast<uint32_t>(part->value));
      if (part->number == kPieceType) piece.type = static_cast<PieceType>(part->value & 7);
    }
  }
  return pieces;
}

namespace {

/// Writes the fields of one message.
class MessageWriter {
 public:
  void number(uint64_t field, uint64_t value) {
    varint(field << 3);
    varint(value);
  }
  void real(uint64_t field, float value) {
    varint(field << 3 | 5);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(uint64_t field, std::string_view value) {
    varint(field << 3 | 2);
    varint(value.size());
    bytes_ += value;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

std::string trainer_spec(const Pieces& pieces) {
  MessageWriter writer;
  writer.number(kModelType, pieces.kind == Pieces::Kind::unigram ? 1 : 2);
  writer.number(kVocabularySize, pieces.pieces.size());
  const auto has_byte = [](const Piece& piece) { return piece.type == PieceType::byte; };
  writer.number(kByteFallback, std::any_of(pieces.pieces.begin(), pieces.pieces.end(), has_byte));
  const struct {
    int32_t id;
    uint64_t id_field, piece_field;
  } marks[] = {{pieces.unknown, kUnknownId, kUnknownPiece},
               {pieces.bos, kBosId, kBosPiece},
               {pieces.eos, kEosId, kEosPiece}};
  for (const auto& mark : marks) {
    writer.number(mark.id_field, static_cast<uint64_t>(int64_t{mark.id}));  // -1: none
    if (mark.id >= 0) writer.text(mark.piece_field, pieces.pieces.at(static_cast<size_t>(mark.id)).text);
  }
  return writer.bytes();
}

std::string normalizer_spec(const Pieces& pieces) {
  MessageWriter writer;
  writer.text(kNormalizerName, pieces.character_map.empty() ? "identity" : "user_defined");
  if (!pieces.character_map.empty()) writer.text(kCharacterMap, pieces.character_map);
  writer.number(kAddDummyPrefix, pieces.add_dummy_prefix);
  writer.number(kRemoveExtraWhitespaces, pieces.remove_extra_whitespaces);
  writer.number(kEscapeWhitespaces, 1);
  return writer.bytes();
}

}  // namespace

std::string write_model_proto(const Pieces& pieces) {
  MessageWriter model;
  for (const Piece& piece : pieces.pieces) {
    MessageWriter writer;
    writer.text(kPieceText, piece.text);
    writer.real(kPieceScore, piece.score);
    if (piece.type != PieceType::normal) writer.number(kPieceType, static_cast<uint64_t>(piece.type));
    model.text(kPiece, writer.bytes());
  }
  model.text(kTrainerSpec, trainer_spec(pieces));
  model.text(kNormalizerSpec, normalizer_spec(pieces));
  return model.bytes();
}

std::string without_blank_rules(std::string model) {
  constexpr char kLengthDelimited = 2;
  const char message[] = {kAddDummyPrefix << 3, 0, kRemoveExtraWhitespaces << 3, 0};
  model += static_cast<char>(kNormalizerSpec << 3 | kLengthDelimited);
  model += static_cast<char>(sizeof message);
  return model.append(message, sizeof message);
}

}  // namespace qtf::text
