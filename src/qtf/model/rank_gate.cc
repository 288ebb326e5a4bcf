#include "qtf/model/rank_gate.h"

#include <algorithm>
#include <cmath>

#include "qtf/adapt/gate_signal.h"
#include "qtf/base/error.h"
#include "qtf/kernels/softmax.h"
#include "qtf/kernels/vector.h"
#include "qtf/tensor/svd.h"

namespace qtf::model {

namespace {

// Of the logarithm's argument: losses below it are rounding.
constexpr double kLeastNats = 1e-7;

// Of the mean square of a feature, per token: what a weight must explain to be there.
constexpr double kRidge = 1e-3;

constexpr int64_t kLogitRows = 64;  // logits at once

/// Puts every row of one layer at a level and all other layers at their largest; keeps what the layers get.
class OneLayerDown final : public nn::LevelChooser<float> {
 public:
  OneLayerDown(const RankScheduler& scheduler, int64_t layer, int level)
      : scheduler_(scheduler), layer_(layer), level_(level) {}

  bool governs(int64_t layer) const override { return scheduler_.governs(layer); }
  void choose(const nn::Pass<float>& pass, int64_t layer, const float* entropy, ConstMatrix<float> x,
              uint8_t* levels, Arena&) override {
    const int level = layer == layer_ ? level_ : scheduler_.levels();
    std::fill_n(levels, pass.rows, static_cast<uint8_t>(level));
    if (!inputs) return;
    for (int64_t i = 0; i < pass.rows; ++i) {
      std::vector<float>& row = (*inputs)[static_cast<size_t>(layer)].emplace_back(
          x.data + i * x.row_stride, x.data + i * x.row_stride + x.cols);
      row.push_back(entropy[i]);
    }
  }

  /// [layers][rows][D + 1], the entropy last; null: not asked for.
  std::vector<std::vector<std::vector<float>>>* inputs = nullptr;

 private:
  const RankScheduler& scheduler_;
  int64_t layer_;
  int level_;
};

/// The normal equations of one layer's regression, in double; sums of sequences are added in their order.
struct Equations {
  explicit Equations(int64_t features = 0)
      : size(features),
        gram(static_cast<size_t>(features * features)),
        moment(static_cast<size_t>(features)) {}

  /// f: size numbers, the last of them 1.
  void add(std::span<const double> f, double target) {
    ++tokens, targets += target, squares += target * target;
    for (size_t i = 0; i < f.size(); ++i) {
      moment[i] += f[i] * target;
      for (size_t j = 0; j <= i; ++j) gram[i * f.size() + j] += f[i] * f[j];
    }
  }
  void add(const Equations& other) {
    tokens += other.tokens, targets += other.targets, squares += other.squares;
    for (size_t i = 0; i < gram.size(); ++i) gram[i] += other.gram[i];
    for (size_t i = 0; i < moment.size(); ++i) moment[i] += other.moment[i];
  }

  int64_t size = 0, tokens = 0;
  double targets = 0, squares = 0;
  std::vector<double> gram, moment;
};

/// Weights of the standardised prediction: mean 0 and variance 1 where the targets are explained wholly.
std::vector<int64_t> solve_gate(Equations e) {
  const auto n = static_cast<size_t>(e.size);
  const auto tokens = static_cast<double>(e.tokens);
  const double mean = e.targets / tokens;
  const double deviation = std::sqrt(std::max(1e-12, e.squares / tokens - mean * mean));
  for (size_t i = 0; i < n; ++i) e.moment[i] -= mean * e.gram[(n - 1) * n + i];
  double trace = 0;
  for (size_t i = 0; i < n; ++i) trace += e.gram[i * n + i];
  for (size_t i = 0; i < n; ++i) e.gram[i * n + i] += kRidge * trace / static_cast<double>(n);
  const auto factor = cholesky<double>(ConstMatrix<double>(e.gram.data(), e.size, e.size));
  if (!factor)
    throw_input_error("gate", "the text's tokens are too alike to train a gate on; give more text");
  std::vector<int64_t> weights(n);
  for (size_t i = 0; i < n; ++i) {
    double weight = 0;
    for (size_t k = i; k < n; ++k) {
      double half = 0;
      for (size_t j = 0; j <= k; ++j) half += factor->inverse[k * n + j] * e.moment[j];
      weight += factor->inverse[k * n + i] * half;
    }
    weights[i] = std::llround(weight / deviation / adapt::kGateUnit);
  }
  return weights;
}

/// Passes of one sequence with single layers at a smaller level.
class SequenceGates {
 public:
  SequenceGates(const Transformer<float>& model, const RankScheduler& scheduler, int level)
      : model_(model), scheduler_(scheduler), level_(level) {}

  void add(std::span<const int32_t> tokens, std::vector<Equations>& sums) {
    const ArenaScope scope(arena_);
    const auto layers = static_cast<size_t>(model_.config().layers);
    std::vector<std::vector<std::vector<float>>> inputs(layers);
    const Matrix<float> whole = hidden_of(tokens, -1, &inputs);
    for (size_t layer = 0; layer < layers; ++layer) {
      if (!scheduler_.governs(static_cast<int64_t>(layer))) continue;
      const ArenaScope inner(arena_);
      const std::vector<double> nats =
          divergences(whole, hidden_of(tokens, static_cast<int64_t>(layer), nullptr));
      for (size_t t = 1; t < tokens.size(); ++t)
        sums[layer].add(features(inputs[layer][t]), std::log(nats[t] + kLeastNats));
    }
  }

 private:
  static std::vector<double> features(const std::vector<float>& row) {
    const auto width = static_cast<int64_t>(row.size()) - 1;
    std::vector<double> f(row.begin(), row.end());
    const double scale = adapt::inverse_rms(row.data(), width);
    for (int64_t i = 0; i < width; ++i) f[static_cast<size_t>(i)] *= scale;
    f.push_back(1);
    return f;
  }

  Matrix<float> hidden_of(std::span<const int32_t> tokens, int64_t layer,
                          std::vector<std::vector<std::vector<float>>>* inputs) {
    const auto rows = static_cast<int64_t>(tokens.size());
    const Matrix<float> hidden(arena_.allocate<float>(rows * model_.config().width), rows,
                               model_.config().width);
    OneLayerDown chooser(scheduler_, layer, level_);
    chooser.inputs = inputs;
    model_.hidden_states({tokens, tokens, 1, rows}, chooser, hidden, arena_);
    return hidden;
  }

  /// KL(whole ‖ smaller) of each row's prediction, in nats.
  std::vector<double> divergences(ConstMatrix<float> whole, ConstMatrix<float> smaller) {
    const int64_t vocabulary = model_.config().vocabulary;
    std::vector<double> nats;
    for (int64_t first = 0; first < whole.rows; first += kLogitRows) {
      const ArenaScope scope(arena_);
      const int64_t rows = std::min(kLogitRows, whole.rows - first);
      const auto logits = [&](ConstMatrix<float> hidden) {
        const Matrix<float> of(arena_.allocate<float>(rows * vocabulary), rows, vocabulary);
        model_.logits(hidden.row_block(first, rows), 0, of, arena_);
        return of;
      };
      const Matrix<float> p = logits(whole), q = logits(smaller);
      for (int64_t i = 0; i < rows; ++i) {
        const float of_p = kernels::log_sum_exp<float>(vocabulary, p.row(i));
        const float of_q = kernels::log_sum_exp<float>(vocabulary, q.row(i));
        nats.push_back(std::max(0.0, static_cast<double>(kernels::kl_divergence<float>(
                                         vocabulary, p.row(i), of_p, q.row(i), of_q))));
      }
    }
    return nats;
  }

  const Transformer<float>& model_;
  const RankScheduler& scheduler_;
  int level_;
  Arena arena_;
};

}  // namespace

std::vector<std::vector<int64_t>> train_gates(const Transformer<float>& model,
                                              std::span<const int32_t> tokens, std::span<const int64_t> ends,
                                              int level, ThreadPool& pool) {
  const ModelConfig& config = model.config();
  ModelConfig uncalibrated = config;
  uncalibrated.rank_policy.reset();
  const RankScheduler scheduler(
      uncalibrated, {.policy = {adapt::RankSignal::fixed, level}, .mean = {}, .alpha = {}, .hysteresis = {}});
  // Summed by parts of the text whose number does not depend on the threads'.
  const auto parts = std::min<int64_t>(64, static_cast<int64_t>(ends.size()));
  const auto layers = static_cast<size_t>(config.layers);
  std::vector<std::vector<Equations>> sums(static_cast<size_t>(parts));
  pool.parallel_for(parts, [&](int, Range range) {
    SequenceGates gates(model, scheduler, level);
    for (int64_t part = range.begin; part < range.end; ++part) {
      std::vector<Equations>& own = sums[static_cast<size_t>(part)];
      own.assign(layers, Equations(config.width + 2));
      const Range of =
          split_range(static_cast<int64_t>(ends.size()), static_cast<int>(part), static_cast<int>(parts));
      for (int64_t i = of.begin; i < of.end; ++i) {
        const auto begin = static_cast<size_t>(i > 0 ? ends[static_cast<size_t>(i) - 1] : 0);
        gates.add(tokens.subspan(begin, static_cast<size_t>(ends[static_cast<size_t>(i)]) - begin), own);
      }
    }
  });
  std::vector<std::vector<int64_t>> weights(layers);
  for (size_t layer = 0; layer < layers; ++layer) {
    if (!scheduler.governs(static_cast<int64_t>(layer))) continue;
    Equations all(config.width + 2);
    for (const std::vector<Equations>& part : sums) all.add(part[layer]);
    if (all.tokens == 0)
      throw_input_error("gate", "the text has no sequence of two tokens to train a gate on; give more text");
    weights[layer] = solve_gate(std::move(all));
  }
  return weights;
}

}  // namespace qtf::model
