#include "qtf/model/llama2c_import.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/model/generate.h"

namespace qtf::model {
namespace {

namespace fs = std::filesystem;

constexpr int32_t kWidth = 8, kHidden = 12, kLayers = 1, kHeads = 2, kKvHeads = 1, kVocabulary = 5,
                  kContext = 6;

/// A tied model file whose weights are 0, 1, 2, … in file order, in thousandths.
std::string small_file() {
  const int32_t kv = kWidth / kHeads * kKvHeads;
  const int32_t header[] = {kWidth, kHidden, kLayers, kHeads, kKvHeads, kVocabulary, kContext};
  const int32_t count = kVocabulary * kWidth + kWidth + 2 * kWidth * kWidth + 2 * kv * kWidth + kWidth +
                        3 * kWidth * kHidden + kWidth + kContext * (kWidth / kHeads);
  std::string bytes(sizeof header + static_cast<size_t>(count) * 4, '\0');
  std::memcpy(bytes.data(), header, sizeof header);
  for (int32_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(i) / 1000;
    std::memcpy(bytes.data() + sizeof header + static_cast<size_t>(i) * 4, &value, 4);
  }
  return bytes;
}

TEST(Llama2cImport, TakesSizesAndWeights) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "model.bin", small_file());
  const LoadedModel loaded = load_model(folder / "model.bin");
  const ModelConfig& config = loaded.model->config();
  EXPECT_EQ(config.family, Family::llama);
  EXPECT_EQ(config.width, kWidth);
  EXPECT_EQ(config.vocabulary, kVocabulary);
  EXPECT_EQ(config.context, kContext);
  EXPECT_EQ(config.kv_heads, kKvHeads);
  EXPECT_TRUE(config.tied);
  EXPECT_EQ(config.bos_token, 1);
  EXPECT_EQ(config.eos_token, 2);
  EXPECT_EQ(loaded.tokenizer, nullptr);
  EXPECT_EQ(loaded.bytes, static_cast<int64_t>(small_file().size()));
  EXPECT_EQ(loaded.model->parameters()[3], 0.003f) << "the embedding comes first in both";
}

TEST(Llama2cImport, ReordersTheRowsOfQueriesAndKeys) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "model.bin", small_file());
  const LoadedModel loaded = load_llama2c(folder / "model.bin");
  const auto first_of_row = [&](const char* name, int64_t row) {
    const Parameter& p =
        loaded.model->layout().find(std::string("model.layers.0.self_attn.") + name + ".weight");
    return loaded.model->parameters()[static_cast<size_t>(p.offset + row * kWidth)];
  };
  // Within a head of four, rows 0 1 2 3 (pairs 0 1 and 2 3) go to 0 2 1 3 (pairs 0 2 and 1 3).
  const float q0 = first_of_row("q_proj", 0), k0 = first_of_row("k_proj", 0), v0 = first_of_row("v_proj", 0);
  const int64_t target[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (int64_t row = 0; row < 8; ++row)
    EXPECT_NEAR(first_of_row("q_proj", target[row]), q0 + 0.008f * static_cast<float>(row), 1e-6);
  for (int64_t row = 0; row < 4; ++row) {
    EXPECT_NEAR(first_of_row("k_proj", target[row]), k0 + 0.008f * static_cast<float>(row), 1e-6);
    EXPECT_NEAR(first_of_row("v_proj", row), v0 + 0.008f * static_cast<float>(row), 1e-6);
  }
}

TEST(Llama2cImport, RefusesDamagedFiles) {
  const TemporaryFolder folder;
  const fs::path path = folder / "model.bin";
  const std::string good = small_file();
  write_file_atomically(path, good.substr(0, good.size() - 4));
  EXPECT_THROW(load_model(path), IoError);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::string damaged = good;
    std::memcpy(damaged.data() + 28 + 400, &bad, 4);
    write_file_atomically(path, damaged);
    EXPECT_THROW(load_model(path), IoError);
  }
  write_file_atomically(path, good);
  write_file_atomically(folder / "tokenizer.model", "no tokenizer");
  const LoadedModel loaded = load_model(path);
  EXPECT_EQ(loaded.tokenizer, nullptr);
  EXPECT_NE(loaded.tokenizer_problem.find("is not a SentencePiece model"), std::string::npos)
      << loaded.tokenizer_problem;
}

TEST(Llama2cImport, TakesItsOwnFormOfATokenizer) {
  const fs::path source = fs::path(QTF_SHARED_DIR) / "data/stories260K";
  if (!fs::exists(source)) GTEST_SKIP() << "skipped: no " << source;
  const TemporaryFolder folder;
  for (const char* name : {"stories260K.bin", "tok512.bin", "tok4096.bin"})
    fs::copy(source / name, folder / name);
  const LoadedModel loaded = load_model(folder / "stories260K.bin");
  ASSERT_NE(loaded.tokenizer, nullptr) << loaded.tokenizer_problem;
  EXPECT_EQ(loaded.tokenizer->encode("Once upon a time"),
            load_model(source / "stories260K.bin").tokenizer->encode("Once upon a time"));
  fs::remove(folder / "tok512.bin");
  EXPECT_NE(load_model(folder / "stories260K.bin")
                .tokenizer_problem.find("no tok*.model or tok*.bin with 512 tokens lies beside it; "
                                        "tok4096.bin has 4096"),
            std::string::npos);
}

TEST(Llama2cImport, Stories260KContinuesGreedily) {
  const fs::path path = fs::path(QTF_SHARED_DIR) / "data/stories260K/stories260K.bin";
  if (!fs::exists(path)) GTEST_SKIP() << "skipped: no " << path;
  const LoadedModel loaded = load_model(path);
  ASSERT_NE(loaded.tokenizer, nullptr);
  EXPECT_EQ(loaded.tokenizer->vocabulary_size(), 512);
  ThreadPool pool(1);
  loaded.model->prepare(tt::Use::inference, pool);
  GenerateOptions options;
  options.tokens = 40;
  options.sampling.temperature = 0;
  const Generation result = generate(*loaded.model, *loaded.tokenizer, "", options);
  EXPECT_TRUE(result.text.starts_with("Once upon a time, there was a little girl named Lily."))
      << result.text;
}

}  // namespace
}  // namespace qtf::model
