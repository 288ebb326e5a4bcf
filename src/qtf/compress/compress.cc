#include "qtf/compress/compress.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/compress/btt_fit.h"
#include "qtf/compress/captured_map.h"
#include "qtf/compress/chain_fit.h"
#include "qtf/compress/plan.h"
#include "qtf/compress/sequential.h"
#include "qtf/model/gauge.h"
#include "qtf/tensor/gemm.h"
#include "qtf/tt/gauge.h"
#include "qtf/tt/linear_map.h"

namespace qtf::compress {

namespace {

/// A model of other shapes with all that they share copied; its reshaped maps are zero.
std::unique_ptr<model::Transformer<float>> with_shapes(const model::Transformer<float>& original,
                                                       const model::ModelConfig& config, ThreadPool& pool) {
  auto result = std::make_unique<model::Transformer<float>>(config);
  size_t next = 0;
  for (const model::Parameter& to : result->layout().parameters) {
    const auto& from = original.layout().parameters;
    for (size_t i = next; i < from.size(); ++i) {
      if (from[i].name != to.name) continue;
      std::copy_n(original.parameters().data() + from[i].offset, to.size,
                  result->parameters().data() + to.offset);
      next = i + 1;
      break;
    }
  }
  result->prepare(tt::Use::inference, pool);
  return result;
}

/// tr(Δ·M·Δᵀ).
double quadratic_form(ConstMatrix<double> delta, const AlignedVector<double>& moment) {
  AlignedVector<double> product(static_cast<size_t>(delta.rows * delta.cols));
  gemm(delta, ConstMatrix<double>(moment.data(), delta.cols, delta.cols),
       Matrix<double>(product.data(), delta.rows, delta.cols));
  double sum = 0;
  for (size_t i = 0; i < product.size(); ++i) sum += product[i] * delta.data[i];
  return sum;
}

class Compressor {
 public:
  Compressor(const model::Transformer<float>& original, const Calibration& calibration, const Sequences& text,
             const CompressOptions& options, ThreadPool& pool)
      : original_(original), calibration_(calibration), text_(text), options_(options), pool_(pool) {}

  Compressed run() {
    const WeightMetrics metrics(original_, calibration_, options_);
    options_.progress(0.05, "predicting losses");
    const bool in_sequence = options_.method->sequential && options_.sequential && text_.count() > 0;
    std::vector<LossByRank> predicted;
    if (allocates(*options_.method) && !options_.shapes)
      predicted = losses_by_rank(original_, metrics, pool_);
    const int allocations = !predicted.empty() && in_sequence ? options_.allocations : 1;
    for (int i = 1; i <= allocations; ++i) {
      measures_ = i < allocations;
      const MeasuredLosses measured = std::move(measured_);
      follow(options_.shapes ? given_plan()
                             : make_plan(original_, options_, predicted, i > 1 ? &measured : nullptr));
      in_sequence ? compress_in_sequence(metrics) : compress_apart(metrics);
      progress_ = 0.5;
    }
    if (options_.method->gauge) {
      result_.model = model::with_fixed_gauge(*result_.model);
      result_.model->prepare(tt::Use::inference, pool_);
    }
    describe(metrics);
    return std::move(result_);
  }

 private:
  Plan given_plan() const {
    Plan plan;
    plan.config = original_.config();
    plan.config.shapes = *options_.shapes;
    return plan;
  }

  /// An empty model of the plan's shapes.
  void follow(Plan plan) {
    const size_t maps = original_.layout().maps.size();
    result_.decisions = std::move(plan.decisions);
    result_.predicted_loss = plan.total_loss;
    result_.model = with_shapes(original_, plan.config, pool_);
    result_.maps.assign(maps, {});
    for (size_t m = 0; m < plan.predicted_loss.size(); ++m)
      result_.maps[m].predicted_loss = plan.predicted_loss[m];
    measured_.ranks.assign(maps, {});
    measured_.lost.assign(maps, {});
  }

  bool is_dense(size_t map) const {
    return result_.model->layout().maps[map].shape.kind == tt::ShapeKind::dense;
  }

  /// moments: of a map that answers for the errors before it, a level each; null: the weight itself is the
  /// target.
  void compress_map(size_t map, const WeightMetrics& metrics, const std::vector<StageMoments>* moments) {
    if (is_dense(map)) return;
    const auto begin = std::chrono::steady_clock::now();
    const model::MapParameters& place = result_.model->layout().maps[map];
    float* cores = result_.model->parameters().data() + place.offset;
    if (place.shape.kind == tt::ShapeKind::chain)
      fit_chain_of(map, metrics, moments, cores);
    else
      fit_blocks_of(map, metrics, moments, cores);
    result_.model->linears()[map]->map->prepare(cores, tt::Use::inference);
    result_.maps[map].seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  void fit_chain_of(size_t map, const WeightMetrics& metrics, const std::vector<StageMoments>* moments,
                    float* cores) {
    const model::MapParameters& place = result_.model->layout().maps[map];
    if (!moments) {
      const AlignedVector<double> target = wide_weight(original_, map);
      return fit_chain(place.shape, {target.data(), place.spec.out, place.spec.in}, metrics.rows(map),
                       metrics.columns(map), cores);
    }
    std::vector<LevelTarget> targets;
    for (const StageMoments& level : *moments) targets.push_back(corrected_target(map, level));
    const int sweeps = targets.size() > 1 ? options_.level_sweeps : 1;
    ErrorsByTerms errors;
    fit_levels(place.shape, targets, importance(targets.size()), metrics.rows(map), sweeps, cores,
               measures_ ? &errors : nullptr);
    if (!measures_) return;
    for (std::vector<double>& level : errors)
      for (double& error : level) error *= 0.5;  // nats
    measured_.lost[map] = std::move(errors);
    for (const auto& [begin, end] : tt::bond_blocks(place.shape)) measured_.ranks[map].push_back(end);
  }

  /// btt and mpo, which have one level.
  void fit_blocks_of(size_t map, const WeightMetrics& metrics, const std::vector<StageMoments>* moments,
                     float* cores) {
    const model::MapParameters& place = result_.model->layout().maps[map];
    const int64_t out = place.spec.out, in = place.spec.in;
    const LevelTarget target = moments
                                   ? corrected_target(map, moments->back())
                                   : shrunk({wide_weight(original_, map), metrics.column_moment(map)}, in);
    const AlignedVector<float> narrow(target.weight.begin(), target.weight.end());
    tt::from_dense(place.shape, narrow.data(), cores);
    if (place.shape.kind == tt::ShapeKind::btt && metrics.weighs_columns(map))
      refit_btt(place.shape, {target.weight.data(), out, in}, {target.inputs.data(), in, in},
                options_.block_sweeps, cores);
  }

  LevelTarget corrected_target(size_t map, const StageMoments& moments) const {
    const ConstMatrix<float> w = weight_of(original_, map);
    return shrunk({corrected_weight(w, moments, options_.ridge), moments.inputs}, w.cols);
  }

  /// The inputs' moment made positive definite.
  LevelTarget shrunk(LevelTarget target, int64_t in) const {
    double trace = 0;
    for (int64_t i = 0; i < in; ++i) trace += target.inputs[i * in + i];
    for (int64_t i = 0; i < in; ++i)
      target.inputs[i * in + i] += options_.input_shrinkage * trace / static_cast<double>(in);
    return target;
  }

  /// Of each level's errors, the smallest level first.
  std::vector<double> importance(size_t levels) const {
    std::vector<double> weights(levels, 1.0);
    for (size_t k = levels - 1; k-- > 0;) weights[k] = options_.level_weight * weights[k + 1];
    return weights;
  }

  void compress_apart(const WeightMetrics& metrics) {
    pool_.run([&](int worker) {
      for (size_t m = static_cast<size_t>(worker); m < result_.maps.size();
           m += static_cast<size_t>(pool_.size()))
        compress_map(m, metrics, nullptr);
    });
  }

  void compress_in_sequence(const WeightMetrics& metrics) {
    compress_map(0, metrics, nullptr);
    SideBySide models(original_, *result_.model, text_, pool_);
    const size_t blocks = original_.blocks().size();
    size_t map = 1;
    for (size_t b = 0; b < blocks; ++b) {
      const auto maps_in_block = static_cast<int64_t>(calibration_.blocks[b].gradients.size());
      const double done = progress_ + (1 - progress_) * static_cast<double>(b) / static_cast<double>(blocks);
      options_.progress((measures_ ? 0.5 : 1) * done, measures_ ? "measuring losses" : "decomposing");
      for (int64_t first = 0; first < maps_in_block;) {
        const Site site = site_of(original_.config().family, first);
        int64_t end = first;
        while (end < maps_in_block && site_of(original_.config().family, end) == site) ++end;
        bool any = false;
        for (int64_t i = first; i < end; ++i) any = any || !is_dense(map + static_cast<size_t>(i));
        if (any) {
          const std::vector<StageMoments> moments = models.stage(b, site);
          pool_.run([&](int worker) {
            for (int64_t i = first + worker; i < end; i += pool_.size())
              compress_map(map + static_cast<size_t>(i), metrics, &moments);
          });
        }
        first = end;
      }
      models.advance(b);
      map += static_cast<size_t>(maps_in_block);
    }
    if (original_.config().tied || is_dense(map)) return;
    const std::vector<StageMoments> moments = models.head();
    compress_map(map, metrics, &moments);
  }

  void describe(const WeightMetrics& metrics) {
    pool_.run([&](int worker) {
      for (size_t m = static_cast<size_t>(worker); m < result_.maps.size();
           m += static_cast<size_t>(pool_.size()))
        describe_map(m, metrics);
    });
  }

  void describe_map(size_t m, const WeightMetrics& metrics) {
    const model::MapParameters& place = result_.model->layout().maps[m];
    CompressedMap& map = result_.maps[m];
    map.name = place.spec.name;
    map.out = place.spec.out, map.in = place.spec.in;
    map.shape = place.shape;
    map.parameters = tt::parameters(place.shape);
    if (is_dense(m)) return;
    AlignedVector<float> rebuilt(static_cast<size_t>(map.out * map.in));
    Arena scratch;
    result_.model->linears()[m]->map->to_dense(result_.model->parameters().data() + place.offset,
                                               rebuilt.data(), 0, scratch);
    const AlignedVector<double> w = wide_weight(original_, m);
    AlignedVector<double> difference(w.size());
    double norm = 0, error = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      difference[i] = w[i] - static_cast<double>(rebuilt[i]);
      norm += w[i] * w[i], error += difference[i] * difference[i];
    }
    map.error = norm > 0 ? std::sqrt(error / norm) : 0;
    const AlignedVector<double> moment = metrics.column_moment(m);
    const double outputs = quadratic_form(ConstMatrix<double>(w.data(), map.out, map.in), moment);
    const double lost = quadratic_form(ConstMatrix<double>(difference.data(), map.out, map.in), moment);
    map.output_error = outputs > 0 ? std::sqrt(lost / outputs) : 0;
  }

  const model::Transformer<float>& original_;
  const Calibration& calibration_;
  const Sequences& text_;
  const CompressOptions& options_;
  ThreadPool& pool_;
  Compressed result_;
  double progress_ = 0.1;    ///< where the attempt begins
  bool measures_ = false;    ///< it is there to learn what is lost
  MeasuredLosses measured_;  ///< by the last that did
};

}  // namespace

std::unique_ptr<model::Transformer<float>> dense_copy(const model::Transformer<float>& model,
                                                      ThreadPool& pool) {
  model::ModelConfig config = model.config();
  model::clear_shapes(config);
  auto dense = with_shapes(model, config, pool);
  for (size_t m = 0; m < model.layout().maps.size(); ++m) {
    Arena scratch;
    model.linears()[m]->map->to_dense(model.parameters().data() + model.layout().maps[m].offset,
                                      dense->parameters().data() + dense->layout().maps[m].offset, 0,
                                      scratch);
  }
  dense->prepare(tt::Use::inference, pool);
  return dense;
}

std::unique_ptr<model::Transformer<float>> into_dense(std::unique_ptr<model::Transformer<float>> model,
                                                      ThreadPool& pool) {
  if (!model->config().shapes.empty()) return dense_copy(*model, pool);
  model->prepare(tt::Use::inference, pool);
  return model;
}

std::unique_ptr<model::Transformer<float>> with_maps_of(const model::Transformer<float>& model,
                                                        const model::Transformer<float>& source,
                                                        const std::vector<std::string>& maps,
                                                        ThreadPool& pool) {
  model::ModelConfig config = model.config();
  for (const std::string& name : maps) {
    const auto found = source.config().shapes.find(name);
    if (found == source.config().shapes.end())
      config.shapes.erase(name);
    else
      config.shapes[name] = found->second;
    config.plan.erase(name);
  }
  auto result = with_shapes(model, config, pool);
  for (size_t m = 0; m < result->layout().maps.size(); ++m) {
    const model::MapParameters &to = result->layout().maps[m], &from = source.layout().maps[m];
    if (std::find(maps.begin(), maps.end(), to.spec.name) == maps.end()) continue;
    std::copy_n(source.parameters().data() + from.offset, to.size, result->parameters().data() + to.offset);
  }
  result->prepare(tt::Use::inference, pool);
  return result;
}

void check_can_compress(const model::ModelConfig& config) {
  if (!config.quantum) return;
  throw_input_error(
      "compress",
      "a model with a quantum layer cannot be compressed; leave the layer out first (qtf convert "
      "--dense), and train a new one after it (qtf train --from COMPRESSED --quantum ...)");
}

Compressed compress(const model::Transformer<float>& original, const Calibration& calibration,
                    const Sequences& text, const CompressOptions& options, ThreadPool& pool) {
  if (options.max_parameters.empty() && !options.shapes)
    throw_input_error("compress", "no number of parameters is asked for");
  check_can_compress(original.config());
  return Compressor(original, calibration, text, options, pool).run();
}

}  // namespace qtf::compress
