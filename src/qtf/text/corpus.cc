#include "qtf/text/corpus.h"

#include <algorithm>
#include <cstring>

#include "qtf/base/error.h"
#include "qtf/base/sha256.h"
#include "qtf/text/utf8.h"

namespace qtf::text {

namespace fs = std::filesystem;

namespace {

bool is_hidden(const fs::path& path) {
  return path.filename().string().starts_with('.');
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  try {
    for (auto i = fs::recursive_directory_iterator(folder); i != fs::recursive_directory_iterator(); ++i) {
      if (is_hidden(i->path())) {
        if (i->is_directory()) i.disable_recursion_pending();
      } else if (i->is_regular_file()) {
        files.push_back(i->path());
      }
    }
  } catch (const fs::filesystem_error& error) {
    throw_io_error("corpus", "{}: {}", error.path1().string(), error.code().message());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void require_text(std::string_view text, const fs::path& file) {
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    throw_input_error("corpus", "{} is UTF-16; convert it, for example with iconv -f UTF-16 -t UTF-8",
                      file.string());
  }
  if (const void* nul = std::memchr(text.data(), 0, text.size())) {
    throw_input_error("corpus", "{} is not text: NUL at byte {}; give a text file", file.string(),
                      static_cast<const char*>(nul) - text.data());
  }
  if (const size_t bad = find_invalid_utf8(text); bad != text.npos) {
    throw_input_error("corpus", "{} is not valid UTF-8 at byte {}; convert it, for example with iconv",
                      file.string(), bad);
  }
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

}  // namespace

TextCounts count_text(std::string_view text) {
  TextCounts counts{.bytes = static_cast<int64_t>(text.size())};
  bool in_word = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = read_code_point(text, i);
    const bool space = is_white_space(c);
    counts.words += (!space && !in_word) + (c == '\n');
    in_word = !space;
  }
  if (!text.empty() && text.back() != '\n') ++counts.words;
  return counts;
}

Corpus::Corpus(const fs::path& path) {
  if (!fs::exists(path)) {
    throw_input_error("corpus", "{}: no such file or folder; check the path", path.string());
  }
  if (fs::is_directory(path)) {
    for (const fs::path& file : files_below(path)) add(file);
    if (texts_.empty()) throw_input_error("corpus", "{} holds no text; give a text file", path.string());
  } else {
    add(path);
    if (texts_.empty()) throw_input_error("corpus", "{} is empty; give a text file", path.string());
  }
}

void Corpus::add(const fs::path& file) {
  MappedFile mapped(file);
  const std::string_view text = mapped.text();
  if (text.empty()) return;
  require_text(text, file);
  const TextCounts counts = count_text(text);
  counts_.bytes += counts.bytes;
  counts_.words += counts.words;
  texts_.push_back(text);
  files_.push_back(std::move(mapped));
}

std::string Corpus::sha256() const {
  Sha256 hash;
  for (const std::string_view text : texts_) {
    if (texts_.size() > 1) hash.update(fmt::format("{}:", text.size()));
    hash.update(text);
  }
  return hash.hex();
}

std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator) {
  if (separator.empty()) throw_input_error("split_documents", "the separator must not be empty");
  std::vector<std::string_view> documents;
  while (!text.empty()) {
    const size_t at = std::min(text.find(separator), text.size());
    const std::string_view document = trim(text.substr(0, at));
    if (!document.empty()) documents.push_back(document);
    text.remove_prefix(std::min(at + separator.size(), text.size()));
  }
  return documents;
}

}  // namespace qtf::text
