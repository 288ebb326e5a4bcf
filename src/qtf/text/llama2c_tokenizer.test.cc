#include "qtf/text/llama2c_tokenizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/text/random_text.h"

namespace qtf::text {
namespace {

namespace fs = std::filesystem;

void add(std::string& file, std::string_view text, float score) {
  const auto length = static_cast<int32_t>(text.size());
  file.append(reinterpret_cast<const char*>(&score), sizeof score);
  file.append(reinterpret_cast<const char*>(&length), sizeof length);
  file.append(text);
}

/// The marks, all bytes, and a few pieces.
std::string small_file() {
  std::string file("\7\0\0\0", 4);
  for (const char* mark : {"<unk>", "\n<s>\n", "\n</s>\n"}) add(file, mark, 0);
  char byte[8];
  for (int b = 0; b < 256; ++b) {
    std::snprintf(byte, sizeof byte, "<0x%02X>", b);
    add(file, byte, 0);
  }
  add(file, " t", -1);
  add(file, "he", -2);
  add(file, " the", -3);
  for (const char* letter : {" ", "t", "h", "e"}) add(file, letter, -1e9f);
  return file;
}

TEST(Llama2cTokenizer, MergesByScore) {
  const auto tokenizer = open_llama2c_tokenizer(small_file());
  EXPECT_EQ(tokenizer->vocabulary_size(), 266);
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_EQ(tokenizer->encode("the"), (std::vector<int32_t>{261})) << "with a blank before it";
  EXPECT_EQ(tokenizer->encode("t\n"), (std::vector<int32_t>{259, 3 + '\n'}));
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const std::string text = random_text(seed, 60);
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
}

TEST(Llama2cTokenizer, RefusesDamagedFiles) {
  const std::string good = small_file();
  for (size_t length = 0; length < good.size(); ++length) {
    try {
      open_llama2c_tokenizer(good.substr(0, length), "tok.bin");
      // Cut between two tokens behind the bytes it is a smaller tokenizer.
      EXPECT_GT(length, 3500u);
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("tok.bin"), std::string::npos) << error.what();
    }
  }
  const auto with = [&](size_t at, int32_t value) {
    std::string bad = good;
    std::memcpy(bad.data() + at, &value, sizeof value);
    return bad;
  };
  EXPECT_THROW(open_llama2c_tokenizer(with(8, -1)), InputError);
  EXPECT_THROW(open_llama2c_tokenizer(with(8, 1 << 30)), InputError);
  EXPECT_THROW(open_llama2c_tokenizer(with(4, 0x7FC00000)), InputError) << "a score that is NaN";
  std::string bytes = good;
  bytes.replace(bytes.find("<0x41>"), 6, "<0x42>");
  EXPECT_THROW(open_llama2c_tokenizer(bytes), InputError);
  bytes = good;
  bytes.replace(bytes.find(" the"), 4, "\xFF\xFF\xFF\xFF");
  EXPECT_THROW(open_llama2c_tokenizer(bytes), InputError);
}

TEST(Llama2cTokenizer, EncodesAsTheSentencePieceModelItWasMadeFrom) {
  const fs::path folder = fs::path(QTF_SHARED_DIR) / "data/stories260K";
  if (!fs::exists(folder)) GTEST_SKIP() << "skipped: no " << folder;
  const auto bin = load_tokenizer(folder / "tok512.bin"), model = load_tokenizer(folder / "tok512.model");
  ASSERT_EQ(bin->vocabulary_size(), model->vocabulary_size());
  const std::string stories = "Once upon a time, there was a little girl named Lily. She said: \"Hi!\"\n";
  EXPECT_EQ(bin->encode(stories), model->encode(stories));
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::string text = "Tim" + random_text(seed, 60) + "end";
    if (text.find("  ") != text.npos) continue;  // the model squeezes blanks, which tok512.bin does not tell
    EXPECT_EQ(bin->encode(text), model->encode(text)) << text;
  }
}

}  // namespace
}  // namespace qtf::text
