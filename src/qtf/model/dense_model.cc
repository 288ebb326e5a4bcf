#include "qtf/model/dense_model.h"

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/base/parse.h"

namespace qtf::model {

namespace {

std::vector<std::string> dropped(const ModelConfig& config, int level) {
  std::vector<std::string> notes;
  if (config.quantum) {
    notes.push_back(fmt::format(
        "the quantum layer of block {} ({} numbers, {}): its tokens pass unchanged, which changes the model",
        quantum_block(config), format_count(quantum_parameters(config)), to_string(*config.quantum)));
  }
  if (config.shapes.empty()) return notes;
  notes.push_back(fmt::format("{} map{} stored as tensor trains: multiplied out, {} numbers become {}",
                              config.shapes.size(), config.shapes.size() == 1 ? "" : "s",
                              format_count(parameter_count(config)),
                              format_count(dense_parameter_count(config))));
  const int levels = level_count(config);
  if (levels > 1) {
    notes.push_back(
        fmt::format("nested levels: only level {} of {} is kept", level == 0 ? levels : level, levels));
  }
  return notes;
}

}  // namespace

DenseModel make_dense(const Transformer<float>& model, int level) {
  ModelConfig config = model.config();
  DenseModel dense;
  dense.dropped = dropped(config, level);
  clear_shapes(config);
  config.quantum.reset();
  dense.model = std::make_unique<Transformer<float>>(config);
  const ParameterLayout &from = model.layout(), &to = dense.model->layout();
  Arena scratch;
  for (size_t i = 0; i < from.maps.size(); ++i) {
    const nn::Linear<float>& linear = *model.linears()[i];
    linear.map->to_dense(model.parameters().data() + from.maps[i].offset,
                         dense.model->parameters().data() + to.maps[i].offset, linear.level(level), scratch);
  }
  for (const Parameter& p : from.parameters) {
    const bool of_map = std::any_of(from.maps.begin(), from.maps.end(), [&](const MapParameters& map) {
      return p.offset >= map.offset && p.offset < map.offset + map.size;
    });
    const bool of_quantum = from.quantum && p.offset >= from.quantum->begin && p.offset < from.quantum->end;
    if (of_map || of_quantum) continue;
    std::copy_n(model.parameters().data() + p.offset, p.size,
                dense.model->parameters().data() + to.find(p.name).offset);
  }
  return dense;
}

}  // namespace qtf::model
