#include "qtf/base/sha256.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"

namespace qtf {
namespace {

// FIPS 180-4 examples (NIST CSRC "SHA256.pdf") and the empty text.
TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Sha256, PiecesEqualTheWhole) {
  const std::string text(100'000, 'a');
  Sha256 hash;
  for (size_t i = 0; i < text.size(); i += 777) hash.update(std::string_view(text).substr(i, 777));
  EXPECT_EQ(hash.hex(), sha256_hex(text));
}

TEST(Sha256, BeginsAnewAfterEachDigest) {
  Sha256 hash;
  hash.update("abc");
  EXPECT_EQ(to_hex(hash.digest()), sha256_hex("abc"));
  hash.update("");
  EXPECT_EQ(hash.hex(), sha256_hex(""));
}

TEST(Hex, RoundTripsAndRefusesOthers) {
  const std::array<uint8_t, 4> bytes{0, 9, 0xab, 0xff};
  EXPECT_EQ(to_hex(bytes), "0009abff");
  std::array<uint8_t, 4> back{};
  EXPECT_TRUE(from_hex("0009ABff", back));
  EXPECT_EQ(back, bytes);
  for (const char* bad : {"", "0009abf", "0009abfff", "0009abfg", "0009ab-1", "0009ab 1", "0x09abff"})
    EXPECT_FALSE(from_hex(bad, back)) << bad;
}

TEST(Sha256, OfAFile) {
  TemporaryFolder folder;
  write_file_atomically(folder / "abc", "abc");
  EXPECT_EQ(sha256_file(folder / "abc"), sha256_hex("abc"));
  EXPECT_THROW(sha256_file(folder / "missing"), InputError);
}

}  // namespace
}  // namespace qtf
