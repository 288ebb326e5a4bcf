#include "qtf/model/parameters.h"

#include <algorithm>
#include <cmath>
#include <numbers>

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

  void add_quantum(const ModelConfig& config) {
    const std::string at = block_prefix(config.family, quantum_block(config)) + "quantum.";
    const int64_t qubits = config.quantum->circuit.qubits, width = config.width;
    QuantumParameters q;
    q.begin = layout_.size;
    q.classical = config.quantum->circuit.kind == nn::InnerKind::classical;
    q.layer.norm = add(at + "norm.weight", {width}, false);
    q.layer.in_weight = add(at + "in_proj.weight", {qubits, width}, true);
    q.layer.in_bias = add(at + "in_proj.bias", {qubits}, false);
    q.layer.inner = add(at + "circuit.angles", {config.quantum->circuit.weights()}, false);
    q.layer.out_weight = add(at + "out_proj.weight", {width, qubits}, true);
    q.layer.gate = add(at + "gate", {1}, false);
    q.layer.score_weight = add(at + "router.weight", {1, width}, true);
    q.layer.score_bias = add(at + "router.bias", {1}, false);
    q.layer.signal_weight = add(at + "router.entropy_scale", {1}, false);
    q.threshold = add(at + "router.threshold", {1}, false);
    q.entropy_quantiles = add(at + "router.entropy_quantiles", {kEntropyQuantiles}, false);
    q.end = layout_.size;
    layout_.quantum = q;
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
  if (config.quantum) builder.add_quantum(config);
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

/// Projections of independent random weights, the circuit's angles anywhere on the circle (a classical map's
/// weights standard normal), nothing added at first, and tokens picked by their entropy alone.
template <class T>
void initialise_quantum(const ParameterLayout& layout, uint64_t seed, AlignedVector<T>& values) {
  const QuantumParameters& q = *layout.quantum;
  constexpr uint64_t kStream = 0x9B17;
  const Random random{seed, kStream};
  uint64_t draw = 0;
  const auto fill = [&](int64_t begin, int64_t end, auto&& value) {
    for (int64_t i = begin; i < end; ++i) values[static_cast<size_t>(i)] = static_cast<T>(value(draw++));
  };
  const auto normal = [&](double deviation) {
    return [&random, deviation](uint64_t i) { return deviation * random.normal(i); };
  };
  const nn::QuantumOffsets& at = q.layer;
  const auto qubits = static_cast<double>(at.inner - at.in_bias),
             width = static_cast<double>(at.in_weight - at.norm);
  fill(at.in_weight, at.in_bias, normal(0.5 / std::sqrt(width)));  // most angles where tanh is steep
  if (q.classical) {
    fill(at.inner, at.out_weight, normal(1));
  } else {
    fill(at.inner, at.out_weight, [&](uint64_t i) { return 2 * std::numbers::pi * random.uniform(i); });
  }
  fill(at.out_weight, at.gate, normal(1 / std::sqrt(qubits)));
  values[static_cast<size_t>(at.signal_weight)] = T{1};
  for (int64_t k = 0; k < kEntropyQuantiles; ++k) {
    values[static_cast<size_t>(q.entropy_quantiles + k)] =
        static_cast<T>(k) / static_cast<T>(kEntropyQuantiles - 1);
  }
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
  if (layout.quantum) initialise_quantum(layout, seed, values);
  return values;
}

template AlignedVector<float> initial_parameters(const ParameterLayout&, uint64_t);
template AlignedVector<double> initial_parameters(const ParameterLayout&, uint64_t);

}  // namespace qtf::model
