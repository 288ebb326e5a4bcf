// Makes a smaller model of a trained one: decides each map's rank, then decomposes map after map. The rank
// decisions come back as records; the weights are the numbers of a model whose shapes `qtf` trains and runs.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/audit/decision.h"
#include "qtf/compress/calibration.h"
#include "qtf/compress/methods.h"

namespace qtf::compress {

struct CompressOptions {
  const Method* method = &methods().front();
  /// Most parameters of the whole model, a level each, increasing; the last is the file's. Methods other than
  /// chains take one.
  std::vector<int64_t> max_parameters;
  /// Shapes that are decided already, by map name; others stay dense. max_parameters is not asked then.
  const std::map<std::string, tt::WeightShape>* shapes = nullptr;
  double input_shrinkage = 1e-4;     ///< of E[x·xᵀ], in mean eigenvalues: keeps rare directions alive
  double gradient_shrinkage = 1e-2;  ///< of E[g·gᵀ]
  double ridge = 1e-3;               ///< of the error-correcting targets
  /// Of nested levels: how often all are fitted, and how much more each counts than the next larger.
  int level_sweeps = 3;
  double level_weight = 2.5;
  /// Of chains with error-correcting targets: how often ranks are allocated and all maps fitted; from the
  /// second time on by what the attempt before has lost.
  int allocations = 1;
  int block_sweeps = 4;    ///< of the least-squares refit of a btt
  bool sequential = true;  ///< false leaves out the error-correcting targets
  /// Called with the share of the work that is done.
  std::function<void(double share, std::string_view what)> progress = [](double, std::string_view) {};
};

/// What became of one map.
struct CompressedMap {
  std::string name;
  int64_t out = 0, in = 0;
  tt::WeightShape shape;
  int64_t parameters = 0;
  double predicted_loss = 0;  ///< nats/token, by the calibration (methods that allocate)
  double error = 0;           ///< ‖W − Ŵ‖ / ‖W‖ (Frobenius)
  double output_error = 0;    ///< the same of the outputs on the calibration text
  double seconds = 0;
};

struct Compressed {
  std::unique_ptr<model::Transformer<float>> model;  ///< prepared for inference
  std::vector<CompressedMap> maps;                   ///< in linear_maps() order
  audit::DecisionList decisions;
  double predicted_loss = 0;  ///< nats/token of KL
};

/// A copy of a model with every map multiplied out, prepared for inference.
std::unique_ptr<model::Transformer<float>> dense_copy(const model::Transformer<float>& model,
                                                      ThreadPool& pool);

/// The model itself, prepared for inference, if all its maps are dense; else its dense copy.
std::unique_ptr<model::Transformer<float>> into_dense(std::unique_ptr<model::Transformer<float>> model,
                                                      ThreadPool& pool);

/// Throws InputError, saying what to do, for a model that cannot be compressed: one with a quantum layer.
void check_can_compress(const model::ModelConfig& config);

/// A copy of `model` in which maps have the shapes and cores that they have in `source`, a model of the same
/// sizes; prepared for inference.
std::unique_ptr<model::Transformer<float>> with_maps_of(const model::Transformer<float>& model,
                                                        const model::Transformer<float>& source,
                                                        const std::vector<std::string>& maps,
                                                        ThreadPool& pool);

/// Compresses a dense model (as dense_copy makes it). text: what it was calibrated on; empty: no
/// error-correcting targets. Throws InputError for a number of parameters that cannot be reached, saying the
/// smallest that can.
Compressed compress(const model::Transformer<float>& original, const Calibration& calibration,
                    const Sequences& text, const CompressOptions& options, ThreadPool& pool);

}  // namespace qtf::compress
