// Ed25519 signatures in DSSE envelopes (github.com/secure-systems-lab/dsse), which in-toto's tools read too.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "qtf/base/json.h"

namespace qtf::audit {

/// Payload type of a signed anchor; its payload is {"count","last","root"} in canonical JSON.
inline constexpr std::string_view kAnchorType = "application/vnd.qtf.audit-anchor+json";
/// Payload type of an in-toto statement.
inline constexpr std::string_view kStatementType = "application/vnd.in-toto+json";

/// {"payload","payloadType","signatures":[{"keyid","sig"}]}; keyid: SHA-256 of the public key's DER form.
/// Throws InputError for a file that holds no Ed25519 private key in PEM form.
nlohmann::json sign_envelope(std::string_view type, std::string_view payload,
                             const std::filesystem::path& private_key);

/// The payload of an envelope that the key's owner signed. Throws InputError for what is no envelope of this
/// type, a key file that is no Ed25519 public key in PEM form, or a signature that does not hold.
std::string open_envelope(const nlohmann::json& envelope, std::string_view type,
                          const std::filesystem::path& public_key);

std::string to_base64(std::string_view bytes);
/// Throws InputError for what is not base64 with padding.
std::string from_base64(std::string_view text);

}  // namespace qtf::audit
