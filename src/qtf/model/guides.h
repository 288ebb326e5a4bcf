// Dense matrices beside a model's tensor trains while it begins to learn ("self-guided training", Wei et al.
// 2024): y = a·x·Gᵀ + (1 − a)·train(x) with a falling from 1 to 0, whereupon G is dropped. They are never
// stored with the model.
#pragma once

#include "qtf/model/transformer.h"

namespace qtf::model {

/// A matrix for every map that is not dense, in map order. As a layout of dense maps, so that
/// initial_parameters() fills it.
ParameterLayout make_guide_layout(const ModelConfig& config);

/// The matrices of a trained model of the same sizes and any shapes: a start that is this model.
AlignedVector<float> guides_from(const Transformer<float>& parent, const ParameterLayout& guides);

/// a at `progress` of the run in [0, 1]: a cosine from 1 to 0 over the first `length` of it.
double guide_share(double progress, double length);

}  // namespace qtf::model
