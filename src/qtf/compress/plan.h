// Which shape every map of a compressed model gets: losses predicted from the calibration, then the
// allocation of the budget.
#pragma once

#include <memory>

#include "qtf/compress/compress.h"
#include "qtf/compress/metric.h"

namespace qtf::compress {

/// The metrics in which errors of a model's weights are counted, by method.
class WeightMetrics {
 public:
  WeightMetrics(const model::Transformer<float>& original, const Calibration& calibration,
                const CompressOptions& options)
      : original_(original), calibration_(calibration), options_(options) {}

  /// Of what leaves map number `map` of linear_maps(), and of what enters it.
  Metric rows(size_t map) const;
  Metric columns(size_t map) const;
  /// Whether the method counts errors by what enters a map; else columns() is the identity.
  bool weighs_columns(size_t map) const;
  /// E[x·xᵀ] of what enters (of the embedding: E[g·gᵀ] by what leaves it; tied, the head's inputs are added).
  AlignedVector<double> column_moment(size_t map) const;

 private:
  const BlockMoments<MeanMoment>& block(size_t map) const;
  size_t map_in_block(size_t map) const;

  const model::Transformer<float>& original_;
  const Calibration& calibration_;
  const CompressOptions& options_;
};

/// A map's weight in double.
AlignedVector<double> wide_weight(const model::Transformer<float>& model, size_t map);

/// ½·Σ of what is lost from each rank on: [r] is the predicted loss of rank r, in nats/token.
using LossByRank = std::vector<double>;

/// Of each map cut to each rank from 0 to its full one, in linear_maps() order.
std::vector<LossByRank> losses_by_rank(const model::Transformer<float>& original,
                                       const WeightMetrics& metrics, ThreadPool& pool);

/// Whether a method's ranks come from losses.
bool allocates(const Method& method);

struct Plan {
  model::ModelConfig config;           ///< with shapes
  std::vector<double> predicted_loss;  ///< a map each, at the largest level; empty: none was made
  double total_loss = 0;
  audit::DecisionList decisions;
};

/// What the maps of a first attempt lose, measured while it was made.
struct MeasuredLosses {
  std::vector<std::vector<int64_t>> ranks;    ///< [map][level] of that attempt; empty: nothing is known of it
  std::vector<std::vector<LossByRank>> lost;  ///< [map][level][terms more than the level before has]
};

/// predicted: losses_by_rank(); measured: null, or what is known better.
Plan make_plan(const model::Transformer<float>& original, const CompressOptions& options,
               const std::vector<LossByRank>& predicted, const MeasuredLosses* measured = nullptr);

/// Numbers that a chain of these nested ranks stores; with fixed gauge Σ (differences of ranks)² fewer.
int64_t chain_parameters(int64_t out, int64_t in, const std::vector<int64_t>& ranks, bool gauge);

}  // namespace qtf::compress
