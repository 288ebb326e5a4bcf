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

/// The same model but for rounding, in the gauge whose numbers are best quantized to few bits: all numbers of
/// its chains with one mode a side, spread (tt::spread_gauge). Not prepared.
std::unique_ptr<Transformer<float>> with_spread_gauge(const Transformer<float>& model);

/// Numbers that a file of a model stores once its gauge is fixed.
int64_t stored_parameter_count(const ModelConfig& config);

/// The configuration of with_free_gauge's model.
ModelConfig with_free_gauge(ModelConfig config);

/// Whether any map's gauge can be fixed and is not.
bool can_fix_gauge(const ModelConfig& config);

/// Whether any map's gauge is fixed.
bool has_fixed_gauge(const ModelConfig& config);

}  // namespace qtf::model
