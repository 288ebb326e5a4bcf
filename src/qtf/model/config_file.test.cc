#include "qtf/model/config_file.h"

#include <gtest/gtest.h>

#include <map>

#include "qtf/base/error.h"
#include "qtf/model/folder_test.h"
#include "qtf/model/small_model.h"

namespace qtf::model {
namespace {

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

}  // namespace
}  // namespace qtf::model
