#include "qtf/model/config.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "qtf/base/error.h"
#include "qtf/base/parse.h"
#include "qtf/nn/quantum_layer.h"

namespace qtf::model {

const std::vector<Preset>& presets() {
  static const std::vector<Preset> table = {
      {.name = "nano",
       .summary = "51 K parameters: tests and demonstrations",
       .width = 32,
       .layers = 3,
       .heads = 4,
       .kv_heads = 2,
       .feed_forward = 88,
       .vocabulary = 512},
      {.name = "tiny",
       .summary = "1.25 M parameters: minutes on a laptop",
       .width = 128,
       .layers = 4,
       .heads = 4,
       .kv_heads = 2,
       .feed_forward = 344,
       .vocabulary = 4096},
      {.name = "small",
       .summary = "4.7 M parameters",
       .width = 256,
       .layers = 5,
       .heads = 8,
       .kv_heads = 4,
       .feed_forward = 684,
       .vocabulary = 4096},
      {.name = "medium",
       .summary = "11.7 M parameters",
       .width = 320,
       .layers = 8,
       .heads = 8,
       .kv_heads = 4,
       .feed_forward = 856,
       .vocabulary = 8192},
      {.name = "large",
       .summary = "48.8 M parameters",
       .width = 512,
       .layers = 14,
       .heads = 8,
       .kv_heads = 4,
       .feed_forward = 1368,
       .vocabulary = 16384},
  };
  return table;
}

ModelConfig preset_config(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Preset& p : presets()) {
    names.push_back(p.name);
    if (p.name != name) continue;
    ModelConfig config;
    config.width = p.width, config.layers = p.layers, config.heads = p.heads, config.kv_heads = p.kv_heads;
    config.feed_forward = p.feed_forward, config.vocabulary = p.vocabulary;
    return config;
  }
  throw_input_error("preset", "no preset is called '{}'{}; choose one of {}", name, did_you_mean(name, names),
                    fmt::join(names, ", "));
}

namespace {

void check_positive(std::string_view what, int64_t value, int64_t most) {
  if (value < 1 || value > most) throw_input_error("model", "{} must be 1 to {}, got {}", what, most, value);
}

/// Nearest multiple of `unit` to `value`, at least `unit`.
int64_t nearest_multiple(int64_t value, int64_t unit) {
  return std::max<int64_t>(1, (value + unit / 2) / unit) * unit;
}

/// The divisor of n nearest to d.
int64_t nearest_divisor(int64_t n, int64_t d) {
  int64_t best = 1;
  for (int64_t i = 1; i <= n; ++i) {
    if (n % i == 0 && std::abs(i - d) < std::abs(best - d)) best = i;
  }
  return best;
}

/// The shapes are of maps that the model has, fit their sizes, and agree on the number of levels.
void check_shapes(const ModelConfig& c) {
  if (c.shapes.empty()) return;
  std::map<std::string, MapSpec> maps;
  for (MapSpec& map : linear_maps(c)) maps.emplace(map.name, std::move(map));
  const int levels = level_count(c);
  for (const auto& [name, shape] : c.shapes) {
    tt::validate(shape);
    const auto map = maps.find(name);
    if (map == maps.end())
      throw_input_error("model", "a shape is given for {}, which this model lacks", name);
    if (shape.out != map->second.out || shape.in != map->second.in) {
      throw_input_error("model", "{} is {} x {}, but its shape is for {} x {}; give the shape again", name,
                        map->second.out, map->second.in, shape.out, shape.in);
    }
    if (!shape.levels.empty() && tt::level_count(shape) != levels) {
      throw_input_error("model", "{} has {} nested levels, another map {}; give all the same number", name,
                        tt::level_count(shape), levels);
    }
  }
}

/// The plan is of maps that have a shape, and of levels that these have.
void check_plan(const ModelConfig& c) {
  for (const auto& [name, levels] : c.plan) {
    const auto shape = c.shapes.find(name);
    if (shape == c.shapes.end())
      throw_input_error("model", "the execution plan names {}, which is no factored map of this model", name);
    const int most = tt::level_count(shape->second);
    int before = 0;
    for (const int level : levels) {
      if (level <= before || level > most)
        throw_input_error(
            "model",
            "the execution plan merges level {} of {} after level {}; levels must increase and be "
            "1 to {}",
            level, name, before, most);
      before = level;
    }
    if (levels.empty())
      throw_input_error("model", "the execution plan names {} without a level; leave it out", name);
  }
}

}  // namespace

void validate(const ModelConfig& c) {
  check_positive("vocabulary", c.vocabulary, int64_t{1} << 24);
  check_positive("width", c.width, int64_t{1} << 16);
  check_positive("layers", c.layers, 1024);
  check_positive("heads", c.heads, 1024);
  check_positive("kv-heads", c.kv_heads, 1024);
  check_positive("feed-forward width", c.feed_forward, int64_t{1} << 20);
  check_positive("context", c.context, int64_t{1} << 20);
  if (c.width % c.heads != 0) {
    throw_input_error(
        "model", "width {} is not a multiple of {} heads; the nearest that fit are width {} or {} heads",
        c.width, c.heads, nearest_multiple(c.width, c.heads), nearest_divisor(c.width, c.heads));
  }
  if (c.family == Family::llama && c.head_dim() % 2 != 0) {
    throw_input_error(
        "model",
        "rotary positions need an even head size, got {} / {} = {}; the nearest width that fits is {}",
        c.width, c.heads, c.head_dim(), nearest_multiple(c.width, 2 * c.heads));
  }
  if (c.heads % c.kv_heads != 0) {
    throw_input_error("model",
                      "{} heads are not a multiple of {} kv-heads; the nearest that fit are {} kv-heads",
                      c.heads, c.kv_heads, nearest_divisor(c.heads, c.kv_heads));
  }
  if (c.family == Family::gpt2 && c.kv_heads != c.heads) {
    throw_input_error("model", "the gpt2 family has as many kv-heads as heads ({}), got {}", c.heads,
                      c.kv_heads);
  }
  // Tables of rotary positions would take more than 512 MB: no model that we can run has them.
  constexpr int64_t kMostPositions = int64_t{1} << 27;
  if (c.context > kMostPositions / c.head_dim()) {
    throw_input_error("model", "a context of {} with heads of width {} is not supported; the longest is {}",
                      c.context, c.head_dim(), kMostPositions / c.head_dim());
  }
  if (!(c.norm_epsilon > 0) || !(c.rope_theta > 0)) {
    throw_input_error("model", "norm epsilon and rope theta must be positive, got {} and {}", c.norm_epsilon,
                      c.rope_theta);
  }
  check_shapes(c);
  if (c.quantum) validate(*c.quantum, "model");
  check_plan(c);
  if (c.rank_policy) validate(*c.rank_policy, c, "model");
}

std::string block_prefix(Family family, int64_t layer) {
  return family == Family::llama ? fmt::format("model.layers.{}.", layer)
                                 : fmt::format("transformer.h.{}.", layer);
}

std::string_view part_name(MapPart part) {
  switch (part) {
    case MapPart::embedding:
      return "embedding";
    case MapPart::attention:
      return "attention";
    case MapPart::feed_forward:
      return "ffn";
    case MapPart::head:
      return "head";
  }
  return "";
}

namespace {

void add_llama_block(const ModelConfig& c, int64_t layer, std::vector<MapSpec>& maps) {
  const std::string at = block_prefix(c.family, layer);
  const auto add = [&](const char* name, MapPart part, int64_t out, int64_t in, bool residual) {
    maps.push_back({at + name, part, layer, out, in, false, false, residual});
  };
  add("self_attn.q_proj", MapPart::attention, c.width, c.width, false);
  add("self_attn.k_proj", MapPart::attention, c.kv_width(), c.width, false);
  add("self_attn.v_proj", MapPart::attention, c.kv_width(), c.width, false);
  add("self_attn.o_proj", MapPart::attention, c.width, c.width, true);
  add("mlp.gate_proj", MapPart::feed_forward, c.feed_forward, c.width, false);
  add("mlp.up_proj", MapPart::feed_forward, c.feed_forward, c.width, false);
  add("mlp.down_proj", MapPart::feed_forward, c.width, c.feed_forward, true);
}

void add_gpt2_block(const ModelConfig& c, int64_t layer, std::vector<MapSpec>& maps) {
  const std::string at = block_prefix(c.family, layer);
  const auto add = [&](const char* name, MapPart part, int64_t out, int64_t in, bool residual) {
    maps.push_back({at + name, part, layer, out, in, true, true, residual});
  };
  add("attn.c_attn", MapPart::attention, 3 * c.width, c.width, false);
  add("attn.c_proj", MapPart::attention, c.width, c.width, true);
  add("mlp.c_fc", MapPart::feed_forward, c.feed_forward, c.width, false);
  add("mlp.c_proj", MapPart::feed_forward, c.width, c.feed_forward, true);
}

}  // namespace

std::vector<MapSpec> linear_maps(const ModelConfig& c) {
  std::vector<MapSpec> maps;
  const bool llama = c.family == Family::llama;
  maps.push_back({llama ? "model.embed_tokens" : "transformer.wte", MapPart::embedding, -1, c.vocabulary,
                  c.width, false, false, false});
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    llama ? add_llama_block(c, layer, maps) : add_gpt2_block(c, layer, maps);
  }
  if (!c.tied) maps.push_back({"lm_head", MapPart::head, -1, c.vocabulary, c.width, false, false, false});
  return maps;
}

namespace {

tt::WeightShape dense_shape(const MapSpec& map) {
  tt::WeightShape dense;
  dense.out = map.out, dense.in = map.in;
  return dense;
}

}  // namespace

void clear_shapes(ModelConfig& config) {
  config.shapes.clear();
  config.plan.clear();
  config.rank_policy.reset();
}

std::vector<int> merged_levels(const ModelConfig& config, const std::string& map) {
  const auto found = config.plan.find(map);
  return found != config.plan.end() ? found->second : std::vector<int>();
}

tt::WeightShape shape_of(const ModelConfig& config, const MapSpec& map) {
  const auto found = config.shapes.find(map.name);
  return found != config.shapes.end() ? found->second : dense_shape(map);
}

namespace {

/// Parameters outside the linear maps: norms, biases, learned positions, the quantum layer.
int64_t other_parameters(const ModelConfig& c) {
  const int64_t norm = c.family == Family::llama ? c.width : 2 * c.width;
  int64_t count = (2 * c.layers + 1) * norm + quantum_parameters(c);
  if (c.family == Family::gpt2) count += c.context * c.width;
  for (const MapSpec& map : linear_maps(c)) count += map.bias ? map.out : 0;
  return count;
}

}  // namespace

int64_t quantum_block(const ModelConfig& config) {
  return config.layers / 2;
}

int64_t quantum_parameters(const ModelConfig& config) {
  if (!config.quantum) return 0;
  const int64_t qubits = config.quantum->circuit.qubits, width = config.width;
  // Norm, projections, circuit, gate; the score's weights, bias and signal, threshold and quantiles.
  return width + 2 * qubits * width + qubits + config.quantum->circuit.weights() + 1 + width + 3 +
         kEntropyQuantiles;
}

int64_t parameter_count(const ModelConfig& config) {
  int64_t count = other_parameters(config);
  for (const MapSpec& map : linear_maps(config)) count += tt::parameters(shape_of(config, map));
  return count;
}

int64_t dense_parameter_count(const ModelConfig& config) {
  ModelConfig dense = config;
  clear_shapes(dense);
  return parameter_count(dense);
}

int64_t map_macs(const ModelConfig& config, const MapSpec& map, int level) {
  const tt::WeightShape shape = shape_of(config, map);
  const int map_level = shape.levels.empty() ? 0 : level;
  const std::vector<int> merged = merged_levels(config, map.name);
  const int number = map_level ? map_level : tt::level_count(shape);
  const bool is_merged = std::find(merged.begin(), merged.end(), number) != merged.end();
  return is_merged ? map.out * map.in : tt::macs(shape, map_level);
}

int64_t macs_per_token(const ModelConfig& config, int64_t position, int level) {
  int64_t macs = config.layers * 2 * (position + 1) * config.width;
  for (const MapSpec& map : linear_maps(config)) {
    if (map.part == MapPart::embedding && !config.tied) continue;
    macs += map_macs(config, map, level);
  }
  if (config.quantum) {
    macs += nn::quantum_macs_any(config.width) +
            config.quantum->fraction_ppm * nn::quantum_macs_routed(config.quantum->circuit, config.width) /
                1'000'000;
  }
  return macs;
}

namespace {

bool names(std::string_view target, const MapSpec& map) {
  if (target == part_name(map.part)) return true;
  if (map.name == target) return true;
  return map.name.size() > target.size() && map.name.ends_with(target) &&
         map.name[map.name.size() - target.size() - 1] == '.';
}

void set_shape(ModelConfig& config, const MapSpec& map, const tt::WeightShape& shape) {
  config.shapes.erase(map.name);
  config.plan.erase(map.name);
  config.rank_policy.reset();
  if (shape.kind != tt::ShapeKind::dense) config.shapes[map.name] = shape;
}

}  // namespace

std::vector<MapSpec> maps_called(const ModelConfig& config, std::string_view target, std::string_view place) {
  const std::vector<MapSpec> maps = linear_maps(config);
  std::vector<MapSpec> found;
  for (const MapSpec& map : maps) {
    if (names(target, map)) found.push_back(map);
  }
  if (!found.empty()) return found;
  std::vector<std::string_view> known;
  const auto add = [&](std::string_view name) {
    if (std::find(known.begin(), known.end(), name) == known.end()) known.push_back(name);
  };
  for (const MapSpec& map : maps) add(part_name(map.part));
  for (const MapSpec& map : maps) add(std::string_view(map.name).substr(map.name.rfind('.') + 1));
  throw_input_error(
      place, "nothing in this model is called '{}'{}; choose one of {}", target,
      config.tied && target == "head" ? " (the head is tied to the embedding)" : did_you_mean(target, known),
      fmt::join(known, ", "));
}

void apply_shape_requests(ModelConfig& config, const std::vector<std::string>& requests) {
  for (const std::string& request : requests) {
    const size_t equals = request.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw_input_error("shape", "expected PART=SHAPE such as ffn=chain:rank=48, got '{}'", request);
    }
    const std::string text = request.substr(equals + 1);
    for (const MapSpec& map : maps_called(config, request.substr(0, equals), "shape"))
      set_shape(config, map, tt::parse_shape(text, map.out, map.in));
  }
}

tt::WeightShape with_levels(tt::WeightShape shape, int levels) {
  const int64_t rank = tt::level_rank(shape, 0);
  shape.levels.clear();
  for (int k = 1; k <= levels && levels > 1; ++k) shape.levels.push_back(rank * k / levels);
  return shape;
}

void apply_levels(ModelConfig& config, int levels) {
  if (levels < 1 || levels > 4) throw_input_error("levels", "expected 1 to 4 nested levels, got {}", levels);
  bool any = false;
  config.plan.clear();
  config.rank_policy.reset();
  for (auto& [name, shape] : config.shapes) {
    if (shape.kind != tt::ShapeKind::chain) continue;
    any = true;
    const int64_t rank = tt::level_rank(shape, 0);
    if (rank < levels) {
      throw_input_error(
          "levels", "{} has rank {}, too small for {} levels; give it a larger rank or ask for fewer levels",
          name, rank, levels);
    }
    shape = with_levels(std::move(shape), levels);
  }
  if (!any && levels > 1) {
    throw_input_error(
        "levels",
        "no map is a chain, and only chains have nested levels; add --ratio or --shape ffn=chain:rank=…");
  }
}

ModelConfig level_config(ModelConfig config, int level) {
  if (level == 0) return config;
  config.rank_policy.reset();
  for (auto& [name, shape] : config.shapes) {
    if (shape.levels.empty()) continue;
    const size_t kept = std::min(static_cast<size_t>(level), shape.levels.size());
    shape.levels.resize(kept);
    shape.ranks = {shape.levels.back()};
    if (!shape.pivots.empty()) shape.pivots.resize(static_cast<size_t>(shape.levels.back()));
    if (kept == 1) shape.levels.clear();
  }
  return config;
}

int level_count(const ModelConfig& config) {
  int most = 1;
  for (const auto& [name, shape] : config.shapes) most = std::max(most, tt::level_count(shape));
  return most;
}

}  // namespace qtf::model
