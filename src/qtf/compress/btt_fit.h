// A block tensor train fitted to a weight in the metric of what passes through it: blocks side by side share
// no parameters with each other, but their inputs go together, so that each makes good for its neighbours.
#pragma once

#include "qtf/base/aligned.h"
#include "qtf/tensor/matrix.h"
#include "qtf/tt/weight_shape.h"

namespace qtf::compress {

/// Improves a btt's cores (end to end) by alternating least squares: min tr(ΔW·inputs·ΔWᵀ), ΔW = target − W.
/// `inputs` [in, in] is positive definite. Every sweep solves for all left blocks at once, then for the right
/// ones in turn; none makes the error larger, but by rounding to float at the end.
void refit_btt(const tt::WeightShape& shape, ConstMatrix<double> target, ConstMatrix<double> inputs,
               int sweeps, float* cores);

}  // namespace qtf::compress
