// The factors of one chain W ≈ U·V, also where nested levels share them: level k is the product of the first
// r_k columns of U and rows of V, and every level has a target of its own.
#pragma once

#include <span>
#include <vector>

#include "qtf/compress/metric.h"
#include "qtf/tt/weight_shape.h"

namespace qtf::compress {

/// Fills a chain's cores (all its numbers, end to end) with the first terms of the target's weighted SVD:
/// every level is then the best of its rank.
void fit_chain(const tt::WeightShape& shape, ConstMatrix<double> target, const Metric& rows,
               const Metric& columns, float* cores);

/// What one level should be: min tr(C·(weight − W')·inputs·(weight − W')ᵀ), C the rows' metric.
struct LevelTarget {
  AlignedVector<double> weight;  ///< [out, in]
  AlignedVector<double> inputs;  ///< [in, in], positive definite
};

/// Of each level what its error would be with 0, 1, 2, … terms more than the level before it has, that one's
/// being as they are.
using ErrorsByTerms = std::vector<std::vector<double>>;

/// Fills a chain's cores so that the sum of all levels' errors, each counted `importance` times, is small:
/// the terms that a level adds are the best for all levels that use them, given the terms of the others;
/// level after level, from the smallest, `sweeps` times. No sweep makes the sum larger. A target a level, the
/// smallest first. errors: filled in unless it is null.
void fit_levels(const tt::WeightShape& shape, std::span<const LevelTarget> targets,
                std::span<const double> importance, const Metric& rows, int sweeps, float* cores,
                ErrorsByTerms* errors = nullptr);

}  // namespace qtf::compress
