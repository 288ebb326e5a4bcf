#include "qtf/audit/signature.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <array>
#include <memory>
#include <optional>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/sha256.h"

namespace qtf::audit {

namespace {

using PrivateOrPublicKey = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;
constexpr size_t kSignatureBytes = 64;
constexpr size_t kMostBase64 = size_t{64} << 20;

const unsigned char* unsigned_bytes(std::string_view bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

/// Never asks at the terminal: a key with a password is an error.
int no_password(char*, int, int, void*) {
  return -1;
}

template <class Read>
PrivateOrPublicKey read_key(const std::filesystem::path& path, const char* what, Read read) {
  const std::string pem = read_file(path);
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free);
  PrivateOrPublicKey key(read(bio.get(), nullptr, &no_password, nullptr), &EVP_PKEY_free);
  if (!key || EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519)
    throw_input_error("audit", "{} holds no Ed25519 {} key in PEM form without a password", path.string(),
                      what);
  return key;
}

/// What DSSE signs of type and payload.
std::string preauthentication(std::string_view type, std::string_view payload) {
  return fmt::format("DSSEv1 {} {} {} {}", type.size(), type, payload.size(), payload);
}

std::string key_id(EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  if (size <= 0) throw_io_error("audit", "OpenSSL cannot write the public key");
  const std::string id = sha256_hex({reinterpret_cast<const char*>(der), static_cast<size_t>(size)});
  OPENSSL_free(der);
  return id;
}

const nlohmann::json& text_member(const nlohmann::json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || found == object.end() || !found->is_string())
    throw_input_error("audit", "this is no DSSE envelope: '{}' is missing", key);
  return *found;
}

bool is_signed(const nlohmann::json& envelope, std::string_view message, EVP_PKEY* key) {
  const auto signatures = envelope.find("signatures");
  if (signatures == envelope.end() || !signatures->is_array()) return false;
  for (const nlohmann::json& one : *signatures) {
    const std::string signature = from_base64(text_member(one, "sig").get_ref<const std::string&>());
    const DigestContext context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
    if (EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key) == 1 &&
        EVP_DigestVerify(context.get(), unsigned_bytes(signature), signature.size(), unsigned_bytes(message),
                         message.size()) == 1)
      return true;
  }
  return false;
}

}  // namespace

nlohmann::json sign_envelope(std::string_view type, std::string_view payload,
                             const std::filesystem::path& private_key) {
  const PrivateOrPublicKey key = read_key(private_key, "private", &PEM_read_bio_PrivateKey);
  const std::string message = preauthentication(type, payload);
  std::array<unsigned char, kSignatureBytes> signature;
  size_t size = signature.size();
  const DigestContext context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) != 1 ||
      EVP_DigestSign(context.get(), signature.data(), &size, unsigned_bytes(message), message.size()) != 1)
    throw_io_error("audit", "OpenSSL cannot sign with {}", private_key.string());
  return {{"payload", to_base64(payload)},
          {"payloadType", type},
          {"signatures",
           {{{"keyid", key_id(key.get())},
             {"sig", to_base64({reinterpret_cast<const char*>(signature.data()), size})}}}}};
}

std::string open_envelope(const nlohmann::json& envelope, std::string_view type,
                          const std::filesystem::path& public_key) {
  const PrivateOrPublicKey key = read_key(public_key, "public", &PEM_read_bio_PUBKEY);
  const std::string found = text_member(envelope, "payloadType");
  if (found != type) throw_input_error("audit", "the envelope holds {}, not {}", found, type);
  std::string payload = from_base64(text_member(envelope, "payload").get_ref<const std::string&>());
  if (!is_signed(envelope, preauthentication(type, payload), key.get()))
    throw_input_error("audit", "no signature of the envelope is by the key of {}", public_key.string());
  return payload;
}

std::string to_base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), unsigned_bytes(bytes),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  return text;
}

std::string from_base64(std::string_view text) {
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  std::string bytes(text.size() / 4 * 3 + 3, '\0');
  const int size = text.size() % 4 != 0 || text.size() > kMostBase64
                       ? -1
                       : EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()), unsigned_bytes(text),
                                         static_cast<int>(text.size()));
  // OpenSSL forgives spaces around; one spelling has no use for that.
  bytes.resize(size < 0 ? 0 : static_cast<size_t>(size) - padding);
  if (size < 0 || to_base64(bytes) != text)
    throw_input_error("audit", "'{}' is not base64", text.substr(0, 40));
  return bytes;
}

}  // namespace qtf::audit
