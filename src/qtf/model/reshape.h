// A trained model with other weight shapes: what `qtf train --from MODEL --ratio R` begins with.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "qtf/model/transformer.h"

namespace qtf::model {

/// One map that got another shape.
struct ReshapedMap {
  std::string name;
  double error = 0;  ///< ‖W − Ŵ‖ / ‖W‖ (Frobenius)
};

struct Reshaped {
  std::unique_ptr<Transformer<float>> model;
  std::vector<ReshapedMap> maps;
};

/// `parent` with the given shapes: a map whose shape differs is multiplied out and decomposed by
/// tt::from_dense, everything else is copied; a quantum layer that the parent lacks gets the initial values
/// of `seed`. config: the parent's but for the shapes and the quantum layer. The decomposition knows the
/// weights only, not what passes through them.
Reshaped reshape(const Transformer<float>& parent, const ModelConfig& config, uint64_t seed = 1);

}  // namespace qtf::model
