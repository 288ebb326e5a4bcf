#include "qtf/model/edge_export.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "qtf/base/error.h"
#include "qtf/base/float16.h"
#include "qtf/edge/format.h"
#include "qtf/kernels/quantized.h"
#include "qtf/model/edge_file.h"
#include "qtf/model/edge_tokenizer.h"
#include "qtf/model/rank_scheduler.h"
#include "qtf/tt/chain.h"

namespace qtf::model {

namespace {

/// Adds a model's tables and numbers to a file.
class EdgeWriter {
 public:
  EdgeWriter(const Transformer<float>& model, io::TensorType type)
      : model_(model), halves_(type == io::TensorType::f16) {}

  edge::Header write() {
    const ModelConfig& c = model_.config();
    edge::Header h;
    h.family = c.family == Family::llama ? edge::Family::llama : edge::Family::gpt2;
    h.vocabulary = natural(c.vocabulary), h.width = natural(c.width), h.layers = natural(c.layers);
    h.heads = natural(c.heads), h.kv_heads = natural(c.kv_heads), h.feed_forward = natural(c.feed_forward);
    h.context = natural(c.context), h.levels = static_cast<uint32_t>(level_count(c));
    h.bos = c.bos_token, h.eos = c.eos_token, h.norm_epsilon = static_cast<float>(c.norm_epsilon);
    h.parameters = static_cast<uint64_t>(parameter_count(c) - quantum_parameters(c));
    for (size_t i = 0; i < model_.linears().size(); ++i) add_map(i);
    std::vector<edge::Block> blocks;
    for (const nn::Block<float>& block : model_.blocks()) blocks.push_back(write_block(block));
    std::tie(h.final_norm, h.final_norm_bias) = write_norm(model_.final_norm());
    h.embedding = index_of(*model_.linears().front()), h.head = index_of(model_.head());
    if (c.family == Family::gpt2) {
      const Parameter& p = model_.layout().find("transformer.wpe.weight");
      h.positions =
          file_.add(model_.parameters().subspan(static_cast<size_t>(p.offset), static_cast<size_t>(p.size)));
    }
    h.cosines = file_.add(model_.block_spec().cosines), h.sines = file_.add(model_.block_spec().sines);
    h.policies[0] = write_policy(adapt::RankSignal::entropy),
    h.policies[1] = write_policy(adapt::RankSignal::gate);
    h.matrices = file_.add(std::span<const edge::Matrix>(matrices_));
    h.maps = file_.add(std::span<const edge::Map>(maps_));
    h.blocks = file_.add(std::span<const edge::Block>(blocks));
    return h;
  }

  EdgeFile& file() { return file_; }
  /// Maps that became dense.
  int multiplied_out() const { return multiplied_out_; }

 private:
  static uint32_t natural(int64_t value) { return static_cast<uint32_t>(value); }

  uint32_t index_of(const nn::Linear<float>& linear) const {
    const auto linears = model_.linears();
    return static_cast<uint32_t>(std::find(linears.begin(), linears.end(), &linear) - linears.begin());
  }

  std::pair<edge::Span, edge::Span> write_norm(const nn::Norm<float>& norm) {
    const auto width = static_cast<size_t>(model_.config().width);
    const edge::Span weight = file_.add(std::span(norm.weight, width));
    return {weight, norm.bias ? file_.add(std::span(norm.bias, width)) : edge::Span()};
  }

  edge::Block write_block(const nn::Block<float>& block) {
    edge::Block to;
    std::tie(to.attention_norm, to.attention_norm_bias) = write_norm(block.attention_norm);
    std::tie(to.feed_forward_norm, to.feed_forward_norm_bias) = write_norm(block.feed_forward_norm);
    for (size_t i = 0; i < block.qkv.size(); ++i) to.qkv[i] = index_of(block.qkv[i]);
    for (size_t i = 0; i < block.up.size(); ++i) to.up[i] = index_of(block.up[i]);
    to.attention_out = index_of(block.attention_out), to.down = index_of(block.down);
    return to;
  }

  /// What decides by a calibrated signal; nothing where the model was not calibrated for it.
  edge::Policy write_policy(adapt::RankSignal signal) {
    const ModelConfig& c = model_.config();
    if (!c.rank_policy || !has_rank_choice(c) || !quantiles_for(*c.rank_policy, 0, signal)) return {};
    RankScheduler scheduler(c, {.policy = {signal, 0}, .mean = {}, .alpha = {}, .hysteresis = {}});
    edge::Policy policy;
    const int64_t step = edge::kMeanStep * adapt::kUnit / 100;
    const int64_t nearest = (scheduler.mean() + step / 2) / step;
    policy.mean = natural(std::clamp<int64_t>(nearest, 1, edge::kMeans)) * edge::kMeanStep;
    policy.hysteresis = scheduler.hysteresis();
    std::vector<std::vector<int64_t>> thresholds(static_cast<size_t>(c.layers));
    for (uint32_t mean = 1; mean <= edge::kMeans; ++mean) {
      scheduler.set_mean(mean * step);
      for (int64_t layer = 0; layer < c.layers; ++layer) {
        if (!scheduler.governs(layer)) continue;
        const adapt::LevelThresholds all = scheduler.decide(layer, 1, 0, 0).question.thresholds;
        auto& to = thresholds[static_cast<size_t>(layer)];
        to.insert(to.end(), all.begin(), all.begin() + scheduler.levels() - 1);
      }
    }
    std::vector<edge::BlockRanks> blocks(static_cast<size_t>(c.layers));
    for (size_t layer = 0; layer < blocks.size(); ++layer) {
      if (thresholds[layer].empty()) continue;
      const auto add = [&](const std::vector<int64_t>& numbers) {
        return file_.add(std::span<const int64_t>(numbers));
      };
      blocks[layer].thresholds = add(thresholds[layer]);
      blocks[layer].quantiles = add(*quantiles_for(*c.rank_policy, layer, signal));
      if (signal == adapt::RankSignal::gate) blocks[layer].gate = add(c.rank_policy->layers[layer].gate);
    }
    policy.blocks = file_.add(std::span<const edge::BlockRanks>(blocks));
    return policy;
  }

  void add_map(size_t index) {
    const MapParameters& map = model_.layout().maps[index];
    const tt::WeightShape& shape = map.shape;
    edge::Map to;
    to.in = natural(shape.in), to.out = natural(shape.out),
    to.first = natural(static_cast<int64_t>(matrices_.size()));
    const bool chain = shape.kind == tt::ShapeKind::chain && !tt::is_rebuilt(shape);
    chain ? add_chain(index, to) : add_dense(index);
    if (map.bias >= 0)
      to.bias = file_.add(
          model_.parameters().subspan(static_cast<size_t>(map.bias), static_cast<size_t>(shape.out)));
    maps_.push_back(to);
  }

  void add_dense(size_t index) {
    const MapParameters& map = model_.layout().maps[index];
    const int64_t out = map.shape.out, in = map.shape.in;
    if (map.shape.kind == tt::ShapeKind::dense && codes_of(index))
      return add_matrix(codes_of(index)->cores[0]);
    std::vector<float> w(static_cast<size_t>(out * in));
    Arena scratch;
    tt::make_linear_map<float>(map.shape)->to_dense(cores(index), w.data(), 0, scratch);
    multiplied_out_ += map.shape.kind != tt::ShapeKind::dense;
    add_matrix(w.data(), out, in, map.spec.name);
  }

  /// U, then V's rows: whole, or each level's without its pivots' columns.
  void add_chain(size_t index, edge::Map& to) {
    const MapParameters& map = model_.layout().maps[index];
    const tt::WeightShape& shape = map.shape;
    const auto blocks = tt::bond_blocks(shape);
    std::vector<uint32_t> ends, pivots;
    for (const auto& [begin, end] : blocks) ends.push_back(natural(end));
    for (const int64_t pivot : shape.pivots) pivots.push_back(natural(pivot));
    to.block_ends = file_.add(std::span<const uint32_t>(ends)),
    to.pivots = file_.add(std::span<const uint32_t>(pivots));

    const int64_t rank = tt::level_rank(shape, 0);
    const tt::ChainHalves halves(shape);
    const bool one_mode = shape.out_modes.size() == 1 && shape.in_modes.size() == 1;
    std::vector<float> factors(static_cast<size_t>(halves.factor_size()));
    Arena scratch;
    halves.to_factors(cores(index), factors.data(), scratch);
    const float* v = factors.data() + shape.out * rank;
    if (const tt::QuantizedCores* codes = one_mode ? codes_of(index) : nullptr) {
      for (const QuantizedMatrix& core : codes->cores) add_matrix(core);
    } else {
      add_matrix(factors.data(), shape.out, rank, map.spec.name);
      if (pivots.empty()) add_matrix(v, rank, shape.in, map.spec.name);
      const float* stored = cores(index) + shape.out * rank;
      for (size_t b = 0; !pivots.empty() && b < blocks.size(); ++b) {
        const int64_t size = blocks[b].second - blocks[b].first;
        add_matrix(stored, size, shape.in - size, map.spec.name);
        stored += size * (shape.in - size);
      }
    }
    if (index != 0) return;
    to.gathers = natural(static_cast<int64_t>(matrices_.size()));
    add_floats({v, rank, shape.in});
  }

  const float* cores(size_t index) const {
    return model_.parameters().data() + model_.layout().maps[index].offset;
  }
  const tt::QuantizedCores* codes_of(size_t index) const {
    return model_.codes() ? &model_.codes()->maps[index] : nullptr;
  }

  /// B = Wᵀ of W[out, in] in panels.
  void add_matrix(const float* w, int64_t out, int64_t in, const std::string& name) {
    if (!halves_) return add_floats(ConstMatrix<float>(w, out, in).transposed());
    std::vector<uint16_t> halves(static_cast<size_t>(out * in));
    for (size_t i = 0; i < halves.size(); ++i) {
      halves[i] = half_from_float(w[i]);
      if (!std::isfinite(float_from_half(halves[i])))
        throw_input_error("convert", "{} holds {}, beyond what F16 can; use --type f32", name, w[i]);
    }
    add_codes<kernels::Float16>(edge::NumberType::f16, out, in, 0,
                                reinterpret_cast<const uint8_t*>(halves.data()), nullptr);
  }

  /// B[rows, cols] in panels.
  void add_floats(ConstMatrix<float> b) {
    constexpr int64_t kWidth = edge::kPanelWidth;
    std::vector<float> panels(static_cast<size_t>((b.cols + kWidth - 1) / kWidth * kWidth * b.rows));
    for (int64_t j = 0; j < b.cols; ++j) {
      float* panel = panels.data() + j / kWidth * kWidth * b.rows + j % kWidth;
      for (int64_t p = 0; p < b.rows; ++p) panel[p * kWidth] = b(p, j);
    }
    matrices_.push_back(
        {natural(b.rows), natural(b.cols), edge::NumberType::f32, 0,
         file_.add(std::span(reinterpret_cast<const char*>(panels.data()), panels.size() * sizeof(float)))});
  }

  void add_matrix(const QuantizedMatrix& w) {
    const int64_t block = w.coding.scaled() ? w.coding.block_of(w.cols) : 0;
    switch (w.coding.type) {
      case CodeType::f16:
        return add_codes<kernels::Float16>(edge::NumberType::f16, w.rows, w.cols, block, w.codes, w.scales);
      case CodeType::int8:
        return add_codes<kernels::Int8>(edge::NumberType::int8, w.rows, w.cols, block, w.codes, w.scales);
      case CodeType::int4:
        return add_codes<kernels::Int4>(edge::NumberType::int4, w.rows, w.cols, block, w.codes, w.scales);
    }
  }

  template <class Code>
  void add_codes(edge::NumberType type, int64_t out, int64_t in, int64_t block, const uint8_t* codes,
                 const uint8_t* scales) {
    std::vector<uint8_t> panels(
        static_cast<size_t>(kernels::quantized_size<Code>(in, out, block, edge::kPanelWidth)));
    kernels::quantized_pack<Code>(in, out, block, codes, scales, panels.data(), edge::kPanelWidth);
    matrices_.push_back({natural(in), natural(out), type, natural(block),
                         file_.add(std::span(reinterpret_cast<const char*>(panels.data()), panels.size()))});
  }

  const Transformer<float>& model_;
  bool halves_;
  EdgeFile file_;
  std::vector<edge::Matrix> matrices_;
  std::vector<edge::Map> maps_;
  int multiplied_out_ = 0;
};

}  // namespace

std::vector<std::string> save_edge(const std::filesystem::path& path, const Transformer<float>& model,
                                   const text::Tokenizer* tokenizer, io::TensorType type) {
  EdgeWriter writer(model, type);
  edge::Header header = writer.write();
  std::vector<std::string> notes;
  const auto& policy = model.config().rank_policy;
  if (policy && policy->signal != adapt::RankSignal::gate && policy->signal != adapt::RankSignal::entropy)
    notes.push_back(
        fmt::format("the rank policy {} stays behind; qtf calibrate gives a model entropy or gate",
                    adapt::info(policy->signal).name));
  if (model.config().quantum)
    notes.push_back("the quantum layer is left out: the edge library has no circuit simulator");
  if (writer.multiplied_out() > 0)
    notes.push_back(
        fmt::format("{} maps became the matrices that they multiply out to (only chains stay as they are)",
                    writer.multiplied_out()));
  if (tokenizer) {
    if (const std::string problem =
            add_edge_tokenizer(*tokenizer, model.config().vocabulary, writer.file(), header);
        !problem.empty())
      notes.push_back(fmt::format("the file has no tokenizer, and takes token ids: {}", problem));
  } else {
    notes.push_back("the model has no tokenizer, so the file takes token ids");
  }
  writer.file().write(path, header);
  return notes;
}

}  // namespace qtf::model
