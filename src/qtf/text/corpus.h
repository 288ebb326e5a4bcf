// Text to learn from or to measure on: one file, or all files below a folder, memory-mapped and checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/base/file.h"

namespace qtf::text {

/// Counts of a text, whatever its tokenizer: what perplexity per word and bits per byte divide by.
struct TextCounts {
  int64_t bytes = 0;
  int64_t words = 0;  ///< whitespace-separated words plus one end-of-line each (WikiText's convention)

  bool operator==(const TextCounts&) const = default;
};

/// Counts one text; a last line without line end counts as a line. `text` must be valid UTF-8.
TextCounts count_text(std::string_view text);

/// A corpus that is open for reading.
class Corpus {
 public:
  /// Maps the file, or the regular files below the folder in path order (hidden ones left out, links to
  /// folders not followed), and checks them. Throws InputError naming file and byte for missing, empty,
  /// binary (NUL) or non-UTF-8 text.
  explicit Corpus(const std::filesystem::path& path);

  /// The texts, one a file, none empty.
  std::span<const std::string_view> texts() const { return texts_; }
  const TextCounts& counts() const { return counts_; }
  /// SHA-256 of a file's contents; of a folder's, each file's length before it.
  std::string sha256() const;

 private:
  void add(const std::filesystem::path& file);

  std::vector<MappedFile> files_;
  std::vector<std::string_view> texts_;
  TextCounts counts_;
};

/// The parts of `text` between separators, such as "<|endoftext|>", without white space around them; empty
/// ones are left out. Throws InputError if the separator is empty.
std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator);

}  // namespace qtf::text
