// A corpus as token ids on disk: tokenised once, hashed, memory-mapped, so that it may be larger than memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "qtf/base/file.h"
#include "qtf/text/tokenizer.h"

namespace qtf::text {

/// Counts of a text, whatever its tokenizer: what perplexity per word and bits per byte divide by.
struct TextCounts {
  int64_t bytes = 0;
  int64_t words = 0;  ///< whitespace-separated words plus one end-of-line each (WikiText's convention)
};

/// A memory-mapped file of token ids (16 bit where the vocabulary allows, else 32) with a checked header.
class TokenFile {
 public:
  /// Opens a cache file written by tokenize_corpus. Throws IoError if truncated, corrupted or foreign.
  explicit TokenFile(const std::filesystem::path& path);

  int64_t size() const { return size_; }
  const TextCounts& counts() const { return counts_; }
  int32_t operator[](int64_t i) const {
    return wide_ ? static_cast<const int32_t*>(ids_)[i] : static_cast<const uint16_t*>(ids_)[i];
  }
  /// Copies ids [first, first + out.size()). The range must lie inside the file.
  void copy(int64_t first, std::span<int32_t> out) const {
    for (size_t i = 0; i < out.size(); ++i) out[i] = (*this)[first + static_cast<int64_t>(i)];
  }

 private:
  MappedFile file_;
  const void* ids_ = nullptr;
  int64_t size_ = 0;
  bool wide_ = false;
  TextCounts counts_;
};

/// How tokenize_corpus works.
struct TokenizeOptions {
  std::filesystem::path cache;  ///< folder for the token files; empty: $XDG_CACHE_HOME/qtf or ~/.cache/qtf
  bool progress = true;         ///< a bar on stderr for corpora that take over a second
};

/// Tokenises a text file, or every file below a folder in path order, and caches the result under a name made
/// of the contents' and the tokenizer's hashes; a second call opens the cache.
/// Throws InputError for missing, empty, binary (NUL bytes) or non-UTF-8 text (file and byte offset), IoError
/// for a full disk.
TokenFile tokenize_corpus(const std::filesystem::path& corpus, const Tokenizer& tokenizer,
                          const TokenizeOptions& options = {});

}  // namespace qtf::text
