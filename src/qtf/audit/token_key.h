// Token ids in records without the text: HMAC-SHA-256 under a key of the run's own, which lies outside of the
// audit file. (A plain hash of one of a few thousand tokens would be no secret.)
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace qtf::audit {

class TokenKey {
 public:
  /// A new key, drawn by the system, in FILE.keys/RUN (64 hexadecimal digits, readable by its owner alone).
  /// Throws IoError if it cannot be written.
  TokenKey(const std::filesystem::path& file, std::string_view run);

  /// The key of an earlier run. Throws InputError if it is not there, or is none.
  static TokenKey read(const std::filesystem::path& file, std::string_view run);

  /// HMAC-SHA-256 of the ids as 32-bit little-endian numbers, 64 hexadecimal digits.
  std::string of_tokens(std::span<const int32_t> ids) const;

 private:
  TokenKey() = default;
  std::array<uint8_t, 32> key_{};
};

}  // namespace qtf::audit
