#include "qtf/text/tokenizer.h"

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/sha256.h"
#include "qtf/text/byte_level_bpe.h"
#include "qtf/text/byte_tokenizer.h"
#include "qtf/text/llama2c_tokenizer.h"
#include "qtf/text/sentencepiece.h"
#include "qtf/text/tokenizer_json.h"

namespace qtf::text {

namespace fs = std::filesystem;

namespace {

using Opened = std::shared_ptr<const Tokenizer>;

Opened open_bytes(std::span<const fs::path> files) {
  const bool ours = is_byte_tokenizer_config(read_file(files[0]), files[0].string());
  return ours ? make_byte_tokenizer() : nullptr;
}

Opened open_sentencepiece_file(std::span<const fs::path> files) {
  return open_sentencepiece(read_file(files[0]), files[0].string());
}

Opened open_bpe_files(std::span<const fs::path> files) {
  return open_byte_level_bpe(read_file(files[0]), read_file(files[1]), files[0].string(), files[1].string());
}

Opened open_tokenizer_json_file(std::span<const fs::path> files) {
  return open_tokenizer_json(read_file(files[0]), files[0].string());
}

Opened open_llama2c_file(std::span<const fs::path> files) {
  return open_llama2c_tokenizer(read_file(files[0]), files[0].string());
}

/// "tokenizer.model | vocab.json + merges.txt | …"
std::string wanted_files() {
  std::string text;
  for (const TokenizerKind& kind : tokenizer_kinds()) {
    for (const auto& set : kind.file_sets) {
      text += fmt::format("{}{}", text.empty() ? "" : " | ", fmt::join(set, " + "));
    }
  }
  return text;
}

std::vector<fs::path> inside(const fs::path& folder, const std::vector<std::string>& names) {
  std::vector<fs::path> paths;
  for (const std::string& name : names) paths.push_back(folder / name);
  return paths;
}

/// The tokenizer made of this set of files, or null if the first of them is missing or of another kind.
Opened open_set(const TokenizerKind& kind, const std::vector<fs::path>& paths) {
  if (!fs::exists(paths[0])) return nullptr;
  for (const fs::path& path : paths) {
    if (fs::exists(path)) continue;
    throw_input_error("tokenizer", "{} needs {} beside it, which is missing", paths[0].string(),
                      path.filename().string());
  }
  return kind.open(paths);
}

Opened open_folder(const fs::path& folder) {
  for (const TokenizerKind& kind : tokenizer_kinds()) {
    for (const auto& set : kind.file_sets) {
      if (Opened opened = open_set(kind, inside(folder, set))) return opened;
    }
  }
  throw_input_error("tokenizer", "no tokenizer in {}; looked for {}{}", folder.string(), wanted_files(),
                    " saying \"tokenizer_class\": \"bytes\"");
}

Opened open_file(const fs::path& path) {
  const std::string name = path.filename().string();
  for (const TokenizerKind& kind : tokenizer_kinds()) {
    for (const auto& set : kind.file_sets) {
      if (std::find(set.begin(), set.end(), name) == set.end()) continue;
      if (Opened opened = open_set(kind, inside(path.parent_path(), set))) return opened;
    }
  }
  if (path.extension() == ".model") return open_sentencepiece(read_file(path), path.string());
  if (path.extension() == ".bin") return open_llama2c_tokenizer(read_file(path), path.string());
  throw_input_error("tokenizer",
                    "{} is no tokenizer file; expected *.model, *.bin, one of {}, or the word bytes",
                    path.string(), wanted_files());
}

}  // namespace

std::span<const TokenizerKind> tokenizer_kinds() {
  static const std::vector<TokenizerKind> kKinds = {
      {.name = "sentencepiece",
       .summary = "SentencePiece, unigram or BPE, trained from the corpus or imported",
       .file_sets = {{"tokenizer.model"}},
       .open = open_sentencepiece_file},
      {.name = "tokenizer.json",
       .summary = "Hugging Face's BPE, byte-level or rewritten from SentencePiece, imported",
       .file_sets = {{"tokenizer.json"}},
       .open = open_tokenizer_json_file},
      {.name = "byte-level-bpe",
       .summary = "GPT-2's byte-level BPE, imported from its two files",
       .file_sets = {{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}},
       .open = open_bpe_files},
      {.name = "llama2c",
       .summary = "llama2.c's form of a SentencePiece BPE model, imported",
       .file_sets = {{"tokenizer.bin"}},
       .open = open_llama2c_file},
      {.name = "bytes",
       .summary = "one id a byte, and one that ends a text; nothing to train",
       .file_sets = {{"tokenizer_config.json"}},
       .open = open_bytes},
  };
  return kKinds;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text += token_bytes(id);
  return text;
}

std::string Tokenizer::fingerprint() const {
  Sha256 hash;
  for (const auto& [name, contents] : files()) {
    // Lengths keep ("ab", "c") apart from ("a", "bc").
    hash.update(fmt::format("{}:{}{}:", name.size(), name, contents.size()));
    hash.update(contents);
  }
  return hash.hex();
}

void Tokenizer::require_id(int32_t id) const {
  if (id >= 0 && id < vocabulary_size()) return;
  throw_input_error("decode", "token id must be between 0 and {}, got {}", vocabulary_size() - 1, id);
}

std::shared_ptr<const Tokenizer> load_tokenizer(const fs::path& path) {
  if (fs::is_directory(path)) return open_folder(path);
  if (fs::exists(path)) return open_file(path);
  if (path == "bytes") return make_byte_tokenizer();
  throw_input_error("tokenizer", "{} does not exist; expected a folder, a tokenizer file or the word bytes",
                    path.string());
}

}  // namespace qtf::text
