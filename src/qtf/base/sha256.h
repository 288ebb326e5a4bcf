// SHA-256 of texts and files (OpenSSL), for cache keys, fingerprints and model hashes.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace qtf {

/// Incremental SHA-256.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(std::string_view bytes);
  /// 64 lower-case hexadecimal digits. The object is spent afterwards.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// SHA-256 of `bytes`, 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view bytes);

/// SHA-256 of a file's contents. Throws like MappedFile.
std::string sha256_file(const std::filesystem::path& path);

}  // namespace qtf
