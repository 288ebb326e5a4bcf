#include "qtf/text/token_file.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "qtf/base/error.h"
#include "qtf/base/progress.h"
#include "qtf/text/utf8.h"

namespace qtf::text {

namespace fs = std::filesystem;

namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

constexpr char kMagic[8] = {'Q', 'T', 'F', 'T', 'O', 'K', 'S', '\n'};
constexpr uint32_t kVersion = 1;

// The file: header, ids, trailer. What is known only at the end stands at the end, so that it is written in
// one go.
struct Header {
  char magic[8];
  uint32_t version;
  uint32_t id_bytes;  ///< 2 or 4
  int32_t vocabulary_size;
  uint32_t reserved;
  int64_t text_bytes;
  int64_t text_words;
  char tokenizer[64];  ///< fingerprint, hexadecimal
  char text[64];       ///< SHA-256 of the corpus, hexadecimal
  uint64_t zero[3];    ///< the ids begin on a cache line
};
static_assert(sizeof(Header) == 192);

struct Trailer {
  int64_t size;
  uint64_t checksum;
};

/// A fast hash against damage, not against malice.
class Checksum {
 public:
  explicit Checksum(const Header& header) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(&header);
    for (size_t i = 0; i < sizeof header; ++i) add(bytes[i]);
  }
  void add(uint64_t value) { state_ = std::rotl((state_ ^ value) * 0x9E3779B97F4A7C15, 29); }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0xCBF29CE484222325;
};

void copy_digits(const std::string& from, char (&to)[64]) {
  QTF_ASSERT(from.size() == sizeof to);
  std::memcpy(to, from.data(), sizeof to);
}

/// Writes ids as they come, then the trailer.
class TokenFileWriter {
 public:
  TokenFileWriter(const fs::path& path, const Corpus& corpus, const std::string& text_hash,
                  const Tokenizer& tokenizer)
      : file_(path), header_(make_header(corpus, text_hash, tokenizer)), checksum_(header_) {
    file_.write(&header_, sizeof header_);
  }

  void append(std::span<const int32_t> ids) {
    for (const int32_t id : ids) checksum_.add(static_cast<uint32_t>(id));
    size_ += static_cast<int64_t>(ids.size());
    if (header_.id_bytes == 4) return file_.write(ids.data(), ids.size_bytes());
    narrow_.assign(ids.begin(), ids.end());
    file_.write(narrow_.data(), narrow_.size() * sizeof narrow_[0]);
  }

  void commit() {
    const Trailer trailer{size_, checksum_.value()};
    file_.write(&trailer, sizeof trailer);
    file_.commit();
  }

 private:
  static Header make_header(const Corpus& corpus, const std::string& text_hash, const Tokenizer& tokenizer) {
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    header.version = kVersion;
    header.vocabulary_size = tokenizer.vocabulary_size();
    header.id_bytes = header.vocabulary_size <= 65536 ? 2 : 4;
    header.text_bytes = corpus.counts().bytes;
    header.text_words = corpus.counts().words;
    copy_digits(tokenizer.fingerprint(), header.tokenizer);
    copy_digits(text_hash, header.text);
    return header;
  }

  AtomicFile file_;
  Header header_;
  Checksum checksum_;
  int64_t size_ = 0;
  std::vector<uint16_t> narrow_;
};

/// A progress bar that shows itself only once a second has passed.
class LateProgress {
 public:
  LateProgress(bool wanted, int64_t total) : wanted_(wanted), total_(total) {}

  void update(int64_t done) {
    if (!wanted_) return;
    if (!bar_ && std::chrono::steady_clock::now() - begin_ > std::chrono::seconds(1)) {
      bar_.emplace("tokenizing", total_);
      bar_->start_at(done);
    }
    if (bar_) bar_->update(done);
  }

 private:
  bool wanted_;
  int64_t total_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::optional<Progress> bar_;
};

/// Length of the next part of `text` to encode: up to a split point in the first `size` bytes, or in twice as
/// many, and so on; the whole text if there is none.
size_t next_part(std::string_view text, const Tokenizer& tokenizer, size_t size) {
  for (size = std::max<size_t>(1, size); size < text.size(); size *= 2) {
    const std::string_view window = text.substr(0, size);
    if (const size_t point = tokenizer.split_point(window.substr(0, complete_utf8_prefix(window))))
      return point;
  }
  return text.size();
}

void write_tokens(const fs::path& path, const Corpus& corpus, const std::string& text_hash,
                  const Tokenizer& tokenizer, const TokenizeOptions& options) {
  TokenFileWriter writer(path, corpus, text_hash, tokenizer);
  LateProgress progress(options.progress, corpus.counts().bytes);
  int64_t done = 0;
  std::vector<int32_t> ids;
  for (std::string_view text : corpus.texts()) {
    for (bool first = true; !text.empty(); first = false) {
      const std::string_view part =
          text.substr(0, next_part(text, tokenizer, static_cast<size_t>(options.chunk_bytes)));
      ids.clear();
      first ? tokenizer.encode(part, ids) : tokenizer.encode_continuation(part, ids);
      writer.append(ids);
      text.remove_prefix(part.size());
      progress.update(done += static_cast<int64_t>(part.size()));
    }
  }
  writer.commit();
}

fs::path cache_file(const TokenizeOptions& options, const std::string& text_hash,
                    const Tokenizer& tokenizer) {
  const fs::path folder = options.cache.empty() ? cache_folder() : options.cache;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw_io_error("tokenize_corpus", "cannot make the cache folder {}: {}; set XDG_CACHE_HOME",
                   folder.string(), error.message());
  }
  return folder / fmt::format("{}-{}.tokens", text_hash.substr(0, 32), tokenizer.fingerprint().substr(0, 32));
}

/// The cached file, if it is there, whole, and of this text and tokenizer.
std::optional<TokenFile> open_cached(const fs::path& path, const std::string& text_hash,
                                     const Tokenizer& tokenizer) {
  if (!fs::exists(path)) return std::nullopt;
  try {
    TokenFile file(path);
    if (file.text_sha256() == text_hash && file.tokenizer() == tokenizer.fingerprint()) return file;
  } catch (const IoError&) {
    // Damaged: written anew.
  }
  return std::nullopt;
}

}  // namespace

namespace internal {

TokenFileContents parse_token_file(std::string_view bytes, std::string_view name) {
  Header header;
  Trailer trailer;
  if (bytes.size() < sizeof header + sizeof trailer) {
    throw_io_error("token file", "{} is truncated: {} bytes", name, bytes.size());
  }
  std::memcpy(&header, bytes.data(), sizeof header);
  std::memcpy(&trailer, bytes.data() + bytes.size() - sizeof trailer, sizeof trailer);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.version != kVersion ||
      (header.id_bytes != 2 && header.id_bytes != 4)) {
    throw_io_error("token file", "{} is no token file of version {}; delete it", name, kVersion);
  }
  const size_t payload = bytes.size() - sizeof header - sizeof trailer;
  if (trailer.size < 0 || payload % header.id_bytes != 0 ||
      payload / header.id_bytes != static_cast<uint64_t>(trailer.size)) {
    throw_io_error("token file", "{} is truncated or damaged: {} bytes of ids; delete it", name, payload);
  }
  TokenFileContents contents{.ids = bytes.data() + sizeof header,
                             .size = trailer.size,
                             .wide = header.id_bytes == 4,
                             .vocabulary_size = header.vocabulary_size,
                             .counts = {.bytes = header.text_bytes, .words = header.text_words},
                             .tokenizer = std::string(header.tokenizer, sizeof header.tokenizer),
                             .text = std::string(header.text, sizeof header.text)};
  Checksum checksum(header);
  for (int64_t i = 0; i < contents.size; ++i) {
    checksum.add(contents.wide ? static_cast<const uint32_t*>(contents.ids)[i]
                               : static_cast<const uint16_t*>(contents.ids)[i]);
  }
  if (checksum.value() != trailer.checksum) {
    throw_io_error("token file", "{} is damaged: its checksum differs; delete it", name);
  }
  return contents;
}

}  // namespace internal

TokenFile::TokenFile(const fs::path& path)
    : file_(path), contents_(internal::parse_token_file(file_.text(), path.string())) {}

TokenFile tokenize_corpus(const Corpus& corpus, const Tokenizer& tokenizer, const TokenizeOptions& options) {
  const std::string text_hash = corpus.sha256();
  const fs::path path = cache_file(options, text_hash, tokenizer);
  if (auto cached = open_cached(path, text_hash, tokenizer)) return std::move(*cached);
  write_tokens(path, corpus, text_hash, tokenizer, options);
  return TokenFile(path);
}

TokenFile tokenize_corpus(const fs::path& corpus, const Tokenizer& tokenizer,
                          const TokenizeOptions& options) {
  return tokenize_corpus(Corpus(corpus), tokenizer, options);
}

}  // namespace qtf::text
