#include "qtf/audit/token_key.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"

namespace qtf::audit {
namespace {

TEST(TokenKey, IsTheRunsOwnAndItsOwnersAlone) {
  TemporaryFolder folder;
  const TokenKey key(folder / "a", "run1"), other(folder / "a", "run2");
  const int32_t ids[] = {1, 70000, 3};
  EXPECT_EQ(key.of_tokens(ids), key.of_tokens(ids));
  EXPECT_NE(key.of_tokens(ids), other.of_tokens(ids));
  EXPECT_NE(key.of_tokens(ids), key.of_tokens(std::span(ids).first(2)));
  EXPECT_EQ(TokenKey::read(folder / "a", "run1").of_tokens(ids), key.of_tokens(ids));
  const auto mode = std::filesystem::status(folder / "a.keys/run1").permissions();
  EXPECT_EQ(mode, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

// Python's
// hmac.new(bytes(range(32)), b"\x01\0\0\0\xff\xff\xff\xff", "sha256").hexdigest().
TEST(TokenKey, KnownAnswer) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "a.keys");
  write_file_atomically(folder / "a.keys/r",
                        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n");
  const int32_t ids[] = {1, -1};
  EXPECT_EQ(TokenKey::read(folder / "a", "r").of_tokens(ids),
            "89074bae7fa73165889a1258edced2a637ffdd355cfce1047ffdecce0c75a4ff");
}

TEST(TokenKey, ThatAreNoneAreRefused) {
  TemporaryFolder folder;
  EXPECT_THROW(TokenKey::read(folder / "a", "r"), InputError);
  std::filesystem::create_directory(folder / "a.keys");
  write_file_atomically(folder / "a.keys/r", "0011\n");
  EXPECT_THROW(TokenKey::read(folder / "a", "r"), InputError);
  EXPECT_THROW(TokenKey(folder / "a", "r"), IoError) << "a key is never replaced";
}

}  // namespace
}  // namespace qtf::audit
