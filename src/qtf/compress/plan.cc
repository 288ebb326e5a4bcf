#include "qtf/compress/plan.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "qtf/adapt/decision_records.h"
#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/compress/captured_map.h"
#include "qtf/model/rank_choice_record.h"

namespace qtf::compress {

namespace {

// Ranks offered of one map: more would not be told apart by the predicted losses.
constexpr int64_t kMostRanks = 128;

constexpr double kNano = 1e9;

}  // namespace

size_t WeightMetrics::map_in_block(size_t map) const {
  return (map - 1) % calibration_.blocks.front().gradients.size();
}

const BlockMoments<MeanMoment>& WeightMetrics::block(size_t map) const {
  return calibration_.blocks[(map - 1) / calibration_.blocks.front().gradients.size()];
}

AlignedVector<double> WeightMetrics::column_moment(size_t map) const {
  const model::MapSpec& spec = original_.layout().maps[map].spec;
  if (spec.part == model::MapPart::head) return calibration_.hidden.matrix();
  if (spec.part == model::MapPart::embedding) {
    if (!original_.config().tied) return calibration_.embedding_gradients.matrix();
    AlignedVector<double> sum = calibration_.hidden.matrix();
    const AlignedVector<double> own = calibration_.embedding_gradients.matrix();
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += own[i];
    return sum;
  }
  const Site site = site_of(original_.config().family, static_cast<int64_t>(map_in_block(map)));
  return block(map).inputs[static_cast<size_t>(site)].matrix();
}

bool WeightMetrics::weighs_columns(size_t map) const {
  return options_.method->inputs && (options_.method->sensitivity || original_.config().tied ||
                                     original_.layout().maps[map].spec.part != model::MapPart::embedding);
}

Metric WeightMetrics::columns(size_t map) const {
  const model::MapSpec& spec = original_.layout().maps[map].spec;
  if (!weighs_columns(map)) return Metric(spec.in);
  const AlignedVector<double> moment = column_moment(map);
  return Metric::from_matrix(ConstMatrix<double>(moment.data(), spec.in, spec.in), options_.input_shrinkage);
}

Metric WeightMetrics::rows(size_t map) const {
  const model::MapSpec& spec = original_.layout().maps[map].spec;
  if (!options_.method->sensitivity) return Metric(spec.out);
  if (spec.layer >= 0) {
    const AlignedVector<double> moment = block(map).gradients[map_in_block(map)].matrix();
    return Metric::from_matrix(ConstMatrix<double>(moment.data(), spec.out, spec.out),
                               options_.gradient_shrinkage);
  }
  // Embedding and head: a row matters as often as its token occurs, add-one smoothed.
  AlignedVector<double> shares;
  const double total = static_cast<double>(calibration_.tokens) + static_cast<double>(spec.out);
  for (const int64_t count : calibration_.token_counts)
    shares.push_back((static_cast<double>(count) + 1) / total);
  return Metric::from_diagonal(shares);
}

AlignedVector<double> wide_weight(const model::Transformer<float>& model, size_t map) {
  const ConstMatrix<float> w = weight_of(model, map);
  AlignedVector<double> wide(static_cast<size_t>(w.rows * w.cols));
  for (size_t i = 0; i < wide.size(); ++i) wide[i] = static_cast<double>(w.data[i]);
  return wide;
}

int64_t chain_parameters(int64_t out, int64_t in, const std::vector<int64_t>& ranks, bool gauge) {
  int64_t count = ranks.back() * (out + in), before = 0;
  for (const int64_t rank : ranks) {
    if (gauge) count -= (rank - before) * (rank - before);
    before = rank;
  }
  return count;
}

namespace {

LossByRank loss_by_rank(const model::Transformer<float>& original, const WeightMetrics& metrics, size_t map) {
  const model::MapSpec& spec = original.layout().maps[map].spec;
  const AlignedVector<double> w = wide_weight(original, map);
  const WeightedSvd svd =
      weighted_svd(ConstMatrix<double>(w.data(), spec.out, spec.in), metrics.rows(map), metrics.columns(map));
  LossByRank loss(static_cast<size_t>(svd.rank) + 1, 0.0);
  for (size_t r = static_cast<size_t>(svd.rank); r-- > 0;) loss[r] = loss[r + 1] + 0.5 * svd.losses[r];
  return loss;
}

/// A job a map, taken in turn: their costs differ widely.
void for_each_map(size_t maps, ThreadPool& pool, const std::function<void(size_t)>& job) {
  std::atomic<size_t> next{0};
  pool.run([&](int) {
    for (size_t map = next++; map < maps; map = next++) job(map);
  });
}

int64_t fixed_parameters(const model::Transformer<float>& original) {
  int64_t count = original.layout().size;
  for (const model::MapParameters& map : original.layout().maps) count -= map.size;
  return count;
}

tt::WeightShape chain_shape(const model::MapSpec& spec, const std::vector<int64_t>& ranks) {
  tt::WeightShape shape;
  shape.kind = tt::ShapeKind::chain;
  shape.out = spec.out, shape.in = spec.in;
  shape.out_modes = {spec.out}, shape.in_modes = {spec.in};
  shape.ranks = {ranks.back()};
  if (ranks.size() > 1) shape.levels = ranks;
  return shape;
}

/// What of a map's predicted losses the solver reads.
int64_t nano(double nats) {
  return static_cast<int64_t>(std::llround(std::min(nats, 1e6) * kNano));
}

/// Allocation of chains: level after level from the smallest, each at least one rank above the one before.
class ChainPlanner {
 public:
  ChainPlanner(const model::Transformer<float>& original, const CompressOptions& options,
               const std::vector<LossByRank>& predicted, const MeasuredLosses* measured)
      : original_(original),
        options_(options),
        predicted_(predicted),
        measured_(measured),
        ranks_(predicted.size()) {}

  Plan run() {
    Plan plan;
    plan.config = original_.config();
    const size_t levels = options_.max_parameters.size();
    for (size_t level = 0; level < levels; ++level) {
      const adapt::Allocation allocation = allocate(level);
      plan.decisions.add(adapt::record(allocation), adapt::to_json(allocation));
      plan.total_loss = static_cast<double>(allocation.loss) / kNano;
      for (size_t m = 0; m < ranks_.size(); ++m) {
        const auto& choice = ranks_offered_[m][static_cast<size_t>(allocation.chosen[m])];
        ranks_[m].push_back(choice);
      }
    }
    for (size_t m = 0; m < ranks_.size(); ++m) {
      const model::MapSpec& spec = original_.layout().maps[m].spec;
      const int64_t rank = ranks_[m].back();
      plan.predicted_loss.push_back(rank == kDense ? 0 : loss(m, levels - 1, rank));
      if (rank != kDense) plan.config.shapes[spec.name] = chain_shape(spec, ranks_[m]);
    }
    return plan;
  }

 private:
  static constexpr int64_t kDense = -1;

  /// Of a map at a level: measured from the attempt's rank of the level before on; below it, and of a map
  /// that was not measured, predicted.
  double loss(size_t map, size_t level, int64_t rank) const {
    const LossByRank& predicted = predicted_[map];
    const auto at = static_cast<size_t>(rank);
    if (!measured_ || measured_->ranks[map].empty()) return predicted[at];
    const LossByRank& lost = measured_->lost[map][level];
    const auto before = static_cast<size_t>(level ? measured_->ranks[map][level - 1] : 0);
    if (at < before) return lost[0] + predicted[at] - predicted[before];
    return lost[std::min(at - before, lost.size() - 1)];
  }

  adapt::Allocation allocate(size_t level) {
    const size_t levels = options_.max_parameters.size();
    adapt::AllocationQuestion question;
    question.budget = options_.max_parameters[level];
    question.fixed_cost = fixed_parameters(original_);
    ranks_offered_.assign(ranks_.size(), {});
    for (size_t m = 0; m < ranks_.size(); ++m) {
      const model::MapSpec& spec = original_.layout().maps[m].spec;
      adapt::SizedPart part{spec.name, {}};
      const auto offer = [&](int64_t rank, std::string name, int64_t cost, double loss) {
        part.choices.push_back({std::move(name), cost, nano(loss)});
        ranks_offered_[m].push_back(rank);
      };
      const int64_t full = std::min(spec.out, spec.in), dense = spec.out * spec.in;
      const int64_t step = std::max<int64_t>(1, full / kMostRanks);
      const int64_t least = ranks_[m].empty() ? 1 : ranks_[m].back() + 1;
      // A chain whose rank is its `in` width has no gauge to fix; with one level it would be a dense map.
      const int64_t largest = options_.method->gauge ? std::min(full, spec.in - 1) : full;
      const int64_t most = largest - static_cast<int64_t>(levels - 1 - level);
      for (int64_t rank = least; rank <= most; rank = rank < most ? std::min(most, rank + step) : most + 1) {
        std::vector<int64_t> ranks = ranks_[m];
        ranks.push_back(rank);
        const int64_t cost = chain_parameters(spec.out, spec.in, ranks, options_.method->gauge);
        if (levels == 1 && cost >= dense) break;
        offer(rank, fmt::format("chain:rank={}", rank), cost, loss(m, level, rank));
      }
      if (levels == 1) offer(kDense, "dense", dense, 0);
      question.parts.push_back(std::move(part));
    }
    return adapt::allocate(question);
  }

  const model::Transformer<float>& original_;
  const CompressOptions& options_;
  const std::vector<LossByRank>& predicted_;
  const MeasuredLosses* measured_;
  std::vector<std::vector<int64_t>> ranks_;  ///< a map each, a level each; kDense: stays dense
  std::vector<std::vector<int64_t>> ranks_offered_;
};

/// The same share of every map: what methods without predicted losses use.
Plan uniform_plan(const model::Transformer<float>& original, const CompressOptions& options) {
  model::RankQuestion question;
  question.kind = options.method->kind;
  question.max_parameters = options.max_parameters.back();
  question.other_parameters = fixed_parameters(original);
  for (const model::MapParameters& map : original.layout().maps)
    question.maps.push_back({map.spec.name, map.spec.out, map.spec.in});
  const model::RankChoice choice = model::choose_ranks(question);
  Plan plan;
  plan.config = original.config();
  plan.decisions.add(model::record(choice), model::to_json(choice));
  for (size_t m = 0; m < choice.rows.size(); ++m) {
    const model::RankQuestion::Map& map = question.maps[m];
    const tt::WeightShape shape = tt::parse_shape(choice.rows[m].shape, map.out, map.in);
    if (shape.kind != tt::ShapeKind::dense) plan.config.shapes[map.name] = shape;
  }
  return plan;
}

}  // namespace

bool allocates(const Method& method) {
  return method.allocate && method.kind == tt::ShapeKind::chain;
}

std::vector<LossByRank> losses_by_rank(const model::Transformer<float>& original,
                                       const WeightMetrics& metrics, ThreadPool& pool) {
  std::vector<LossByRank> losses(original.layout().maps.size());
  for_each_map(losses.size(), pool, [&](size_t map) { losses[map] = loss_by_rank(original, metrics, map); });
  return losses;
}

Plan make_plan(const model::Transformer<float>& original, const CompressOptions& options,
               const std::vector<LossByRank>& predicted, const MeasuredLosses* measured) {
  if (!allocates(*options.method)) return uniform_plan(original, options);
  return ChainPlanner(original, options, predicted, measured).run();
}

}  // namespace qtf::compress
