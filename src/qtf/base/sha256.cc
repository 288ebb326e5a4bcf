#include "qtf/base/sha256.h"

#include <openssl/evp.h>

#include <charconv>

#include "qtf/base/error.h"
#include "qtf/base/file.h"

namespace qtf {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

std::string to_hex(std::span<const uint8_t> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (uint8_t byte : bytes) text += kDigits[byte >> 4], text += kDigits[byte & 15];
  return text;
}

bool from_hex(std::string_view text, std::span<uint8_t> bytes) {
  if (text.size() != 2 * bytes.size()) return false;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto [end, error] = std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, bytes[i], 16);
    if (error != std::errc() || end != text.data() + 2 * i + 2) return false;
  }
  return true;
}

namespace {
// Cannot fail but for lack of memory or an OpenSSL without SHA-256.
void check(int ok) {
  if (ok != 1) throw_io_error("sha256", "OpenSSL cannot compute SHA-256; check its installation");
}
}  // namespace

Sha256::Sha256() : state_(std::make_unique<State>()) {
  check(state_->context && EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr));
}

Sha256::~Sha256() = default;

void Sha256::update(std::string_view bytes) {
  check(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()));
}

void Sha256::update(std::span<const uint8_t> bytes) {
  check(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()));
}

Digest Sha256::digest() {
  Digest digest;
  check(EVP_DigestFinal_ex(state_->context, digest.data(), nullptr));
  check(EVP_DigestInit_ex(state_->context, nullptr, nullptr));
  return digest;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

std::string sha256_file(const std::filesystem::path& path) {
  return sha256_hex(MappedFile(path).text());
}

}  // namespace qtf
