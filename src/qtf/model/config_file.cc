#include "qtf/model/config_file.h"

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/model/quantized_weights.h"
#include "qtf/model/rank_policy.h"

namespace qtf::model {

using nlohmann::ordered_json;

namespace {

constexpr int kFormatVersion = 1;

constexpr int kMostLevels = 64;  // beyond any model's

// Beyond any real config.json, and small enough to parse whatever it holds.
constexpr size_t kMaxConfigBytes = size_t{16} << 20;

// Beyond any size, and small enough that sizes can be multiplied before validate() sees them.
constexpr int64_t kMaxInteger = int64_t{1} << 40;

ordered_json token_or_null(int32_t token) {
  return token >= 0 ? ordered_json(token) : ordered_json(nullptr);
}

ordered_json llama_json(const ModelConfig& c) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", c.vocabulary},
          {"hidden_size", c.width},
          {"intermediate_size", c.feed_forward},
          {"num_hidden_layers", c.layers},
          {"num_attention_heads", c.heads},
          {"num_key_value_heads", c.kv_heads},
          {"max_position_embeddings", c.context},
          {"rms_norm_eps", c.norm_epsilon},
          {"rope_theta", c.rope_theta},
          {"tie_word_embeddings", c.tied},
          {"hidden_act", "silu"},
          {"attention_bias", false},
          {"mlp_bias", false}};
}

ordered_json gpt2_json(const ModelConfig& c) {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"vocab_size", c.vocabulary},
          {"n_embd", c.width},
          {"n_inner", c.feed_forward},
          {"n_layer", c.layers},
          {"n_head", c.heads},
          {"n_positions", c.context},
          {"layer_norm_epsilon", c.norm_epsilon},
          {"tie_word_embeddings", c.tied},
          {"activation_function", "gelu_new"}};
}

/// Typed access to a JSON object whose errors name the file and key.
class Reader {
 public:
  Reader(const ordered_json& json, std::string place) : json_(json), place_(std::move(place)) {
    if (!json.is_object()) throw_io_error(place_, "is not a JSON object");
  }

  int64_t integer(const char* key) const { return whole_number(key, required(key)); }
  int64_t integer(const char* key, int64_t otherwise) const { return has(key) ? integer(key) : otherwise; }
  /// A token id, or -1 for null, for no such key and for an empty list. Of a list the first.
  int32_t token(const char* key, int64_t vocabulary) const {
    if (!has(key)) return -1;
    const ordered_json* value = &json_.at(key);
    if (value->is_array()) {
      if (value->empty()) return -1;
      value = &value->front();
    }
    const int64_t id = whole_number(key, *value);
    if (id < 0 || id >= vocabulary) {
      throw_input_error(place_, "\"{}\" must be a token, 0 to {}, or null, got {}", key, vocabulary - 1, id);
    }
    return static_cast<int32_t>(id);
  }
  double number(const char* key, double otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_.at(key).is_number()) throw_io_error(place_, "\"{}\" must be a number", key);
    return json_.at(key).get<double>();
  }
  bool boolean(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_.at(key).is_boolean()) throw_io_error(place_, "\"{}\" must be true or false", key);
    return json_.at(key).get<bool>();
  }
  std::string text(const char* key, const std::string& otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_.at(key).is_string()) throw_io_error(place_, "\"{}\" must be a text", key);
    return json_.at(key).get<std::string>();
  }
  void expect_text(const char* key, const std::string& expected) const {
    const std::string found = text(key, expected);
    if (found != expected)
      throw_input_error(place_, "\"{}\": \"{}\" is not supported, only \"{}\"", key, found, expected);
  }
  /// The object under `key`.
  Reader object(const char* key) const { return {required(key), place_ + ": \"" + key + "\""}; }
  bool has(const char* key) const { return json_.contains(key) && !json_.at(key).is_null(); }
  const std::string& place() const { return place_; }

 private:
  int64_t whole_number(const char* key, const ordered_json& value) const {
    if (!value.is_number_integer()) throw_io_error(place_, "\"{}\" must be a whole number", key);
    const bool fits = value.is_number_unsigned() ? value.get<uint64_t>() <= kMaxInteger
                                                 : value.get<int64_t>() >= -kMaxInteger;
    if (!fits) throw_io_error(place_, "\"{}\" is out of range: {}", key, value.dump());
    return value.get<int64_t>();
  }
  const ordered_json& required(const char* key) const {
    if (!has(key)) throw_io_error(place_, "\"{}\" is missing", key);
    return json_.at(key);
  }
  const ordered_json& json_;
  std::string place_;
};

/// Only unscaled positions: an object that says nothing else than "default", under either name of the key.
void expect_unscaled(const Reader& rope) {
  for (const char* key : {"rope_type", "type"}) rope.expect_text(key, "default");
  if (!rope.has("rope_type") && !rope.has("type")) throw_input_error(rope.place(), "is not supported");
}

/// Newer files put the base into an object of its own.
double read_rope_theta(const Reader& r) {
  if (!r.has("rope_parameters")) return r.number("rope_theta", 10000);
  const Reader parameters = r.object("rope_parameters");
  expect_unscaled(parameters);
  return parameters.number("rope_theta", r.number("rope_theta", 10000));
}

ModelConfig read_llama(const Reader& r) {
  ModelConfig c;
  c.family = Family::llama;
  c.vocabulary = r.integer("vocab_size");
  c.width = r.integer("hidden_size");
  c.feed_forward = r.integer("intermediate_size");
  c.layers = r.integer("num_hidden_layers");
  c.heads = r.integer("num_attention_heads");
  c.kv_heads = r.integer("num_key_value_heads", c.heads);
  c.context = r.integer("max_position_embeddings");
  c.norm_epsilon = r.number("rms_norm_eps", 1e-6);
  c.rope_theta = read_rope_theta(r);
  c.tied = r.boolean("tie_word_embeddings", false);
  r.expect_text("hidden_act", "silu");
  if (r.boolean("attention_bias", false) || r.boolean("mlp_bias", false)) {
    throw_input_error(r.place(), "biases in a llama model are not supported");
  }
  if (r.has("rope_scaling")) expect_unscaled(r.object("rope_scaling"));
  if (c.heads > 0 && r.integer("head_dim", c.width / c.heads) != c.width / c.heads) {
    throw_input_error(r.place(),
                      "a \"head_dim\" other than hidden_size / num_attention_heads is not supported");
  }
  return c;
}

ModelConfig read_gpt2(const Reader& r) {
  ModelConfig c;
  c.family = Family::gpt2;
  c.vocabulary = r.integer("vocab_size");
  c.width = r.integer("n_embd");
  c.feed_forward = r.integer("n_inner", 4 * c.width);
  c.layers = r.integer("n_layer");
  c.heads = r.integer("n_head");
  c.kv_heads = c.heads;
  c.context = r.integer("n_positions");
  c.norm_epsilon = r.number("layer_norm_epsilon", 1e-5);
  c.tied = r.boolean("tie_word_embeddings", true);
  r.expect_text("activation_function", "gelu_new");
  if (!r.boolean("scale_attn_weights", true) || r.boolean("scale_attn_by_inverse_layer_idx", false)) {
    throw_input_error(r.place(),
                      "attention scores are scaled in a way that is not supported, only by the "
                      "square root of the head's width (\"scale_attn_weights\": true, "
                      "\"scale_attn_by_inverse_layer_idx\": false)");
  }
  return c;
}

/// Sizes and shapes that do not fit are the file's fault: its name goes before what `act` throws.
template <class Act>
auto naming_file(const std::string& place, const Act& act) {
  try {
    return act();
  } catch (const InputError& error) {
    throw_input_error(place, "{}", error.what());
  }
}

ordered_json quantum_json(const QuantumConfig& q) {
  return {
      {"qubits", q.circuit.qubits}, {"layers", q.circuit.layers}, {"ansatz", nn::info(q.circuit.kind).name},
      {"fraction", q.fraction()},   {"train", q.train},           {"routing", to_string(q.routing)}};
}

QuantumConfig read_quantum(const Reader& r) {
  QuantumConfig q;
  const auto size = [&](const char* key) {
    return static_cast<int>(
        std::clamp<int64_t>(r.integer(key), -1, 1 << 20));  // validate() says what is too much
  };
  q.circuit = {naming_file(r.place(), [&] { return nn::parse_inner_kind(r.text("ansatz", "strongly")); }),
               size("qubits"), size("layers")};
  q.fraction_ppm = fraction_to_ppm(r.number("fraction", -1), r.place());
  q.train = r.boolean("train", true);
  q.routing = parse_routing(r.text("routing", "gate"), r.place());
  validate(q, r.place());
  return q;
}

ordered_json quantization_json(const Coding& coding) {
  ordered_json json = {{"dtype", name(coding.type)}};
  if (!coding.scaled()) return json;
  if (coding.block == Coding::kWholeRow)
    json["block"] = block_name(coding);
  else
    json["block"] = coding.block;
  return json;
}

Coding read_quantization(const Reader& r, const ordered_json& json) {
  const bool number = r.has("block") && json.at("block").is_number();
  return parse_coding(r.text("dtype", ""),
                      number ? std::to_string(r.integer("block")) : r.text("block", "32"), r.place());
}

/// Names and levels are checked with the shapes, by validate().
std::map<std::string, std::vector<int>> read_plan(const ordered_json& json, const std::string& place) {
  if (!json.is_object()) throw_io_error(place, "\"plan\" must be an object");
  std::map<std::string, std::vector<int>> plan;
  for (const auto& [name, levels] : json.items()) {
    if (!levels.is_array()) throw_io_error(place, "\"plan\": the levels of \"{}\" must be a list", name);
    plan[name];
    for (const ordered_json& level : levels) {
      if (!level.is_number_integer() || level < 1 || level > kMostLevels)
        throw_io_error(place, "\"plan\": a level of \"{}\" must be 1 to {}, got {}", name, kMostLevels,
                       level.dump());
      plan[name].push_back(level.get<int>());
    }
  }
  return plan;
}

void read_qtf_block(const ordered_json& json, const std::string& place, ConfigFile& file) {
  const Reader reader(json, place + ": \"qtf\"");
  const int64_t version = reader.integer("format_version");
  if (version != kFormatVersion) {
    throw_input_error(place, "format_version {} is not supported by this qtf (it reads {}); use a newer qtf",
                      version, kFormatVersion);
  }
  file.tokenizer_fingerprint = reader.text("tokenizer_fingerprint", "");
  if (reader.has("quantum")) file.config.quantum = read_quantum(reader.object("quantum"));
  if (reader.has("quantization"))
    file.quantization = read_quantization(reader.object("quantization"), json.at("quantization"));
  if (reader.has("plan")) file.config.plan = read_plan(json.at("plan"), place);
  if (reader.has("rank_policy"))
    file.config.rank_policy = rank_policy_from_json(json.at("rank_policy"), place);
  if (!reader.has("shapes")) return;
  if (!json.at("shapes").is_object()) throw_io_error(place, "\"shapes\" must be an object");
  const std::vector<MapSpec> maps = linear_maps(file.config);
  for (const auto& [name, text] : json.at("shapes").items()) {
    const auto map =
        std::find_if(maps.begin(), maps.end(), [&, &n = name](const MapSpec& m) { return m.name == n; });
    if (map == maps.end() || !text.is_string())
      throw_io_error(place, "\"shapes\": the model has no map \"{}\"", name);
    file.config.shapes[name] = naming_file(
        place, [&, &t = text] { return tt::parse_shape(t.get<std::string>(), map->out, map->in); });
  }
}

std::string_view torch_name(io::DType dtype) {
  if (dtype == io::DType::f16) return "float16";
  return dtype == io::DType::bf16 ? "bfloat16" : "float32";
}

}  // namespace

std::string config_to_json(const ModelConfig& config, const std::string& tokenizer_fingerprint,
                           io::DType dtype, const std::optional<Coding>& quantization) {
  ordered_json json = config.family == Family::llama ? llama_json(config) : gpt2_json(config);
  json["bos_token_id"] = token_or_null(config.bos_token);
  json["eos_token_id"] = token_or_null(config.eos_token);
  json["torch_dtype"] = torch_name(dtype);
  ordered_json shapes = ordered_json::object();
  for (const MapSpec& map : linear_maps(config)) {
    const auto found = config.shapes.find(map.name);
    if (found != config.shapes.end()) shapes[map.name] = tt::to_string(found->second);
  }
  json["qtf"] = {{"format_version", kFormatVersion},
                 {"shapes", shapes},
                 {"levels", level_count(config)},
                 {"tokenizer_fingerprint", tokenizer_fingerprint}};
  if (config.quantum) json["qtf"]["quantum"] = quantum_json(*config.quantum);
  if (quantization) json["qtf"]["quantization"] = quantization_json(*quantization);
  if (!config.plan.empty()) json["qtf"]["plan"] = config.plan;
  if (config.rank_policy) json["qtf"]["rank_policy"] = to_json(*config.rank_policy);
  return json.dump(2) + "\n";
}

ConfigFile config_from_json(std::string_view text, const std::string& place) {
  if (text.size() > kMaxConfigBytes)
    throw_io_error(place, "has {} bytes; a model's configuration has at most {}", text.size(),
                   kMaxConfigBytes);
  const ordered_json json = ordered_json::parse(text, nullptr, false);
  if (json.is_discarded()) throw_io_error(place, "is not valid JSON");
  const Reader reader(json, place);
  const std::string type = reader.text("model_type", "");
  ConfigFile file;
  if (type == "llama") {
    file.config = read_llama(reader);
  } else if (type == "gpt2") {
    file.config = read_gpt2(reader);
  } else {
    throw_input_error(place, "model_type \"{}\" is not supported; llama and gpt2 are", type);
  }
  naming_file(place, [&] { validate(file.config); });  // before anything is made of the sizes
  file.config.bos_token = reader.token("bos_token_id", file.config.vocabulary);
  file.config.eos_token = reader.token("eos_token_id", file.config.vocabulary);
  if (reader.has("qtf")) read_qtf_block(json.at("qtf"), place, file);
  naming_file(place, [&] { validate(file.config); });
  if (file.quantization && !file.config.plan.empty())
    throw_input_error(place, "\"plan\": a quantized model has no merged matrices");
  return file;
}

}  // namespace qtf::model
