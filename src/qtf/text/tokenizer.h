// Text to token ids and back. One interface, three kinds (a table in tokenizer.cc): SentencePiece, bytes,
// byte-level BPE. Training, evaluation, generation and `qtf tokenize` use it.
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

/// Encodes UTF-8 text as token ids and decodes them. Immutable; safe to use from many threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Number of ids: every id is in [0, vocabulary_size()).
  virtual int32_t vocabulary_size() const = 0;

  /// Appends the ids of `text`, no BOS or EOS added. Throws InputError if it is not valid UTF-8 (byte offset).
  virtual void encode(std::string_view text, std::vector<int32_t>& ids) const = 0;

  /// The exact bytes that a token stands for; empty for control tokens. decode is their concatenation
  /// (an imported tokenizer's own rules for leading spaces aside). Throws InputError for an id out of range.
  virtual std::string token_bytes(int32_t id) const = 0;

  virtual std::string decode(std::span<const int32_t> ids) const;

  virtual std::optional<int32_t> bos() const { return std::nullopt; }
  virtual std::optional<int32_t> eos() const { return std::nullopt; }

  /// Its files as (name in a model folder, contents), for example {"tokenizer.model", …}.
  virtual std::vector<std::pair<std::string, std::string>> files() const = 0;

  /// SHA-256 over files(): the same for two tokenizers exactly if they encode alike.
  std::string fingerprint() const;

  std::vector<int32_t> encode(std::string_view text) const {
    std::vector<int32_t> ids;
    encode(text, ids);
    return ids;
  }
};

/// Opens a tokenizer from a model folder (tokenizer.model | vocab.json + merges.txt | encoder.json + vocab.bpe |
/// tokenizer_config.json saying "bytes"), from one of these files, or from the word "bytes".
/// Throws InputError saying what was looked for.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& path);

}  // namespace qtf::text
