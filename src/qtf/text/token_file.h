// A corpus as token ids on disk: tokenised once, hashed, memory-mapped, so that it may be larger than memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "qtf/base/file.h"
#include "qtf/text/corpus.h"
#include "qtf/text/tokenizer.h"

namespace qtf::text {

namespace internal {

/// What a token file says about itself, and where its ids lie.
struct TokenFileContents {
  const void* ids = nullptr;
  int64_t size = 0;
  bool wide = false;  ///< ids of 32 bits, not 16
  int32_t vocabulary_size = 0;
  TextCounts counts;
  std::string tokenizer;  ///< fingerprint
  std::string text;       ///< SHA-256 of the corpus
};

/// Reads a token file's bytes (which must be aligned to 8). Throws IoError naming `name`.
TokenFileContents parse_token_file(std::string_view bytes, std::string_view name);

}  // namespace internal

/// A memory-mapped file of token ids (16 bit where the vocabulary allows, else 32) with a checked header.
class TokenFile {
 public:
  /// Opens a cache file written by tokenize_corpus. Throws IoError if truncated, corrupted or foreign.
  explicit TokenFile(const std::filesystem::path& path);

  int64_t size() const { return contents_.size; }
  const TextCounts& counts() const { return contents_.counts; }
  /// Ids are below this.
  int32_t vocabulary_size() const { return contents_.vocabulary_size; }
  /// Fingerprint of the tokenizer that made it.
  const std::string& tokenizer() const { return contents_.tokenizer; }
  /// SHA-256 of the corpus (Corpus::sha256).
  const std::string& text_sha256() const { return contents_.text; }
  int32_t operator[](int64_t i) const {
    return contents_.wide ? static_cast<const int32_t*>(contents_.ids)[i]
                          : static_cast<const uint16_t*>(contents_.ids)[i];
  }
  /// Copies ids [first, first + out.size()). The range must lie inside the file.
  void copy(int64_t first, std::span<int32_t> out) const {
    for (size_t i = 0; i < out.size(); ++i) out[i] = (*this)[first + static_cast<int64_t>(i)];
  }

 private:
  MappedFile file_;
  internal::TokenFileContents contents_;
};

/// How tokenize_corpus works.
struct TokenizeOptions {
  std::filesystem::path cache;  ///< folder for the token files; empty: $XDG_CACHE_HOME/qtf or ~/.cache/qtf
  bool progress = true;         ///< a bar on stderr for corpora that take over a second
  int64_t chunk_bytes = int64_t{4} << 20;  ///< text encoded at once; it bounds memory, not the result
};

/// Tokenises a text file, or every file below a folder in path order, and caches the result under a name made
/// of the contents' and the tokenizer's hashes; a second call opens the cache, and rewrites it if it is
/// damaged. Throws InputError for missing, empty, binary (NUL bytes) or non-UTF-8 text (file and byte
/// offset), IoError for a full disk.
TokenFile tokenize_corpus(const std::filesystem::path& corpus, const Tokenizer& tokenizer,
                          const TokenizeOptions& options = {});

/// The same for a corpus that is already open.
TokenFile tokenize_corpus(const Corpus& corpus, const Tokenizer& tokenizer,
                          const TokenizeOptions& options = {});

}  // namespace qtf::text
