// SHA-256 of texts and files (OpenSSL), for cache keys, fingerprints, model hashes and the audit trail.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace qtf {

/// The 32 bytes of a SHA-256.
using Digest = std::array<uint8_t, 32>;

/// Lower-case hexadecimal digits, two a byte.
std::string to_hex(std::span<const uint8_t> bytes);

/// The bytes of hexadecimal digits, upper or lower case; false if the text is no such thing or of another
/// length.
bool from_hex(std::string_view text, std::span<uint8_t> bytes);

/// Incremental SHA-256.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(std::string_view bytes);
  void update(std::span<const uint8_t> bytes);
  /// The hash of what was given since the last call; the next text begins.
  Digest digest();
  /// 64 lower-case hexadecimal digits of digest().
  std::string hex() { return to_hex(digest()); }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// SHA-256 of `bytes`, 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view bytes);

/// SHA-256 of a file's contents. Throws like MappedFile.
std::string sha256_file(const std::filesystem::path& path);

}  // namespace qtf
