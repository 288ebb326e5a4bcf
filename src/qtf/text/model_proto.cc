#include "qtf/text/model_proto.h"

#include <cstdint>
#include <optional>

#include "qtf/base/error.h"

namespace qtf::text {

namespace {

// Field numbers.
constexpr uint64_t kTrainerSpec = 2;
constexpr uint64_t kNormalizerSpec = 3;
constexpr uint64_t kCharacterMap = 2;
constexpr uint64_t kAddDummyPrefix = 3;
constexpr uint64_t kRemoveExtraWhitespaces = 4;
constexpr uint64_t kEscapeWhitespaces = 5;
constexpr uint64_t kWhitespaceAsSuffix = 24;

struct Field {
  uint64_t number = 0;
  uint64_t value = 0;           ///< of a varint
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
      case 5:
        take(4);
        break;
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
    if (field->number == kCharacterMap) flags.changes_characters = !field->bytes.empty();
    if (field->number == kAddDummyPrefix) flags.add_dummy_prefix = field->value != 0;
    if (field->number == kRemoveExtraWhitespaces) flags.remove_extra_whitespaces = field->value != 0;
    if (field->number == kEscapeWhitespaces) flags.escape_whitespaces = field->value != 0;
  }
}

void read_trainer(std::string_view bytes, std::string_view name, NormalizerFlags& flags) {
  MessageReader reader(bytes, name);
  while (const auto field = reader.next()) {
    if (field->number == kWhitespaceAsSuffix) flags.treat_whitespace_as_suffix = field->value != 0;
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

std::string without_blank_rules(std::string model) {
  constexpr char kLengthDelimited = 2;
  const char message[] = {kAddDummyPrefix << 3, 0, kRemoveExtraWhitespaces << 3, 0};
  model += static_cast<char>(kNormalizerSpec << 3 | kLengthDelimited);
  model += static_cast<char>(sizeof message);
  return model.append(message, sizeof message);
}

}  // namespace qtf::text
