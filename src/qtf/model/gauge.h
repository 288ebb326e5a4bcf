// The gauge of a whole model's chains (tt/gauge.h): fixed in files, free in training.
#pragma once

#include <memory>

#include "qtf/model/transformer.h"

namespace qtf::model {

/// The same model but for rounding, with all numbers of its chains, which training needs, those whose gauge
/// was fixed balanced. Not prepared.
std::unique_ptr<Transformer<float>> with_free_gauge(const Transformer<float>& model);

/// The same model with the gauge of its chains fixed wherever that is possible: Σ (rank of each level's
/// addition)² fewer parameters. Not prepared.
std::unique_ptr<Transformer<float>> with_fixed_gauge(const Transformer<float>& model);

/// Whether any map's gauge is fixed.
bool has_fixed_gauge(const ModelConfig& config);

}  // namespace qtf::model
