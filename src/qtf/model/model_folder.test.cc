#include "qtf/model/model_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/io/safetensors.h"
#include "qtf/model/folder_test.h"
#include "qtf/model/small_model.h"
#include "qtf/text/byte_tokenizer.h"

namespace qtf::model {
namespace {

namespace fs = std::filesystem;

std::vector<float> logits_of(Transformer<float>& model) {
  ThreadPool pool(1);
  model.prepare(tt::Use::inference, pool);
  const std::vector<int32_t> tokens = {1, 200, 37, 256, 37};
  const auto vocabulary = model.config().vocabulary, width = model.config().width;
  std::vector<float> hidden(static_cast<size_t>(5 * width)), logits(static_cast<size_t>(5 * vocabulary));
  Arena arena;
  model.hidden_states({tokens, {}, 1, 5}, 0, {hidden.data(), 5, width}, arena);
  model.logits(ConstMatrix<float>(hidden.data(), 5, width), 0, {logits.data(), 5, vocabulary}, arena);
  return logits;
}

/// A folder with a saved model of random weights.
struct Saved {
  explicit Saved(const SmallModel& small = small_models().front()) : model(small_config(small)) {
    randomise(model);
    save_description(path(), model.config(), *text::make_byte_tokenizer());
    save_weights(path(), model.layout(), model.parameters());
  }
  fs::path path() const { return folder / "model"; }
  fs::path file(const char* name) const { return path() / name; }

  TemporaryFolder folder;
  Transformer<float> model;
};

TEST(ModelFolder, GivesBackWhatWasSavedBitForBit) {
  for (const SmallModel& small : small_models()) {
    Saved saved(small);
    EXPECT_TRUE(is_model_folder(saved.path()));
    const LoadedModel loaded = load_model(saved.path());
    EXPECT_TRUE(same_config(loaded.model->config(), saved.model.config())) << small.name;
    ASSERT_EQ(loaded.model->parameters().size(), saved.model.parameters().size());
    EXPECT_TRUE(std::equal(loaded.model->parameters().begin(), loaded.model->parameters().end(),
                           saved.model.parameters().begin()))
        << small.name;
    EXPECT_EQ(logits_of(*loaded.model), logits_of(saved.model)) << small.name;
    ASSERT_NE(loaded.tokenizer, nullptr);
    EXPECT_EQ(loaded.tokenizer->fingerprint(), text::make_byte_tokenizer()->fingerprint());
    EXPECT_EQ(loaded.bytes, static_cast<int64_t>(fs::file_size(saved.file("model.safetensors"))));
    EXPECT_GE(loaded.bytes, 4 * saved.model.layout().size);
  }
}

TEST(ModelFolder, ADescriptionAloneLoadsWithoutWeights) {
  Saved saved;
  fs::remove(saved.file("model.safetensors"));
  const LoadedModel loaded = load_description(saved.path());
  EXPECT_TRUE(same_config(loaded.model->config(), saved.model.config()));
  EXPECT_EQ(loaded.model->parameters()[0], 0);
  expect_contains(error_of<InputError>([&] { load_model(saved.path()); }), "model.safetensors");
}

/// Rewrites a model's weights after `change`.
using Tensors = std::map<std::string, std::pair<std::vector<int64_t>, std::vector<float>>>;

void rewrite(const fs::path& path, const std::function<void(Tensors&)>& change) {
  Tensors tensors;
  {
    const io::SafetensorsFile file(path);
    for (const io::TensorInfo& info : file.tensors())
      tensors[info.name] = {info.dims, file.read<float>(info)};
  }
  change(tensors);
  io::SafetensorsWriter writer;
  for (const auto& [name, tensor] : tensors) writer.add(name, tensor.first, tensor.second);
  writer.write(path);
}

TEST(ModelFolder, UnderstandsForeignTensors) {
  struct Row {
    Family family;
    std::function<void(Tensors&)> change;
  };
  const auto without = [](const std::string& prefix) {
    return [prefix](Tensors& tensors) {
      Tensors renamed;
      for (auto& [name, tensor] : tensors)
        renamed[name.starts_with(prefix) ? name.substr(prefix.size()) : name] = std::move(tensor);
      tensors = std::move(renamed);
    };
  };
  const std::vector<Row> rows = {
      {Family::gpt2, without("transformer.")},
      {Family::llama, without("model.")},
      {Family::gpt2,
       [](Tensors& t) {
         t["transformer.h.0.attn.bias"] = {{1, 1, 2, 2}, {1, 0, 1, 1}};
         t["h.1.attn.bias"] = {{1, 1, 2, 2}, {1, 0, 1, 1}};
         t["transformer.h.0.attn.masked_bias"] = {{}, {-10000}};
         t["lm_head.weight"] = {{1, 2}, {1, 2}};
       }},
      {Family::llama,
       [](Tensors& t) {
         t["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{2}, {1, 0.1f}};
         t["lm_head.weight"] = t["model.embed_tokens.weight"];
       }},
  };
  for (const Row& row : rows) {
    Saved saved({"foreign", row.family, {}});
    rewrite(saved.file("model.safetensors"), row.change);
    const LoadedModel loaded = load_model(saved.path());
    EXPECT_TRUE(std::equal(loaded.model->parameters().begin(), loaded.model->parameters().end(),
                           saved.model.parameters().begin()));
  }
}

TEST(ModelFolder, StoresGpt2sMatricesAsConv1dDoes) {
  Saved saved({"gpt2", Family::gpt2, {}});
  const io::SafetensorsFile file(saved.file("model.safetensors"));
  const io::TensorInfo& info = file.at("transformer.h.0.mlp.c_fc.weight");
  EXPECT_EQ(info.dims, (std::vector<int64_t>{16, 20}));
  const auto stored = file.read<float>(info);
  const int64_t offset = saved.model.layout().find(info.name).offset;
  for (size_t out = 0; out < 20; ++out) {
    for (size_t in = 0; in < 16; ++in)
      EXPECT_EQ(stored[in * 20 + out], saved.model.parameters()[static_cast<size_t>(offset) + out * 16 + in]);
  }
}

TEST(ModelFolder, RefusesDamagedWeights) {
  const char* const kNorm = "model.norm.weight";
  const std::vector<std::pair<std::function<void(Tensors&)>, const char*>> rows = {
      {[&](Tensors& t) { t.erase(kNorm); }, kNorm},
      {[&](Tensors& t) {
         t["model.extra.weight"] = {{1}, {1}};
       },
       "model.extra.weight"},
      {[&](Tensors& t) {
         t["lm_head.weight"] = {{1}, {1}}, t["surplus"] = {{1}, {1}};
       },
       "surplus"},
      {[&](Tensors& t) {
         t[kNorm] = {{8}, std::vector<float>(8)};
       },
       "[8], config.json asks for [16]"},
      {[&](Tensors& t) {
         t[kNorm].first = {16, 1};
       },
       "[16, 1], config.json asks for [16]"},
      {[&](Tensors& t) { t[kNorm].second[3] = std::nanf(""); }, "model.norm.weight holds nan at element 3"},
      {[&](Tensors& t) { t[kNorm].second[0] = -std::numeric_limits<float>::infinity(); }, "holds -inf"},
  };
  for (const auto& [change, expected] : rows) {
    Saved saved;
    rewrite(saved.file("model.safetensors"), change);
    const std::string error = error_of<IoError>([&] { load_model(saved.path()); });
    expect_contains(error, expected);
    expect_contains(error, "model.safetensors");
  }
}

TEST(ModelFolder, TheHeadOfAnUntiedModelIsNotIgnored) {
  Saved saved({"untied", Family::llama, {"head=chain:rank=4"}, false});
  rewrite(saved.file("model.safetensors"), [](Tensors& t) { t["lm_head.weight"] = {{1}, {1}}; });
  expect_contains(error_of<IoError>([&] { load_model(saved.path()); }), "lm_head.weight");
}

TEST(ModelFolder, RefusesATruncatedFile) {
  Saved saved;
  const fs::path path = saved.file("model.safetensors");
  const std::string whole = read_file(path);
  for (size_t size : {size_t{0}, size_t{4}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    write_file_atomically(path, whole.substr(0, size));
    EXPECT_THROW(load_model(saved.path()), IoError) << size;
  }
}

TEST(ModelFolder, RefusesATokenizerThatIsNotTheModels) {
  {
    Saved saved;
    const fs::path config = saved.file("config.json");
    const std::string fingerprint = text::make_byte_tokenizer()->fingerprint();
    write_file_atomically(config, replaced(read_file(config), fingerprint, std::string(64, '0')));
    expect_contains(error_of<InputError>([&] { load_model(saved.path()); }), "put the original back");
    fs::remove(saved.file("tokenizer_config.json"));
    expect_contains(error_of<InputError>([&] { load_model(saved.path()); }), "no tokenizer in");
    write_file_atomically(config, replaced(read_file(config), std::string(64, '0'), ""));
    EXPECT_EQ(load_model(saved.path()).tokenizer, nullptr) << "none recorded, none needed";
  }
  const TemporaryFolder folder;
  ModelConfig small = small_config(small_models().front());
  small.vocabulary = 256, small.eos_token = -1;
  save_description(folder.path(), small, *text::make_byte_tokenizer());
  expect_contains(error_of<InputError>([&] { load_description(folder.path()); }),
                  "the tokenizer has 257 tokens, the model 256");
}

TEST(ModelFolder, RefusesWhatIsNoModel) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "notes.txt", "text");
  fs::create_directories(folder / "empty");
  const std::vector<std::pair<fs::path, const char*>> rows = {
      {folder / "absent", "there is no such model folder or file"},
      {folder / std::string(5000, 'x'), "there is no such model folder or file"},
      {folder / "notes.txt", "is not a model folder, a GGUF file or a llama2.c .bin"},
      {folder / "empty", "it has no config.json"},
  };
  for (const auto& [path, expected] : rows) {
    EXPECT_FALSE(is_model_folder(path));
    expect_contains(error_of<InputError>([&, &p = path] { load_model(p); }), expected);
  }
  EXPECT_THROW(load_description(folder / "absent"), InputError);
  write_file_atomically(folder / "empty/config.json", "");
  expect_contains(error_of<IoError>([&] { load_model(folder / "empty"); }), "is not valid JSON");
}

TEST(ModelFolder, SaysWhereItCannotWrite) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "file", "text");
  const ModelConfig config = small_config(small_models().front());
  EXPECT_THROW(save_description(folder / "file", config, *text::make_byte_tokenizer()), IoError);
  const Transformer<float> model(config);
  EXPECT_THROW(save_weights(folder / "absent", model.layout(), model.parameters()), IoError);
}

}  // namespace
}  // namespace qtf::model
