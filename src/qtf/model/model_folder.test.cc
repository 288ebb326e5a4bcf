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
#include "qtf/model/small_model.h"
#include "qtf/text/byte_tokenizer.h"

namespace qtf::model {
namespace {

namespace fs = std::filesystem;

/// The text of the InputError or IoError that `act` throws.
template <class Error>
std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
    return error.what();
  }
  return "no error";
}

void expect_contains(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), std::string::npos) << text << "\nlacks: " << part;
}

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

bool same_config(const ModelConfig& a, const ModelConfig& b) {
  return a.family == b.family && a.vocabulary == b.vocabulary && a.width == b.width && a.layers == b.layers &&
         a.heads == b.heads && a.kv_heads == b.kv_heads && a.feed_forward == b.feed_forward &&
         a.context == b.context && a.tied == b.tied && a.norm_epsilon == b.norm_epsilon &&
         a.rope_theta == b.rope_theta && a.bos_token == b.bos_token && a.eos_token == b.eos_token &&
         a.shapes == b.shapes && a.plan == b.plan && a.quantum == b.quantum;
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

TEST(ConfigJson, GivesBackWhatWasWritten) {
  for (const SmallModel& small : small_models()) {
    ModelConfig config = small_config(small);
    config.norm_epsilon = 1.0 / 3;
    if (small.family == Family::llama) config.rope_theta = 1e6 + 1.0 / 7;
    for (int32_t bos : {-1, 0, 255}) {
      config.bos_token = bos;
      const ConfigFile file = config_from_json(config_to_json(config, "f00d"), "config.json");
      EXPECT_TRUE(same_config(file.config, config)) << small.name;
      EXPECT_EQ(file.tokenizer_fingerprint, "f00d");
    }
  }
  for (const Preset& preset : presets()) {
    const ModelConfig config = preset_config(preset.name);
    EXPECT_TRUE(same_config(config_from_json(config_to_json(config, ""), "x").config, config));
  }
}

TEST(ConfigJson, ReadsForeignConfigurations) {
  const ConfigFile llama = config_from_json(R"({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000, "hidden_size": 288,
    "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-05, "rope_scaling": null, "head_dim": 48,
    "bos_token_id": 1, "eos_token_id": [2, 7], "pad_token_id": -1, "hidden_act": "silu",
    "use_cache": true, "transformers_version": "4.40.0"})",
                                            "config.json");
  EXPECT_EQ(llama.config.family, Family::llama);
  EXPECT_EQ(llama.config.kv_heads, 6);
  EXPECT_EQ(llama.config.rope_theta, 10000);
  EXPECT_FALSE(llama.config.tied);
  EXPECT_EQ(llama.config.bos_token, 1);
  EXPECT_EQ(llama.config.eos_token, 2);
  EXPECT_EQ(llama.tokenizer_fingerprint, "");

  const ConfigFile newer = config_from_json(R"({
    "model_type": "llama", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256, "dtype": "bfloat16",
    "rope_scaling": {"rope_type": "default"}, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}})",
                                            "config.json");
  EXPECT_EQ(newer.config.rope_theta, 5e5);

  const ConfigFile gpt2 = config_from_json(R"({
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "bos_token_id": 50256,
    "eos_token_id": 50256, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768,
    "n_head": 12, "n_inner": null, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257})",
                                           "config.json");
  EXPECT_EQ(gpt2.config.family, Family::gpt2);
  EXPECT_EQ(gpt2.config.feed_forward, 3072);
  EXPECT_TRUE(gpt2.config.tied);
  EXPECT_EQ(gpt2.config.eos_token, 50256);
  EXPECT_EQ(parameter_count(gpt2.config), 124'439'808) << "GPT-2's published size";
}

/// `text` with the first `from` replaced.
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

TEST(ConfigJson, RefusesWhatItDoesNotKnow) {
  const std::string llama = config_to_json(small_config(small_models().front()), "");
  const std::string gpt2 = config_to_json(small_config({"gpt2", Family::gpt2, {}}), "");
  struct Row {
    std::string text;
    const char* expected;
    bool input_error = true;  // else IoError
  };
  const std::vector<Row> rows = {
      {"", "is not valid JSON", false},
      {"{", "is not valid JSON", false},
      {"[1]", "is not a JSON object", false},
      {"{}", "model_type \"\" is not supported; llama and gpt2 are"},
      {replaced(llama, "\"llama\"", "\"mamba\""),
       "model_type \"mamba\" is not supported; llama and gpt2 are"},
      {replaced(llama, "\"llama\"", "7"), "\"model_type\" must be a text", false},
      {replaced(llama, "\"hidden_size\": 16,", ""), "\"hidden_size\" is missing", false},
      {replaced(llama, "\"hidden_size\": 16", "\"hidden_size\": 16.5"), "must be a whole number", false},
      {replaced(llama, "\"hidden_size\": 16", "\"hidden_size\": \"16\""), "must be a whole number", false},
      {replaced(llama, "\"hidden_size\": 16", "\"hidden_size\": 18"), "the nearest that fit"},
      {replaced(llama, "\"hidden_size\": 16", "\"hidden_size\": 18446744073709551600"), "out of range",
       false},
      {replaced(llama, "\"hidden_size\": 16", "\"hidden_size\": -9223372036854775808"), "out of range",
       false},
      {replaced(llama, "\"hidden_size\": 16", "\"hidden_size\": 1e999"), "is not valid JSON", false},
      {replaced(llama, "\"num_attention_heads\": 4", "\"num_attention_heads\": 0"), "heads must be 1 to"},
      {replaced(llama, "1e-05", "\"x\""), "\"rms_norm_eps\" must be a number", false},
      {replaced(llama, "\"silu\"", "\"gelu\""), "\"hidden_act\": \"gelu\" is not supported, only \"silu\""},
      {replaced(llama, "\"attention_bias\": false", "\"attention_bias\": true"), "biases in a llama model"},
      {replaced(llama, "\"mlp_bias\": false", "\"mlp_bias\": 0"), "must be true or false", false},
      {replaced(llama, "\"mlp_bias\"", "\"rope_scaling\": {\"factor\": 2}, \"mlp_bias\""), "rope_scaling"},
      {replaced(llama, "\"mlp_bias\"",
                "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"mlp_bias\""),
       "\"type\": \"linear\" is not supported, only \"default\""},
      {replaced(llama, "\"mlp_bias\"", "\"rope_parameters\": {\"rope_type\": \"llama3\"}, \"mlp_bias\""),
       "\"rope_type\": \"llama3\" is not supported"},
      {replaced(llama, "\"max_position_embeddings\": 24", "\"max_position_embeddings\": 1048577"),
       "context must be 1 to"},
      {replaced(gpt2, "\"gelu_new\"", "\"gelu_new\", \"scale_attn_weights\": false"),
       "attention scores are scaled"},
      {replaced(gpt2, "\"gelu_new\"", "\"gelu_new\", \"scale_attn_by_inverse_layer_idx\": true"),
       "attention scores are scaled"},
      {replaced(llama, "\"mlp_bias\"", "\"head_dim\": 8, \"mlp_bias\""), "head_dim"},
      {replaced(llama, "\"eos_token_id\": 256", "\"eos_token_id\": 257"),
       "must be a token, 0 to 256, or null"},
      {replaced(llama, "\"eos_token_id\": 256", "\"eos_token_id\": -1"), "must be a token"},
      {replaced(llama, "\"eos_token_id\": 256", "\"eos_token_id\": 4294967297"), "must be a token"},
      {replaced(llama, "\"eos_token_id\": 256", "\"eos_token_id\": [\"x\"]"), "must be a whole number",
       false},
      {replaced(llama, "\"format_version\": 1", "\"format_version\": 2"), "use a newer qtf"},
      {replaced(llama, "\"format_version\": 1,", ""), "\"format_version\" is missing", false},
      {replaced(llama, "\"shapes\": {}", "\"shapes\": []"), "\"shapes\" must be an object", false},
      {replaced(llama, "\"shapes\": {}", "\"shapes\": {\"lm_head\": \"dense\"}"), "no map \"lm_head\"",
       false},
      {replaced(llama, "\"shapes\": {}", "\"shapes\": {\"model.embed_tokens\": 4}"), "no map", false},
      {replaced(llama, "\"shapes\": {}", "\"shapes\": {\"model.embed_tokens\": \"chain:rank=99\"}"),
       "rank 99"},
      {replaced(llama, "\"shapes\": {}", "\"shapes\": {\"model.embed_tokens\": \"cain\"}"), "did you mean"},
      {replaced(gpt2, "\"gelu_new\"", "\"relu\""), "\"activation_function\": \"relu\" is not supported"},
      {replaced(gpt2, "\"n_embd\": 16", "\"n_embd\": 9000000000000"), "out of range", false},
  };
  for (const Row& row : rows) {
    const auto read = [&] { config_from_json(row.text, "some/config.json"); };
    const std::string error = row.input_error ? error_of<InputError>(read) : error_of<IoError>(read);
    expect_contains(error, row.expected);
    expect_contains(error, "some/config.json");
  }
  const std::string none = replaced(llama, "\"eos_token_id\": 256", "\"eos_token_id\": []");
  EXPECT_EQ(config_from_json(none, "x").config.eos_token, -1);
}

TEST(ConfigJson, RefusesAPlanThatDoesNotFit) {
  ModelConfig config = small_config(small_models().front());
  apply_shape_requests(config, {"ffn=chain:rank=4"});
  const std::string good = config_to_json(config, "");
  const auto with_plan = [&](const std::string& plan) {
    std::string text = good;
    const std::string key = "\"levels\"";
    return text.insert(text.find(key), "\"plan\": " + plan + ", ");
  };
  const std::string name = "model.layers.1.mlp.up_proj";
  EXPECT_EQ(config_from_json(with_plan("{\"" + name + "\": [1]}"), "c.json").config.plan.at(name),
            std::vector<int>{1});
  for (const auto& row : std::vector<std::pair<std::string, std::string>>{
           {"[1]", "\"plan\" must be an object"},
           {"{\"" + name + "\": 1}", "must be a list"},
           {"{\"" + name + "\": [0]}", "must be 1 to 64, got 0"},
           {"{\"" + name + "\": [1.5]}", "must be 1 to 64, got 1.5"},
           {"{\"" + name + "\": [99999999999]}", "must be 1 to 64, got 99999999999"}})
    expect_contains(error_of<IoError>([&] { config_from_json(with_plan(row.first), "c.json"); }), row.second);
  for (const auto& row : std::vector<std::pair<std::string, std::string>>{
           {"{\"" + name + "\": [2]}", "levels must increase and be 1 to 1"},
           {"{\"" + name + "\": []}", "without a level"},
           {"{\"model.embed_tokens\": [1]}", "no factored map of this model"}})
    expect_contains(error_of<InputError>([&] { config_from_json(with_plan(row.first), "c.json"); }),
                    row.second);
}

TEST(ConfigJson, DepthAndLengthDoNoHarm) {
  const size_t depth = 1'000'000;
  const std::string open(depth, '['), close(depth, ']');
  const auto nested = [&](const std::string& value) {
    return "{\"model_type\": \"x\", \"deep\": " + value + "}";
  };
  EXPECT_THROW(config_from_json(open, "x"), IoError);
  EXPECT_THROW(config_from_json(nested(open + close), "x"), InputError);
  std::string objects;
  for (size_t i = 0; i < depth; ++i) objects += "{\"a\":";
  EXPECT_THROW(config_from_json(nested(objects + "1" + std::string(depth, '}')), "x"), InputError);
  expect_contains(error_of<IoError>([] { config_from_json(std::string((16 << 20) + 1, ' '), "x"); }),
                  "at most");
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
