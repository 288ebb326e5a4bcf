// Text to token ids and back. One interface, a few kinds (a table in tokenizer.cc): SentencePiece, byte-level
// BPE, bytes, and the files in which they come. Training, evaluation, generation and `qtf tokenize` use it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qtf::text {

struct Pieces;

/// Encodes UTF-8 text as token ids and decodes them. Immutable; safe to use from many threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Number of ids: every id is in [0, vocabulary_size()).
  virtual int32_t vocabulary_size() const = 0;

  /// Appends the ids of `text`, no BOS or EOS added. Throws InputError if it is not valid UTF-8 (byte
  /// offset).
  virtual void encode(std::string_view text, std::vector<int32_t>& ids) const = 0;

  /// The exact bytes that a token stands for; empty for control tokens. decode is their concatenation
  /// (an imported tokenizer's own rules for leading spaces aside). Throws InputError for an id out of range.
  virtual std::string token_bytes(int32_t id) const = 0;

  virtual std::string decode(std::span<const int32_t> ids) const;

  /// As encode, for text that goes on behind other text: an imported tokenizer's leading space is not added.
  virtual void encode_continuation(std::string_view text, std::vector<int32_t>& ids) const {
    encode(text, ids);
  }

  /// A position p, as large as is easily found, where a text that begins with `text` may be cut, whatever
  /// follows: its ids are those of encode(text[0, p)), then encode_continuation of the rest. 0 if none is
  /// known. `text` must be valid UTF-8, but for a sequence cut short at its end.
  virtual size_t split_point(std::string_view) const { return 0; }

  virtual std::optional<int32_t> bos() const { return std::nullopt; }
  virtual std::optional<int32_t> eos() const { return std::nullopt; }

  /// What it consists of. Throws InputError if that cannot be told apart from its files.
  virtual Pieces pieces() const = 0;

  /// Its files as (name in a model folder, contents), for example {"tokenizer.model", …}.
  virtual std::vector<std::pair<std::string, std::string>> files() const = 0;

  /// SHA-256 over files(): the same for two tokenizers exactly if they encode alike.
  std::string fingerprint() const;

  std::vector<int32_t> encode(std::string_view text) const {
    std::vector<int32_t> ids;
    encode(text, ids);
    return ids;
  }

 protected:
  /// Throws InputError if `id` is none of the vocabulary's.
  void require_id(int32_t id) const;
};

/// One kind of tokenizer: how it is called and which files it is made of.
struct TokenizerKind {
  std::string_view name;
  std::string_view summary;
  /// The file names it goes by in a folder: any one of these sets, all of a set.
  std::vector<std::vector<std::string>> file_sets;
  /// Opens the files of one set, given in that order. Null if they turn out to be of another kind.
  std::shared_ptr<const Tokenizer> (*open)(std::span<const std::filesystem::path> files);
};

/// Every kind, in the order in which a folder is searched for them. To add one, add a row in tokenizer.cc.
std::span<const TokenizerKind> tokenizer_kinds();

/// Opens a tokenizer from a model folder (tokenizer.model | tokenizer.json | vocab.json + merges.txt |
/// encoder.json + vocab.bpe | tokenizer.bin | tokenizer_config.json saying "bytes"), from one of these files,
/// or from the word "bytes".
/// Throws InputError saying what was looked for.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& path);

}  // namespace qtf::text
