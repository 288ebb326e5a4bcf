#include "qtf/model/parameters.h"

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/tt/linear_map.h"

namespace qtf::model {

namespace {

class LayoutBuilder {
 public:
  explicit LayoutBuilder(ParameterLayout& layout) : layout_(layout) {}

  int64_t add(std::string name, std::vector<int64_t> dims, bool decay, double rate_scale = 1,
              bool transposed = false) {
    int64_t size = 1;
    for (int64_t d : dims) size *= d;
    layout_.parameters.push_back(
        {std::move(name), std::move(dims), transposed, layout_.size, size, decay, rate_scale});
    const int64_t offset = layout_.size;
    layout_.size += size;
    return offset;
  }

  void add_map(const ModelConfig& config, const MapSpec& spec) {
    MapParameters map{spec, shape_of(config, spec), layout_.size, 0, -1};
    for (const tt::CoreSpec& core : tt::cores(map.shape)) {
      const bool transposed = spec.transposed && map.shape.kind == tt::ShapeKind::dense;
      auto dims = core.dims;
      if (transposed) std::swap(dims[0], dims[1]);
      add(spec.name + "." + core.suffix, dims, true, tt::learning_rate_scale(map.shape, core), transposed);
    }
    map.size = layout_.size - map.offset;
    if (spec.bias) map.bias = add(spec.name + ".bias", {spec.out}, false);
    layout_.maps.push_back(std::move(map));
  }

  void add_norm(const ModelConfig& config, const std::string& name) {
    add(name + ".weight", {config.width}, false);
    if (config.family == Family::gpt2) add(name + ".bias", {config.width}, false);
  }

 private:
  ParameterLayout& layout_;
};

}  // namespace

const Parameter& ParameterLayout::find(const std::string& name) const {
  for (const Parameter& p : parameters) {
    if (p.name == name) return p;
  }
  throw_input_error("model", "the model has no tensor '{}'", name);
}

ParameterLayout make_layout(const ModelConfig& config) {
  ParameterLayout layout;
  LayoutBuilder builder(layout);
  const bool llama = config.family == Family::llama;
  int64_t layer = -1;
  const auto norm_name = [&](int which) {
    const char* llama_names[] = {"input_layernorm", "post_attention_layernorm"};
    return block_prefix(config.family, layer) + (llama ? llama_names[which] : which ? "ln_2" : "ln_1");
  };
  for (const MapSpec& map : linear_maps(config)) {
    if (map.part == MapPart::head) continue;
    if (map.layer != layer) {
      layer = map.layer;
      builder.add_norm(config, norm_name(0));
      builder.add_norm(config, norm_name(1));
    }
    builder.add_map(config, map);
    if (map.part == MapPart::embedding && !llama) {
      builder.add("transformer.wpe.weight", {config.context, config.width}, true);
    }
  }
  builder.add_norm(config, llama ? "model.norm" : "transformer.ln_f");
  if (!config.tied) builder.add_map(config, linear_maps(config).back());
  return layout;
}

namespace {

constexpr double kEmbeddingDeviation = 0.02;  // GPT-2's

/// Scale of a map's last core: residual branches begin at zero, and embeddings small, as the head that they
/// are tied to must begin near the uniform distribution.
double initial_gain(const MapSpec& map) {
  if (map.residual_output) return 0;
  const bool vocabulary_map = map.part == MapPart::embedding || map.part == MapPart::head;
  return vocabulary_map ? kEmbeddingDeviation * std::sqrt(static_cast<double>(map.in)) : 1;
}

}  // namespace

template <class T>
AlignedVector<T> initial_parameters(const ParameterLayout& layout, uint64_t seed) {
  AlignedVector<T> values(static_cast<size_t>(layout.size), T{0});
  for (const Parameter& p : layout.parameters) {
    const bool norm_weight = p.dims.size() == 1 && p.name.ends_with(".weight");
    if (norm_weight) std::fill_n(values.data() + p.offset, p.size, T{1});
    if (p.name != "transformer.wpe.weight") continue;
    const Random random{seed, 1};
    for (int64_t i = 0; i < p.size; ++i) {
      values[static_cast<size_t>(p.offset + i)] =
          static_cast<T>(kEmbeddingDeviation * random.normal(static_cast<uint64_t>(i)));
    }
  }
  uint64_t stream = 16;
  for (const MapParameters& map : layout.maps)
    tt::initialise(map.shape, {seed, stream++}, values.data() + map.offset, initial_gain(map.spec));
  return values;
}

template AlignedVector<float> initial_parameters(const ParameterLayout&, uint64_t);
template AlignedVector<double> initial_parameters(const ParameterLayout&, uint64_t);

}  // namespace qtf::model
