#include "qtf/model/quantized_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/model/config_file.h"
#include "qtf/model/folder_test.h"
#include "qtf/model/inference.h"
#include "qtf/model/model_folder.h"
#include "qtf/model/small_model.h"
#include "qtf/text/byte_tokenizer.h"

namespace qtf::model {
namespace {

namespace fs = std::filesystem;

const Coding kCodings[] = {{CodeType::f16},
                           {CodeType::int8},
                           {CodeType::int8, Coding::kWholeRow},
                           {CodeType::int4},
                           {CodeType::int4, 4}};

/// Logits of a short text at a level, by two workers, in pieces of 4 and 1 tokens.
std::vector<float> logits_of(Transformer<float>& model, int level) {
  ThreadPool pool(2);
  model.prepare(tt::Use::inference, pool);
  Inference<float> inference(model, pool, {.macs_per_worker = 1});
  const std::vector<int32_t> tokens = {1, 200, 37, 256, 37};
  const int64_t width = model.config().width, vocabulary = model.config().vocabulary;
  std::vector<float> hidden(static_cast<size_t>(5 * width)), logits(static_cast<size_t>(5 * vocabulary));
  auto cache = model.make_cache(model.config().context);
  for (const Range piece : {Range{0, 4}, Range{4, 5}}) {
    const auto rows = static_cast<size_t>(piece.size());
    const Chunk<float> chunk{std::span(tokens).subspan(static_cast<size_t>(piece.begin), rows), &cache};
    const Matrix<float> to(hidden.data() + piece.begin * width, piece.size(), width);
    inference.forward({&chunk, 1}, level, to);
    inference.logits(to, level, {logits.data() + piece.begin * vocabulary, piece.size(), vocabulary});
  }
  return logits;
}

std::vector<float> numbers_of(const Transformer<float>& model) {
  return {model.parameters().begin(), model.parameters().end()};
}

/// A model of random weights, and the same with its cores as codes.
struct Pair {
  explicit Pair(const SmallModel& small, const Coding& coding)
      : floats(small_config(small)), quantized(small_config(small)) {
    randomise(floats), randomise(quantized);
    const std::span<const float> values = std::as_const(floats).parameters();
    quantized.set_codes(quantize(floats.layout(), values, coding));
    // The reference: the codes' numbers as floats, merged nowhere.
    floats.set_plan({});
    decode(*quantized.codes(), floats.layout(), floats.parameters());
  }
  Transformer<float> floats, quantized;
};

TEST(QuantizedWeights, AModelHasTheBitsOfItsCodesNumbers) {
  for (const SmallModel& small : small_models())
    for (const Coding& coding : kCodings) {
      SCOPED_TRACE(small.name + " as " + to_string(coding));
      Pair pair(small, coding);
      for (int level = 0; level <= level_count(pair.floats.config()); ++level)
        EXPECT_EQ(logits_of(pair.quantized, level), logits_of(pair.floats, level));
      EXPECT_NE(pair.quantized.codes(), nullptr);
      EXPECT_EQ(numbers_of(pair.quantized), numbers_of(pair.floats));
    }
}

TEST(QuantizedWeights, WhoMayChangeTheNumbersGetsAModelOfFloats) {
  Pair pair(small_models()[4], {CodeType::int8});
  const std::vector<float> before = logits_of(pair.quantized, 0);
  pair.quantized.parameters()[pair.quantized.layout().maps[1].offset] += 1;
  EXPECT_EQ(pair.quantized.codes(), nullptr);
  EXPECT_NE(logits_of(pair.quantized, 0), before);
  pair.quantized.set_codes(quantize(pair.floats.layout(), pair.floats.parameters(), {CodeType::int8}));
  ThreadPool pool(1);
  pair.quantized.prepare(tt::Use::training, pool);
  EXPECT_EQ(pair.quantized.codes(), nullptr) << "it trains as floats";
}

/// A folder of a quantized model.
struct SavedCodes {
  explicit SavedCodes(const SmallModel& small, const Coding& coding) : pair(small, coding) {
    save_quantized_folder(path(), pair.quantized, text::make_byte_tokenizer().get());
  }
  fs::path path() const { return folder / "model"; }
  fs::path file(const char* name) const { return path() / name; }

  TemporaryFolder folder;
  Pair pair;
};

TEST(QuantizedWeights, FilesGiveBackTheCodes) {
  for (const SmallModel& small : small_models())
    for (const Coding& coding : kCodings) {
      SCOPED_TRACE(small.name + " as " + to_string(coding));
      SavedCodes saved(small, coding);
      const LoadedModel loaded = load_model(saved.path());
      ASSERT_NE(loaded.model->codes(), nullptr);
      EXPECT_EQ(loaded.model->codes()->coding, coding);
      EXPECT_TRUE(same_config(loaded.model->config(), saved.pair.quantized.config()));
      EXPECT_EQ(logits_of(*loaded.model, 0), logits_of(saved.pair.floats, 0));
      EXPECT_EQ(numbers_of(*loaded.model), numbers_of(saved.pair.floats));
      int64_t bytes = quantized_bytes(loaded.model->layout(), coding);
      for (const Parameter& p : parameters_beside_cores(loaded.model->layout())) bytes += 4 * p.size;
      EXPECT_GE(loaded.bytes, bytes);
      EXPECT_LT(loaded.bytes, bytes + 200 * 64) << "a header of at most 200 bytes a tensor";
    }
}

TEST(QuantizedWeights, MappedCodesOutliveTheirFile) {
  SavedCodes saved(small_models()[4], {CodeType::int4});
  const LoadedModel loaded = load_model(saved.path());
  fs::remove_all(saved.path());
  EXPECT_EQ(logits_of(*loaded.model, 0), logits_of(saved.pair.floats, 0));
}

TEST(QuantizedWeights, FloatsAreWrittenWhereFloatsAreAskedFor) {
  SavedCodes saved(small_models()[4], {CodeType::int8});
  const LoadedModel loaded = load_model(saved.path());
  save_folder(saved.folder / "floats", *loaded.model, loaded.tokenizer.get());
  const LoadedModel floats = load_model(saved.folder / "floats");
  EXPECT_EQ(floats.model->codes(), nullptr);
  EXPECT_EQ(logits_of(*floats.model, 0), logits_of(saved.pair.floats, 0));
}

TEST(QuantizedWeights, WordsForCodings) {
  EXPECT_EQ(parse_coding("int8", "32", "--block"), (Coding{CodeType::int8, 32}));
  EXPECT_EQ(parse_coding("int4", "row", "--block"), (Coding{CodeType::int4, Coding::kWholeRow}));
  EXPECT_EQ(parse_coding("f16", "row", "--block").type, CodeType::f16);
  const auto error = [](const char* type, const char* block) {
    return error_of<InputError>([&] { parse_coding(type, block, "--block"); });
  };
  expect_contains(error("int7", "32"), "there is no type 'int7' of codes; there are f16, int8, int4");
  for (const char* block : {"0", "1", "33", "65538"})
    expect_contains(error("int8", block),
                    "a block is an even number of weights, 2 to 65536, or \"row\", got");
  for (const char* block : {"rows", "-2", ""}) expect_contains(error("int8", block), "--block");
}

TEST(QuantizedWeights, NumbersBeyondHalvesAreNamed) {
  Pair pair(small_models()[4], {CodeType::int8});
  const CorePlace core = core_places(pair.floats.layout().maps[3]).front();
  pair.floats.parameters()[core.offset] = 1e30F;
  expect_contains(error_of<InputError>(
                      [&] { quantize(pair.floats.layout(), pair.floats.parameters(), {CodeType::f16}); }),
                  core.name);
}

/// A file with one tensor changed: left out, of another size, of other bytes.
void rewrite(const fs::path& path, const std::string& tensor, const std::string& change) {
  const fs::path copy = path.string() + ".before";
  fs::rename(path, copy);
  const io::SafetensorsFile file(copy);
  io::SafetensorsWriter writer;
  std::vector<std::byte> changed;
  for (const io::TensorInfo& info : file.tensors()) {
    std::span<const std::byte> bytes = file.bytes(info);
    std::vector<int64_t> dims = info.dims;
    io::DType dtype = info.dtype;
    if (info.name == tensor) {
      if (change == "missing") continue;
      changed.assign(bytes.begin(), bytes.end());
      if (change == "infinite") changed[0] = std::byte{0}, changed[1] = std::byte{0x7C};
      if (change == "shorter") changed.resize(changed.size() / static_cast<size_t>(dims[0])), dims[0] = 1;
      if (change == "other type") dtype = io::DType::boolean;
      bytes = changed;
    }
    writer.add_bytes(dtype, info.name, dims, bytes);
  }
  if (change == "extra") writer.add_owned(tensor, {1}, {0.F});
  writer.write(path);
}

TEST(QuantizedWeights, DamagedFilesAreRefused) {
  struct Row {
    const char *tensor, *change, *said;
  };
  const Row rows[] = {
      {"model.layers.0.mlp.up_proj.core.0", "missing",
       "there is no tensor model.layers.0.mlp.up_proj.core.0"},
      {"model.layers.0.mlp.up_proj.core.0.scale", "missing", "there is no tensor model.layers.0.mlp.up_proj"},
      {"model.layers.0.mlp.up_proj.core.0", "shorter", "is I8 [1, 7], config.json asks for I8 [20, 7]"},
      {"model.layers.0.mlp.up_proj.core.0.scale", "shorter",
       "is F16 [1, 1], config.json asks for F16 [20, 1]"},
      {"model.layers.0.mlp.up_proj.core.0", "other type", "is BOOL [20, 7], config.json asks for I8 [20, 7]"},
      {"model.layers.0.mlp.up_proj.core.0.scale", "infinite", "holds inf at element 0; the model is damaged"},
      {"model.layers.0.mlp.up_proj.core.9", "extra", "a tensor model.layers.0.mlp.up_proj.core.9 that"},
  };
  for (const Row& row : rows) {
    SavedCodes saved(small_models()[4], {CodeType::int8});
    rewrite(saved.file("model.safetensors"), row.tensor, row.change);
    expect_contains(error_of<IoError>([&] { load_model(saved.path()); }), row.said);
  }
  SavedCodes saved(small_models()[4], {CodeType::int4});
  const fs::path file = saved.file("model.safetensors");
  fs::resize_file(file, fs::file_size(file) - 100);
  expect_contains(error_of<IoError>([&] { load_model(saved.path()); }), "model.safetensors");
}

TEST(QuantizedWeights, ConfigurationsThatDoNotFitAreRefused) {
  const ModelConfig config = small_config(small_models()[4]);
  const std::string good = config_to_json(config, "", io::DType::f32, Coding{CodeType::int8});
  EXPECT_EQ(config_from_json(good, "c.json").quantization, Coding{CodeType::int8});
  const auto said = [&](const std::string& from, const std::string& to) {
    return error_of<InputError>([&] { config_from_json(replaced(good, from, to), "c.json"); });
  };
  expect_contains(said("\"int8\"", "\"int3\""), "there is no type 'int3'");
  expect_contains(said("\"block\": 32", "\"block\": 31"), "a block is an even number");
  expect_contains(said("\"block\": 32", "\"block\": \"rows\""), "rows");
  const std::string plan = R"("plan": {"model.layers.0.mlp.up_proj": [1]}, "shapes")";
  expect_contains(said("\"shapes\"", plan), "a quantized model has no merged matrices");
  EXPECT_THROW(config_from_json(replaced(good, "\"block\": 32", "\"block\": true"), "c.json"), IoError);
}

}  // namespace
}  // namespace qtf::model
