#include "qtf/model/model_folder.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/model/weight_files.h"
#include "qtf/tensor/matrix.h"

namespace qtf::model {

namespace fs = std::filesystem;
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
                           io::DType dtype) {
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
  return file;
}

namespace {

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw_io_error(folder.string(), "cannot make this folder: {}", error.message());
}

void write_description(const fs::path& folder, const ModelConfig& config, const text::Tokenizer* tokenizer,
                       io::DType dtype) {
  make_folder(folder);
  std::string fingerprint;
  if (tokenizer) {
    for (const auto& [name, contents] : tokenizer->files()) write_file_atomically(folder / name, contents);
    fingerprint = tokenizer->fingerprint();
  }
  // The last file: a folder without it is no model.
  write_file_atomically(folder / "config.json", config_to_json(config, fingerprint, dtype));
}

}  // namespace

void save_description(const fs::path& folder, const ModelConfig& config, const text::Tokenizer& tokenizer) {
  write_description(folder, config, &tokenizer, io::DType::f32);
}

void save_folder(const fs::path& folder, const Transformer<float>& model, const text::Tokenizer* tokenizer,
                 io::DType dtype) {
  make_folder(folder);
  save_weights(folder, model.layout(), model.parameters(), dtype);
  write_description(folder, model.config(), tokenizer, dtype);
}

namespace {

std::vector<float> transposed(std::span<const float> in, int64_t rows, int64_t cols) {
  std::vector<float> out(in.size());
  const ConstMatrix<float> view = ConstMatrix<float>(in.data(), rows, cols).transposed();
  for (int64_t i = 0; i < cols; ++i) {
    for (int64_t j = 0; j < rows; ++j) out[static_cast<size_t>(i * rows + j)] = view(i, j);
  }
  return out;
}

}  // namespace

void check_finite(std::span<const float> values, const std::string& place, const std::string& name) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      throw_io_error(place, "tensor {} holds {} at element {}; the model is damaged", name, values[i], i);
    }
  }
}

void save_weights(const fs::path& folder, const ParameterLayout& layout, std::span<const float> parameters,
                  io::DType dtype) {
  io::SafetensorsWriter writer;
  for (const Parameter& p : layout.parameters) {
    const auto values = parameters.subspan(static_cast<size_t>(p.offset), static_cast<size_t>(p.size));
    if (p.transposed && dtype == io::DType::f32) {
      writer.add_owned(p.name, p.dims, transposed(values, p.dims[1], p.dims[0]));
    } else if (p.transposed) {
      writer.add_as(dtype, p.name, p.dims, transposed(values, p.dims[1], p.dims[0]));
    } else {
      writer.add_as(dtype, p.name, p.dims, values);
    }
  }
  writer.set_metadata("format", "pt");  // what Hugging Face's readers ask for
  writer.write(folder / "model.safetensors");
}

namespace {

/// What other programs store beside the weights though it follows from the configuration: rotary frequencies,
/// GPT-2's causal masks, the head of a tied model.
bool is_redundant(const ParameterLayout& layout, std::string_view name) {
  const bool tied = layout.maps.back().spec.part != MapPart::head;
  return (tied && name == "lm_head.weight") || name.ends_with(".rotary_emb.inv_freq") ||
         name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

/// The files hold the layout's tensors, all with their dims, and nothing else.
void check_weights(const WeightFiles& weights, const ParameterLayout& layout) {
  std::set<std::string_view> known;
  for (const Parameter& p : layout.parameters) {
    const io::TensorInfo& info = *weights.at(p.name).info;
    if (info.dims != p.dims) {
      throw_io_error(weights.place(), "tensor {} (byte {}) has dimensions [{}], config.json asks for [{}]",
                     p.name, info.offset, fmt::join(info.dims, ", "), fmt::join(p.dims, ", "));
    }
    known.insert(info.name);
  }
  for (const auto& [name, tensor] : weights.tensors()) {
    if (!known.contains(name) && !is_redundant(layout, name)) {
      throw_io_error(weights.place(), "holds a tensor {} that config.json does not know", name);
    }
  }
}

void read_weights(const WeightFiles& weights, const ParameterLayout& layout, std::span<float> parameters) {
  for (const Parameter& p : layout.parameters) {
    const StoredTensor tensor = weights.at(p.name);
    const auto out = parameters.subspan(static_cast<size_t>(p.offset), static_cast<size_t>(p.size));
    tensor.file->read(*tensor.info, out);
    check_finite(out, weights.place(), p.name);
    if (p.transposed) {
      const std::vector<float> turned = transposed(out, p.dims[0], p.dims[1]);
      std::copy(turned.begin(), turned.end(), out.begin());
    }
  }
}

}  // namespace

void load_weights(const fs::path& folder, const ParameterLayout& layout, std::span<float> parameters) {
  const WeightFiles weights(folder);
  check_weights(weights, layout);
  read_weights(weights, layout, parameters);
}

bool is_model_folder(const fs::path& folder) {
  std::error_code ignored;  // a path too long, or a folder closed to us, is no model either
  return fs::is_regular_file(folder / "config.json", ignored);
}

namespace {

void check_tokenizer(const text::Tokenizer& tokenizer, int64_t vocabulary) {
  if (tokenizer.vocabulary_size() <= vocabulary) return;
  throw_input_error("tokenizer",
                    "the tokenizer has {} tokens, the model {}: it is not this model's tokenizer",
                    tokenizer.vocabulary_size(), vocabulary);
}

/// What a folder says of its model, and its tokenizer; no model is made yet.
ModelConfig read_folder_description(const fs::path& folder, LoadedModel& loaded) {
  if (!is_model_folder(folder))
    throw_input_error(folder.string(), "is not a model folder: it has no config.json");
  const fs::path path = folder / "config.json";
  const MappedFile text(path);
  const ConfigFile file = config_from_json(text.text(), path.string());
  if (file.tokenizer_fingerprint.empty()) {
    attach_tokenizer(loaded, file.config.vocabulary, [&] { return text::load_tokenizer(folder); });
    return file.config;
  }
  loaded.tokenizer = text::load_tokenizer(folder);
  if (loaded.tokenizer->fingerprint() != file.tokenizer_fingerprint) {
    throw_input_error(folder.string(),
                      "the tokenizer in this folder is not the one the model was trained with; put the "
                      "original back");
  }
  check_tokenizer(*loaded.tokenizer, file.config.vocabulary);
  return file.config;
}

}  // namespace

// A model without a tokenizer can still be looked at and measured on token files; who needs text says so.
void attach_tokenizer(LoadedModel& loaded, int64_t vocabulary,
                      const std::function<std::shared_ptr<const text::Tokenizer>()>& open) {
  try {
    loaded.tokenizer = open();
  } catch (const InputError& error) {
    loaded.tokenizer_problem = error.what();
    return;
  }
  if (loaded.tokenizer) check_tokenizer(*loaded.tokenizer, vocabulary);
}

LoadedModel load_folder(const fs::path& folder) {
  LoadedModel loaded;
  const ModelConfig config = read_folder_description(folder, loaded);
  const WeightFiles weights(folder);
  const ParameterLayout layout = make_layout(config);
  check_weights(weights, layout);  // before room is made for what config.json claims
  loaded.model = std::make_unique<Transformer<float>>(config);
  read_weights(weights, layout, loaded.model->parameters());
  loaded.bytes = weights.bytes();
  return loaded;
}

LoadedModel load_description(const fs::path& folder) {
  LoadedModel loaded;
  const ModelConfig config = read_folder_description(folder, loaded);
  loaded.model = std::make_unique<Transformer<float>>(config);
  return loaded;
}

}  // namespace qtf::model
