#include "qtf/text/byte_tokenizer.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/text/random_text.h"

namespace qtf::text {
namespace {

TEST(ByteTokenizer, IdsAreBytes) {
  const auto tokenizer = make_byte_tokenizer();
  EXPECT_EQ(tokenizer->vocabulary_size(), 257);
  EXPECT_EQ(tokenizer->eos(), 256);
  EXPECT_FALSE(tokenizer->bos());
  EXPECT_EQ(tokenizer->encode("A\xC3\xA9"), (std::vector<int32_t>{0x41, 0xC3, 0xA9}));
  EXPECT_EQ(tokenizer->token_bytes(0xC3), "\xC3");
  EXPECT_EQ(tokenizer->token_bytes(256), "");
}

TEST(ByteTokenizer, RoundTripsAnyUtf8) {
  const auto tokenizer = make_byte_tokenizer();
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::string text = random_text(seed, 100);
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
}

TEST(ByteTokenizer, RefusesInvalidInput) {
  const auto tokenizer = make_byte_tokenizer();
  EXPECT_THROW(tokenizer->encode("\xFF"), InputError);
  EXPECT_THROW(tokenizer->token_bytes(-1), InputError);
  EXPECT_THROW(tokenizer->token_bytes(257), InputError);
}

TEST(ByteTokenizer, KnowsItsConfiguration) {
  EXPECT_TRUE(is_byte_tokenizer_config(make_byte_tokenizer()->files()[0].second, "x"));
  EXPECT_FALSE(is_byte_tokenizer_config(R"({"tokenizer_class": "GPT2Tokenizer"})", "x"));
  EXPECT_FALSE(is_byte_tokenizer_config("{}", "x"));
  for (const char* broken : {"", "[]", "{", "\"bytes\""}) {
    EXPECT_THROW(is_byte_tokenizer_config(broken, "x"), InputError) << broken;
  }
}

}  // namespace
}  // namespace qtf::text
