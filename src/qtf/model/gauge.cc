#include "qtf/model/gauge.h"

#include <algorithm>
#include <functional>

#include "qtf/tt/gauge.h"

namespace qtf::model {

namespace {

/// A map's shape and cores, end to end.
using Stored = tt::FixedChain<float>;

/// A copy of a model in which `convert` gives maps their new form. All else lies in the same order.
std::unique_ptr<Transformer<float>> converted(
    const Transformer<float>& model,
    const std::function<Stored(const tt::WeightShape&, const float* cores)>& convert) {
  ModelConfig config = model.config();
  config.plan.clear();
  std::vector<Stored> maps;
  for (const MapParameters& map : model.layout().maps) {
    maps.push_back(convert(map.shape, model.parameters().data() + map.offset));
    if (maps.back().shape.kind != tt::ShapeKind::dense) config.shapes[map.spec.name] = maps.back().shape;
  }
  auto result = std::make_unique<Transformer<float>>(config);
  int64_t from = 0, to = 0;
  const auto copy_until = [&](int64_t end) {
    std::copy_n(model.parameters().begin() + from, end - from, result->parameters().begin() + to);
    to += end - from, from = end;
  };
  for (size_t m = 0; m < maps.size(); ++m) {
    copy_until(model.layout().maps[m].offset);
    std::copy(maps[m].cores.begin(), maps[m].cores.end(), result->parameters().begin() + to);
    from += model.layout().maps[m].size;
    to += static_cast<int64_t>(maps[m].cores.size());
  }
  copy_until(model.layout().size);
  return result;
}

Stored as_it_is(const tt::WeightShape& shape, const float* cores) {
  return {shape, AlignedVector<float>(cores, cores + tt::parameters(shape))};
}

}  // namespace

std::unique_ptr<Transformer<float>> with_free_gauge(const Transformer<float>& model) {
  return converted(model, [](const tt::WeightShape& shape, const float* cores) {
    if (shape.pivots.empty()) return as_it_is(shape, cores);
    Stored all{tt::with_free_gauge(shape), {}};
    all.cores.resize(static_cast<size_t>(tt::parameters(all.shape)));
    tt::free_gauge(shape, cores, all.cores.data());
    tt::balance_gauge(all.shape, all.cores.data());
    return all;
  });
}

std::unique_ptr<Transformer<float>> with_spread_gauge(const Transformer<float>& model) {
  return converted(model, [](const tt::WeightShape& shape, const float* cores) {
    Stored all{tt::with_free_gauge(shape), {}};
    if (tt::gauge_size(all.shape) == 0) return as_it_is(shape, cores);
    all.cores.resize(static_cast<size_t>(tt::parameters(all.shape)));
    if (shape.pivots.empty())
      std::copy_n(cores, all.cores.size(), all.cores.data());
    else
      tt::free_gauge(shape, cores, all.cores.data());
    tt::balance_gauge(all.shape, all.cores.data());
    tt::spread_gauge(all.shape, all.cores.data());
    return all;
  });
}

std::unique_ptr<Transformer<float>> with_fixed_gauge(const Transformer<float>& model) {
  return converted(model, [](const tt::WeightShape& shape, const float* cores) {
    return tt::can_fix_gauge(shape) ? tt::fix_gauge(shape, cores) : as_it_is(shape, cores);
  });
}

int64_t stored_parameter_count(const ModelConfig& config) {
  int64_t count = parameter_count(config);
  for (const auto& [name, shape] : config.shapes) count -= tt::gauge_size(shape);
  return count;
}

ModelConfig with_free_gauge(ModelConfig config) {
  for (auto& [name, shape] : config.shapes)
    if (!shape.pivots.empty()) shape = tt::with_free_gauge(shape);
  return config;
}

bool can_fix_gauge(const ModelConfig& config) {
  return std::any_of(config.shapes.begin(), config.shapes.end(),
                     [](const auto& entry) { return tt::can_fix_gauge(entry.second); });
}

bool has_fixed_gauge(const ModelConfig& config) {
  return std::any_of(config.shapes.begin(), config.shapes.end(),
                     [](const auto& entry) { return !entry.second.pivots.empty(); });
}

}  // namespace qtf::model
