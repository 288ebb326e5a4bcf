#include "qtf/io/llama2c.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "qtf/base/aligned.h"
#include "qtf/base/error.h"
#include "qtf/base/temporary_folder.h"

namespace qtf::io {
namespace {

namespace fs = std::filesystem;

using File = AlignedVector<float>;

// width, feed-forward, layers, heads, key/value heads, vocabulary, context
constexpr std::array<int32_t, 7> kSizes = {8, 12, 3, 4, 2, 10, 16};

/// A file with these sizes whose weights count from 0.
File make_file(std::array<int32_t, 7> sizes, size_t weights) {
  File file(7 + weights);
  std::memcpy(file.data(), sizes.data(), sizeof sizes);
  std::iota(file.begin() + 7, file.end(), 0.0f);
  return file;
}

size_t weights_of(const std::array<int32_t, 7>& s) {
  const int head = s[0] / s[3], kv = head * s[4], vocabulary = std::abs(s[5]);
  const int layer = 2 * s[0] + 2 * s[0] * s[0] + 2 * kv * s[0] + 3 * s[0] * s[1];
  const int ends = vocabulary * s[0] * (s[5] < 0 ? 2 : 1) + s[0] + s[6] * head;
  return static_cast<size_t>(ends + s[2] * layer);
}

Llama2cModel parse(std::span<const float> file) {
  return parse_llama2c(std::as_bytes(file), "x.bin");
}

TEST(Llama2c, CutsTheArraysInTheFilesOrder) {
  const File file = make_file(kSizes, weights_of(kSizes));
  const Llama2cModel model = parse(file);
  EXPECT_EQ(model.width, 8);
  EXPECT_EQ(model.feed_forward, 12);
  EXPECT_EQ(model.layers, 3);
  EXPECT_EQ(model.heads, 4);
  EXPECT_EQ(model.kv_heads, 2);
  EXPECT_EQ(model.vocabulary, 10);
  EXPECT_EQ(model.context, 16);
  EXPECT_TRUE(model.tied);
  ASSERT_EQ(model.tensors.size(), 2u + 3 * 9);

  // Offsets counted by hand from llama2.c's order: embedding 80, rms_att 24, wq 192, wk 96, wv 96, wo 192,
  // rms_ffn 24, w1 288, w2 288, w3 288, rms_final 8.
  struct Expected {
    size_t position;
    const char* name;
    std::vector<int64_t> dims;
    float first;
  };
  const Expected cases[] = {
      {0, "model.embed_tokens.weight", {10, 8}, 0},
      {1, "model.layers.0.input_layernorm.weight", {8}, 80},
      {11, "model.layers.1.self_attn.q_proj.weight", {8, 8}, 104 + 64},
      {12, "model.layers.1.self_attn.k_proj.weight", {4, 8}, 296 + 32},
      {22, "model.layers.2.self_attn.v_proj.weight", {4, 8}, 392 + 64},
      {5, "model.layers.0.self_attn.o_proj.weight", {8, 8}, 488},
      {6, "model.layers.0.post_attention_layernorm.weight", {8}, 680},
      {7, "model.layers.0.mlp.gate_proj.weight", {12, 8}, 704},
      {8, "model.layers.0.mlp.down_proj.weight", {8, 12}, 992},
      {27, "model.layers.2.mlp.up_proj.weight", {12, 8}, 1280 + 192},
      {28, "model.norm.weight", {8}, 1568},
  };
  for (const Expected& expected : cases) {
    const NamedTensor& tensor = model.tensors[expected.position];
    EXPECT_EQ(tensor.name, expected.name);
    EXPECT_EQ(tensor.dims, expected.dims) << tensor.name;
    EXPECT_EQ(tensor.data[0], expected.first) << tensor.name;
    int64_t elements = 1;
    for (int64_t dim : tensor.dims) elements *= dim;
    EXPECT_EQ(tensor.data.size(), static_cast<size_t>(elements)) << tensor.name;
  }
}

TEST(Llama2c, NegativeVocabularyMeansAHeadOfItsOwn) {
  auto sizes = kSizes;
  sizes[5] = -10;
  const Llama2cModel model = parse(make_file(sizes, weights_of(sizes)));
  EXPECT_FALSE(model.tied);
  EXPECT_EQ(model.vocabulary, 10);
  EXPECT_EQ(model.tensors.back().name, "lm_head.weight");
  EXPECT_EQ(model.tensors.back().dims, (std::vector<int64_t>{10, 8}));
}

TEST(Llama2c, RefusesEveryOtherLength) {
  const size_t weights = weights_of(kSizes);
  const File file = make_file(kSizes, weights + 1);
  const auto bytes = std::as_bytes(std::span(file));
  const size_t whole = (7 + weights) * sizeof(float);
  for (size_t size = 0; size <= bytes.size(); ++size) {
    if (size == whole) {
      EXPECT_NO_THROW(parse_llama2c(bytes.first(size), "x.bin"));
    } else {
      EXPECT_THROW(parse_llama2c(bytes.first(size), "x.bin"), IoError) << size;
    }
  }
}

TEST(Llama2c, RefusesImpossibleSizes) {
  std::vector<std::array<int32_t, 7>> cases(7, kSizes);
  for (size_t i = 0; i < 7; ++i) {
    for (int32_t bad : {0, INT32_MIN, INT32_MAX}) {
      cases[i] = kSizes;
      cases[i][i] = bad;
      EXPECT_THROW(parse(make_file(cases[i], weights_of(kSizes))), IoError) << i << " " << bad;
    }
  }
  for (const auto& sizes : {std::array<int32_t, 7>{8, 12, 3, 3, 1, 10, 16},  // heads do not divide the width
                            {8, 12, 3, 4, 3, 10, 16},                        // nor key/value heads the heads
                            {4, 12, 3, 4, 2, 10, 16},                        // heads of odd width
                            {1 << 30, 1 << 30, 1 << 30, 1, 1, 10, 16},       // products beyond 64 bits
                            {0x616b3432, 1, 1, 1, 1, 1, 1}}) {               // a later export version
    EXPECT_THROW(parse(make_file(sizes, 100)), IoError);
  }
}

TEST(Llama2c, ErrorsNamePlaceAndByte) {
  try {
    parse(make_file(kSizes, 100));
    FAIL() << "nothing thrown";
  } catch (const IoError& error) {
    EXPECT_STREQ(
        error.what(),
        "[llama2c] x.bin: input_layernorm of dims [3, 8, 1] at byte 348 goes beyond the end at byte 428; the "
        "file is cut off");
  }
}

TEST(Llama2c, MapsFiles) {
  TemporaryFolder folder;
  const File file = make_file(kSizes, weights_of(kSizes));
  write_file_atomically(folder / "x.bin",
                        {reinterpret_cast<const char*>(file.data()), file.size() * sizeof(float)});
  Llama2cModel model = read_llama2c(folder / "x.bin");
  const Llama2cModel moved = std::move(model);
  EXPECT_EQ(moved.tensors.back().data[7], 1575);
  EXPECT_THROW(read_llama2c(folder / "absent"), InputError);
}

TEST(Llama2c, ReadsStories260K) {
  const fs::path path = fs::path(QTF_SHARED_DIR) / "data/stories260K/stories260K.bin";
  if (!fs::exists(path)) GTEST_SKIP() << "skipped: " << path << " is missing";
  const Llama2cModel model = read_llama2c(path);
  EXPECT_EQ(model.width, 64);
  EXPECT_EQ(model.feed_forward, 172);
  EXPECT_EQ(model.layers, 5);
  EXPECT_EQ(model.heads, 8);
  EXPECT_EQ(model.kv_heads, 4);
  EXPECT_EQ(model.vocabulary, 512);
  EXPECT_EQ(model.context, 512);
  EXPECT_TRUE(model.tied);
  size_t parameters = 0;
  for (const NamedTensor& tensor : model.tensors) {
    parameters += tensor.data.size();
    double squares = 0;
    for (float x : tensor.data) squares += double{x} * x;
    const double rms = std::sqrt(squares / static_cast<double>(tensor.data.size()));
    EXPECT_TRUE(rms > 0.01 && rms < 10) << tensor.name << " " << rms;
  }
  EXPECT_EQ(parameters, 260'032u);
}

}  // namespace
}  // namespace qtf::io
