#include "qtf/audit/signature.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"

namespace qtf::audit {
namespace {

// RFC 8410, section 10: the example keys.
constexpr std::string_view kPrivatePem =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
    "-----END PRIVATE KEY-----\n";
constexpr std::string_view kPublicPem =
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
    "-----END PUBLIC KEY-----\n";
// Another pair's public half, and a key of another kind (P-256).
constexpr std::string_view kOtherPem =
    "-----BEGIN PUBLIC KEY-----\n"
    "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
    "-----END PUBLIC KEY-----\n";

class Envelope : public ::testing::Test {
 protected:
  void SetUp() override {
    write_file_atomically(private_, kPrivatePem);
    write_file_atomically(public_, kPublicPem);
    write_file_atomically(other_, kOtherPem);
  }
  TemporaryFolder folder_;
  std::filesystem::path private_ = folder_ / "private.pem", public_ = folder_ / "public.pem",
                        other_ = folder_ / "other.pem";
};

TEST_F(Envelope, OpensWithTheSignersKeyOnly) {
  const std::string payload = "{\"count\":\"3\"}";
  const nlohmann::json envelope = sign_envelope(kAnchorType, payload, private_);
  EXPECT_EQ(open_envelope(envelope, kAnchorType, public_), payload);
  EXPECT_THROW(open_envelope(envelope, kAnchorType, other_), InputError);
  EXPECT_THROW(open_envelope(envelope, kStatementType, public_), InputError);
  // Ed25519 signatures are deterministic.
  EXPECT_EQ(sign_envelope(kAnchorType, payload, private_), envelope);
}

TEST_F(Envelope, EveryChangedPartIsRefused) {
  const nlohmann::json envelope = sign_envelope(kAnchorType, "payload", private_);
  const auto refused = [&](const nlohmann::json& changed) {
    EXPECT_THROW(open_envelope(changed, kAnchorType, public_), InputError) << changed;
  };
  for (const char* key : {"payload", "payloadType", "signatures"}) {
    nlohmann::json changed = envelope;
    changed.erase(key);
    refused(changed);
    changed[key] = 1;
    refused(changed);
  }
  nlohmann::json changed = envelope;
  changed["payload"] = to_base64("payloae");
  refused(changed);
  const std::string signature = from_base64(envelope["signatures"][0]["sig"].get<std::string>());
  for (size_t bit = 0; bit < 8 * signature.size(); ++bit) {
    std::string other = signature;
    other[bit / 8] = static_cast<char>(other[bit / 8] ^ (1 << bit % 8));
    changed = envelope;
    changed["signatures"][0]["sig"] = to_base64(other);
    refused(changed);
  }
  refused(nullptr);
  refused(nlohmann::json::array());
}

TEST_F(Envelope, KeysOfOtherKindsAreRefused) {
  EXPECT_THROW(sign_envelope(kAnchorType, "x", public_), InputError);
  EXPECT_THROW(sign_envelope(kAnchorType, "x", folder_ / "missing"), InputError);
  write_file_atomically(other_, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
  EXPECT_THROW(sign_envelope(kAnchorType, "x", other_), InputError);
  EXPECT_THROW(open_envelope(sign_envelope(kAnchorType, "x", private_), kAnchorType, private_), InputError);
}

TEST(Base64, RoundTripsAndRefusesOthers) {
  for (const char* bytes : {"", "f", "fo", "foo", "foob", "fooba", "foobar"})
    EXPECT_EQ(from_base64(to_base64(bytes)), bytes);
  EXPECT_EQ(to_base64("foob"), "Zm9vYg==");  // RFC 4648
  for (const char* bad : {"Zm9vYg", "Zm9vYg=", "Zm9v\n", " Zm9", "Zm9*", "=", "====", "Zm9vYh=="})
    EXPECT_THROW(from_base64(bad), InputError) << bad;
}

}  // namespace
}  // namespace qtf::audit
