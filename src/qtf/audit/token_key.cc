#include "qtf/audit/token_key.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/sha256.h"

namespace qtf::audit {

namespace {

std::filesystem::path key_path(const std::filesystem::path& file, std::string_view run) {
  return std::filesystem::path(file.string() + ".keys") / run;
}

}  // namespace

TokenKey::TokenKey(const std::filesystem::path& file, std::string_view run) {
  if (RAND_bytes(key_.data(), static_cast<int>(key_.size())) != 1)
    throw_io_error("audit", "the system gives no random numbers");
  const std::filesystem::path path = key_path(file, run);
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  constexpr int kOwnerOnly = 0600;
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kOwnerOnly);
  const std::string text = to_hex(key_) + "\n";
  const bool written =
      fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && fsync(fd) == 0;
  const int reason = errno;
  if (fd >= 0) close(fd);
  if (!written)
    throw_io_error("audit", "the run's key {} cannot be written: {}", path.string(), std::strerror(reason));
}

TokenKey TokenKey::read(const std::filesystem::path& file, std::string_view run) {
  const std::filesystem::path path = key_path(file, run);
  std::string text = read_file(path);
  if (text.ends_with('\n')) text.pop_back();
  TokenKey key;
  if (!from_hex(text, key.key_)) throw_input_error("audit", "{} holds no key", path.string());
  return key;
}

std::string TokenKey::of_tokens(std::span<const int32_t> ids) const {
  std::string bytes;
  for (const int32_t id : ids)
    for (int byte = 0; byte < 4; ++byte)
      bytes += static_cast<char>(static_cast<uint32_t>(id) >> (8 * byte) & 0xff);
  Digest digest;
  unsigned int size = digest.size();
  if (!HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()),
            reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data(), &size))
    throw_io_error("audit", "OpenSSL cannot compute an HMAC");
  return to_hex(digest);
}

}  // namespace qtf::audit
