// Where every number of a model lies: one flat vector, a named run of it for each tensor of the file.
// Optimizer, checkpoints and files work on the runs; layers hold pointers into them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "qtf/base/aligned.h"
#include "qtf/base/random.h"
#include "qtf/model/config.h"
#include "qtf/nn/quantum_layer.h"

namespace qtf::model {

/// One stored tensor.
struct Parameter {
  std::string name;           ///< in model.safetensors
  std::vector<int64_t> dims;  ///< as stored there
  bool transposed = false;    ///< the file holds the matrix transposed (dims are the file's)
  int64_t offset = 0;
  int64_t size = 0;
  bool decay = false;     ///< weight decay applies (matrices)
  double rate_scale = 1;  ///< of the learning rate (per core: DESIGN §3)
};

/// The cores of one linear map, contiguous from `offset`.
struct MapParameters {
  MapSpec spec;
  tt::WeightShape shape;
  int64_t offset = 0;
  int64_t size = 0;
  int64_t bias = -1;  ///< offset of the bias, -1 if none
};

/// Where the quantum layer's numbers lie.
struct QuantumParameters {
  nn::QuantumOffsets layer;
  int64_t threshold = 0;          ///< the router's; moved by calibration, not by gradients
  int64_t entropy_quantiles = 0;  ///< [kEntropyQuantiles], the same
  int64_t begin = 0, end = 0;     ///< of all of them
  bool classical = false;         ///< the inner map is no circuit
};

/// The layout of a configuration's parameters.
struct ParameterLayout {
  std::vector<Parameter> parameters;  ///< in offset order
  std::vector<MapParameters> maps;    ///< in linear_maps() order
  std::optional<QuantumParameters> quantum;
  int64_t size = 0;

  /// Throws InputError if there is none of this name.
  const Parameter& find(const std::string& name) const;
};

ParameterLayout make_layout(const ModelConfig& config);

/// Random initial values (see docs/training.md): maps by their shape's rule with the last core of every
/// residual branch zero, norms one, biases zero. The same for a seed on every machine.
template <class T>
AlignedVector<T> initial_parameters(const ParameterLayout& layout, uint64_t seed);

}  // namespace qtf::model
