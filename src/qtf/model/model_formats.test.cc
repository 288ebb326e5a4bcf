#include "qtf/model/model_formats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/base/sha256.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/model/dense_model.h"
#include "qtf/model/generate.h"
#include "qtf/model/small_model.h"
#include "qtf/text/byte_tokenizer.h"

namespace qtf::model {
namespace {

namespace fs = std::filesystem;
using io::TensorType;

// Models of other programs' formats and the logits that they give: make_golden_models.py.
const fs::path kGolden = fs::path(QTF_SOURCE_DIR) / "src/qtf/model/testdata";

/// logits[T][V] of a sequence.
std::vector<std::vector<float>> logits_of(Transformer<float>& model, const std::vector<int32_t>& tokens,
                                          int level = 0) {
  ThreadPool pool(1);
  model.prepare(tt::Use::inference, pool);
  const auto rows = static_cast<int64_t>(tokens.size());
  const int64_t vocabulary = model.config().vocabulary, width = model.config().width;
  std::vector<float> hidden(static_cast<size_t>(rows * width)),
      logits(static_cast<size_t>(rows * vocabulary));
  Arena arena;
  model.hidden_states({tokens, {}, 1, rows}, level, {hidden.data(), rows, width}, arena);
  model.logits(ConstMatrix<float>(hidden.data(), rows, width), level, {logits.data(), rows, vocabulary},
               arena);
  std::vector<std::vector<float>> result;
  for (int64_t row = 0; row < rows; ++row)
    result.emplace_back(logits.begin() + row * vocabulary, logits.begin() + (row + 1) * vocabulary);
  return result;
}

const std::vector<int32_t> kTokens = {1, 17, 3, 39, 17, 5, 22, 0, 38};

double largest(const std::vector<std::vector<float>>& logits) {
  double most = 0;
  for (const auto& row : logits) {
    for (const float x : row) most = std::max(most, std::fabs(double{x}));
  }
  return most;
}

double largest_difference(const std::vector<std::vector<float>>& a,
                          const std::vector<std::vector<float>>& b) {
  double most = 0;
  for (size_t t = 0; t < a.size(); ++t) {
    for (size_t i = 0; i < a[t].size(); ++i) most = std::max(most, std::fabs(double{a[t][i]} - b[t][i]));
  }
  return most;
}

nlohmann::json golden() {
  return nlohmann::json::parse(read_file(kGolden / "logits.json"));
}

TEST(ModelFormats, ForeignModelsGiveTheLogitsOfAnIndependentProgram) {
  const auto expected = golden();
  const auto tokens = expected.at("tokens").get<std::vector<int32_t>>();
  EXPECT_EQ(expected.at("logits").size(), 6u);
  for (const auto& [name, rows] : expected.at("logits").items()) {
    SCOPED_TRACE(name);
    const LoadedModel loaded = load_model(kGolden / name);
    const auto logits = logits_of(*loaded.model, tokens);
    // Sums of up to 48 products through up to 14 maps in single precision, each rounding relative to the
    // largest value on the way.
    const double tolerance = 14 * std::sqrt(48.0) * std::numeric_limits<float>::epsilon() * largest(logits);
    ASSERT_EQ(rows.size(), tokens.size());
    double worst = 0;
    for (size_t t = 0; t < rows.size(); ++t) {
      const size_t stride = logits[t].size() / 40;
      for (size_t i = 0; i < rows[t].size(); ++i)
        worst = std::max(worst, std::fabs(rows[t][i].get<double>() - double{logits[t][i * stride]}));
    }
    EXPECT_LT(worst, tolerance);
  }
}

TEST(ModelFormats, EveryFormatGivesBackTheModelAndItsTokenizer) {
  for (const SmallModel& small : small_models()) {
    Transformer<float> model(small_config(small));
    randomise(model);
    const DenseModel dense = make_dense(model);
    const auto tokenizer = text::make_byte_tokenizer();
    for (const ModelFormat& format : model_formats()) {
      if (!format.load) continue;
      for (const TensorType type : format.types) {
        SCOPED_TRACE(fmt::format("{} as a {} in {}", small.name, format.name, io::info(type).name));
        const TemporaryFolder folder;
        const fs::path path = folder / ("model" + std::string(format.extension));
        Transformer<float>& written = format.dense_only ? *dense.model : model;
        format.save(path, written, tokenizer.get(), type);
        EXPECT_TRUE(format.recognises(path));
        const LoadedModel loaded = load_model(path);
        const auto before = logits_of(written, kTokens), after = logits_of(*loaded.model, kTokens);
        const double bound = type == TensorType::f32    ? 0
                             : type == TensorType::bf16 ? 0.1 * largest(before)
                                                        : 0.05 * largest(before);
        EXPECT_LE(largest_difference(before, after), bound);
        EXPECT_EQ(loaded.model->config().tied, small.tied);
        EXPECT_EQ(loaded.model->config().eos_token, 256);
        EXPECT_EQ(loaded.model->config().bos_token, -1);
        EXPECT_EQ(loaded.model->config().norm_epsilon, written.config().norm_epsilon);
        ASSERT_NE(loaded.tokenizer, nullptr) << loaded.tokenizer_problem;
        EXPECT_EQ(loaded.tokenizer->encode("na\xC3\xAFve\n"), tokenizer->encode("na\xC3\xAFve\n"));
        EXPECT_EQ(loaded.tokenizer->decode(std::vector<int32_t>{72, 105, 256}), "Hi");
      }
    }
  }
}

TEST(ModelFormats, ADenseModelIsTheSameFunction) {
  for (const SmallModel& small : small_models()) {
    if (!small.quantum.empty()) continue;  // which a dense model lacks
    Transformer<float> model(small_config(small));
    randomise(model);
    for (int level = 0; level < level_count(model.config()); ++level) {
      const DenseModel dense = make_dense(model, level);
      EXPECT_TRUE(dense.model->config().shapes.empty());
      const auto expected = logits_of(model, kTokens, level), logits = logits_of(*dense.model, kTokens);
      EXPECT_LT(largest_difference(expected, logits), 1e-4 * largest(expected)) << small.name << " " << level;
      EXPECT_EQ(dense.dropped.empty(), model.config().shapes.empty());
    }
  }
}

TEST(ModelFormats, SaysWhatIsDropped) {
  Transformer<float> model(small_config(small_model("llama_levels")));
  const auto dropped = make_dense(model, 2).dropped;
  ASSERT_EQ(dropped.size(), 2u);
  EXPECT_TRUE(dropped[0].starts_with("7 maps stored as tensor trains: multiplied out, ")) << dropped[0];
  EXPECT_EQ(dropped[1], "nested levels: only level 2 of 4 is kept");
  EXPECT_EQ(make_dense(model).dropped[1], "nested levels: only level 4 of 4 is kept");

  Transformer<float> quantum(small_config(small_model("llama_quantum")));
  const DenseModel without = make_dense(quantum);
  ASSERT_EQ(without.dropped.size(), 1u);
  EXPECT_TRUE(without.dropped[0].starts_with("the quantum layer of block 1 (")) << without.dropped[0];
  EXPECT_FALSE(without.model->config().quantum.has_value());
}

// What llama.cpp made of our files (make_llama_cpp_golden.py): the same bytes, the same greedy text.
TEST(ModelFormats, LlamaCppContinuesAsWeDo) {
  const auto cases = nlohmann::json::parse(read_file(kGolden / "llama_cpp.json"));
  ASSERT_EQ(cases.size(), 6u);
  for (const auto& row : cases) {
    SCOPED_TRACE(row.dump());
    const LoadedModel source = load_model(kGolden / row.at("model").get<std::string>());
    ASSERT_NE(source.tokenizer, nullptr) << source.tokenizer_problem;
    const auto name = row.at("type").get<std::string>();
    const TensorType type = name == "f32"   ? TensorType::f32
                            : name == "f16" ? TensorType::f16
                                            : TensorType::q8_0;
    const TemporaryFolder folder;
    const ModelFormat& format = format_to_write(folder / "x.gguf");
    format.save(folder / "x.gguf", *source.model, source.tokenizer.get(), type);
    Sha256 hash;
    hash.update(read_file(folder / "x.gguf"));
    EXPECT_EQ(hash.hex(), row.at("sha256")) << "the file has changed: let llama.cpp read it again";
    if (type == TensorType::q8_0) continue;  // llama.cpp rounds activations to 8 bits, too
    const LoadedModel loaded = load_model(folder / "x.gguf");
    ThreadPool pool(1);
    loaded.model->prepare(tt::Use::inference, pool);
    GenerateOptions options;
    options.tokens = row.at("tokens");
    options.sampling.temperature = 0;
    EXPECT_EQ(generate(*loaded.model, *loaded.tokenizer, row.at("prompt").get<std::string>(), options).text,
              row.at("text"));
  }
}

TEST(ModelFormats, TakesTheFormatFromTheName) {
  EXPECT_EQ(format_to_write("a/b.gguf").name, "GGUF file");
  EXPECT_EQ(format_to_write("a/b").name, "model folder");
  EXPECT_EQ(format_to_write("a/b-1.5").name, "model folder");
  EXPECT_THROW(format_to_write("a/b.bin"), InputError);
  EXPECT_EQ(readable_formats(), "a model folder, a GGUF file or a llama2.c .bin");
}

TEST(ModelFormats, SaysWhyAPathIsNoModel) {
  const TemporaryFolder folder;
  const auto error_of = [&](const char* name) -> std::string {
    try {
      load_model(folder / name);
      return "no error";
    } catch (const InputError& error) {
      return error.what();
    }
  };
  write_file_atomically(folder / "notes.txt", "hello");
  write_file_atomically(folder / "x.safetensors", "hello");
  EXPECT_NE(error_of("nowhere").find("there is no such"), std::string::npos);
  EXPECT_NE(error_of("notes.txt").find("is not a model folder, a GGUF file or a llama2.c .bin"),
            std::string::npos);
  EXPECT_NE(error_of("x.safetensors").find("give the folder"), std::string::npos);
  fs::create_directory(folder / "empty");
  EXPECT_NE(error_of("empty").find("has no config.json"), std::string::npos);
  fs::copy(kGolden / "llama.gguf", folder / "named-otherwise");
  EXPECT_EQ(error_of("named-otherwise"), "no error") << "known by its first bytes";
}

}  // namespace
}  // namespace qtf::model
