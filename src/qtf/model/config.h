// What a model is: sizes, family and the weight shape of each linear map. One struct, read from and written
// to config.json, made from a preset or from flags.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/model/quantum_config.h"
#include "qtf/model/rank_policy.h"
#include "qtf/tt/weight_shape.h"

namespace qtf::model {

enum class Family { llama, gpt2 };

/// Sizes of a decoder-only transformer. Letters in brackets as in docs/glossary.md.
struct ModelConfig {
  Family family = Family::llama;
  int64_t vocabulary = 4096;  ///< V
  int64_t width = 128;        ///< D
  int64_t layers = 4;
  int64_t heads = 4;  ///< H
  int64_t kv_heads = 2;
  int64_t feed_forward = 344;  ///< F
  int64_t context = 128;       ///< longest sequence, in tokens
  bool tied = true;            ///< embedding and head share one map
  double norm_epsilon = 1e-5;
  double rope_theta = 10000;
  int32_t bos_token = -1;  ///< put before every text that stands alone; -1: none
  int32_t eos_token = -1;  ///< ends a generated text; -1: none
  /// Shapes of the maps that are not dense, by map name (see linear_maps()).
  std::map<std::string, tt::WeightShape> shapes;
  std::optional<QuantumConfig> quantum;  ///< the quantum layer, if it has one
  /// The execution plan (model/execution_plan.h): of the maps that are not dense, the levels that inference
  /// runs as merged matrices; 1 is the smallest, and the only one of a map without levels. Maps that are not
  /// listed run as their factors. Measured for these shapes: whoever changes them drops the plan.
  std::map<std::string, std::vector<int>> plan;
  /// What picks a token's level, if it was calibrated; whoever changes the shapes' ranks or levels drops it.
  std::optional<RankPolicy> rank_policy;

  int64_t head_dim() const { return width / heads; }
  int64_t kv_width() const { return kv_heads * head_dim(); }
};

/// A named set of sizes.
struct Preset {
  std::string_view name;
  std::string_view summary;
  int64_t width, layers, heads, kv_heads, feed_forward, vocabulary;
};

/// nano … large, 50 K to 50 M parameters.
const std::vector<Preset>& presets();

/// A preset's sizes. Throws InputError with the names that exist and the nearest.
ModelConfig preset_config(std::string_view name);

/// Throws InputError for sizes that do not fit each other, naming the nearest that do.
void validate(const ModelConfig& config);

/// Which part of the model a map belongs to: what `--shape PART=…` names.
enum class MapPart { embedding, attention, feed_forward, head };

/// The names of MapPart on the command line: embedding, attention, ffn, head.
std::string_view part_name(MapPart part);

/// What the names of a block's tensors begin with: "model.layers.3.".
std::string block_prefix(Family family, int64_t layer);

/// One linear map of a model.
struct MapSpec {
  std::string name;  ///< in files, without ".weight": "model.layers.0.mlp.up_proj"
  MapPart part;
  int64_t layer;  ///< -1 for embedding and head
  int64_t out, in;
  bool bias;
  bool transposed;       ///< a dense file holds [in, out] (Hugging Face's Conv1D)
  bool residual_output;  ///< writes into the residual stream
};

/// All linear maps in file order: embedding, blocks, head (if untied).
std::vector<MapSpec> linear_maps(const ModelConfig& config);

/// The maps that a part's name, a map's name or the end of one means: "ffn", "up_proj". Throws InputError,
/// `place` naming whose word it is, with what exists if nothing is called so.
std::vector<MapSpec> maps_called(const ModelConfig& config, std::string_view target, std::string_view place);

/// Makes every map dense, and drops what was measured of the shapes.
void clear_shapes(ModelConfig& config);

/// The levels of a map that inference runs as merged matrices, none where the plan does not name it.
std::vector<int> merged_levels(const ModelConfig& config, const std::string& map);

/// The shape that a map has in this model.
tt::WeightShape shape_of(const ModelConfig& config, const MapSpec& map);

/// The block after whose attention a quantum layer sits: ⌊L/2⌋, counted from 0.
int64_t quantum_block(const ModelConfig& config);

/// Numbers of the quantum layer and its router; 0 without one.
int64_t quantum_parameters(const ModelConfig& config);

/// Numbers stored in the whole model, with these shapes and all dense.
int64_t parameter_count(const ModelConfig& config);
int64_t dense_parameter_count(const ModelConfig& config);

/// Multiply-accumulates of a map for one token, as the execution plan runs it. level 0: the largest.
int64_t map_macs(const ModelConfig& config, const MapSpec& map, int level = 0);

/// Multiply-accumulates for one token at the given position of a sequence (attention over `position + 1`
/// tokens) as the execution plan runs it, embedding lookup left out. Of a quantum layer its projections, of
/// the routed share of the tokens, and the router; the circuit's simulation is not counted in MACs.
int64_t macs_per_token(const ModelConfig& config, int64_t position, int level = 0);

/// Sets shapes from requests such as "ffn=chain:rank=48", "attention=dense", "up_proj=btt:rank=2": a part, or
/// the end of a map's name. Later ones win. Throws InputError for what matches nothing or does not fit.
void apply_shape_requests(ModelConfig& config, const std::vector<std::string>& requests);

/// The shape with `levels` nested levels at equal steps of its rank, which is at least as large; a chain.
tt::WeightShape with_levels(tt::WeightShape shape, int levels);

/// Gives every chain `levels` nested levels at equal steps of its rank. Throws InputError if no map is a
/// chain or a rank is too small.
void apply_levels(ModelConfig& config, int levels);

/// A level alone: every map with levels cut after it. level 0: the whole.
ModelConfig level_config(ModelConfig config, int level);

/// Number of nested levels of the model: the most that a map has.
int level_count(const ModelConfig& config);

}  // namespace qtf::model
