// The bytes of an edge file as they are put together: a header, and behind it whatever was added, each
// aligned.
#pragma once

#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <type_traits>

#include "qtf/base/file.h"
#include "qtf/edge/format.h"

namespace qtf::model {

class EdgeFile {
 public:
  EdgeFile() : bytes_(sizeof(edge::Header), '\0') {}

  /// Where things lie from now on.
  template <class T>
  edge::Span add(std::span<const T> things) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (things.empty()) return {};
    bytes_.resize((bytes_.size() + edge::kAlignment - 1) / edge::kAlignment * edge::kAlignment);
    const edge::Span span{bytes_.size(), things.size()};
    bytes_.append(reinterpret_cast<const char*>(things.data()), things.size_bytes());
    return span;
  }

  /// Completes the header and writes the file. Throws IoError.
  void write(const std::filesystem::path& path, edge::Header header) {
    std::memcpy(header.magic, edge::kMagic, sizeof header.magic);
    header.version = edge::kVersion, header.header_bytes = sizeof header, header.file_bytes = bytes_.size();
    std::memcpy(bytes_.data(), &header, sizeof header);
    write_file_atomically(path, bytes_);
  }

 private:
  std::string bytes_;
};

}  // namespace qtf::model
