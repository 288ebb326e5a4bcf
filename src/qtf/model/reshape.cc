#include "qtf/model/reshape.h"

#include <algorithm>
#include <map>

#include "qtf/tt/linear_map.h"

namespace qtf::model {

namespace {

void copy_equal_tensors(const Transformer<float>& from, Transformer<float>& to) {
  std::map<std::string_view, const Parameter*> by_name;
  for (const Parameter& p : from.layout().parameters) by_name[p.name] = &p;
  for (const Parameter& p : to.layout().parameters) {
    const auto found = by_name.find(p.name);
    if (found == by_name.end() || found->second->dims != p.dims) continue;
    std::copy_n(from.parameters().begin() + found->second->offset, p.size,
                to.parameters().begin() + p.offset);
  }
}

double decompose(const MapParameters& from, const float* cores, const MapParameters& to, float* new_cores) {
  Arena scratch;
  AlignedVector<float> dense(static_cast<size_t>(from.spec.out * from.spec.in));
  tt::make_linear_map<float>(from.shape)->to_dense(cores, dense.data(), 0, scratch);
  return tt::from_dense<float>(to.shape, dense.data(), new_cores);
}

}  // namespace

Reshaped reshape(const Transformer<float>& parent, const ModelConfig& config, uint64_t seed) {
  Reshaped result;
  result.model = std::make_unique<Transformer<float>>(config);
  if (const auto& quantum = result.model->layout().quantum) {
    const AlignedVector<float> values = initial_parameters<float>(result.model->layout(), seed);
    std::copy(values.begin() + quantum->begin, values.begin() + quantum->end,
              result.model->parameters().begin() + quantum->begin);
  }
  copy_equal_tensors(parent, *result.model);
  const std::vector<MapParameters>&before = parent.layout().maps, &after = result.model->layout().maps;
  for (size_t i = 0; i < after.size(); ++i) {
    if (before[i].shape == after[i].shape) continue;
    const double error = decompose(before[i], parent.parameters().data() + before[i].offset, after[i],
                                   result.model->parameters().data() + after[i].offset);
    result.maps.push_back({after[i].spec.name, error});
  }
  return result;
}

}  // namespace qtf::model
