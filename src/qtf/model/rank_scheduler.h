// The rank scheduler: after a block's attention every token gets a level for the block's output projection
// and feed-forward layer (adapt/rank_policy.h). The same code decides in training, evaluation, prompts and
// decoding.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "qtf/adapt/rank_policy.h"
#include "qtf/base/thread_pool.h"
#include "qtf/model/config.h"
#include "qtf/nn/block.h"

namespace qtf::model {

struct RankOptions {
  adapt::RankPolicyChoice policy;
  std::optional<int64_t> mean;        ///< in 1e-9; none: the stored policy's, or one half
  std::optional<int64_t> alpha;       ///< in 1e-9; none: the stored policy's, or usual_alpha
  std::optional<int64_t> hysteresis;  ///< in 1e-9; none: the stored policy's, or 0
  uint64_t seed = 1;                  ///< of `random`
};

/// What a policy may see of a token in a layer.
template <class T>
struct RankedToken {
  int64_t layer = 0, position = 0;
  double entropy = 0;       ///< the attention's, in [0, 1]
  const T* x = nullptr;     ///< the block's input, D numbers
  double hint = 0;          ///< of the output at the token before, in [0, 1] (model/output_signal.h)
  double circuit_nats = 0;  ///< entanglement of its circuit state; 0: not routed, or no circuit before it
};

/// The policy that a model was calibrated for; the usual signal's where it was not.
adapt::RankPolicyChoice own_policy(const ModelConfig& config);

/// One model's policy, ready to decide. Const members may run on many threads.
class RankScheduler {
 public:
  /// Throws InputError for a model without levels after its attention, for a mean rank out of range, and for
  /// a signal that the model was not calibrated for, saying how to do it.
  RankScheduler(const ModelConfig& config, const RankOptions& options);

  /// Another mean rank from now on. Throws InputError for one out of range.
  void set_mean(int64_t mean);

  /// Other distributions of the signal from now on, a layer each: distributions move while a model learns.
  void set_quantiles(const std::vector<std::vector<int64_t>>& quantiles);

  const RankOptions& options() const { return options_; }
  int levels() const { return levels_; }
  int64_t mean() const { return mean_; }
  int64_t alpha() const { return alpha_; }
  int64_t hysteresis() const { return hysteresis_; }
  /// Whether decisions ask for the level of the token before.
  bool sequential() const { return hysteresis_ > 0; }
  /// Whether a level changes anything in this block.
  bool governs(int64_t layer) const { return layers_[static_cast<size_t>(layer)].levels > 0; }
  /// The levels' places in the block's range of ranks; empty where it does not govern.
  const std::vector<int64_t>& places(int64_t layer) const { return places_[static_cast<size_t>(layer)]; }

  /// Whether decisions ask for the model's output at the token before (model/output_signal.h), or for the
  /// entanglement of circuit states.
  bool asks_output() const { return source() == adapt::RankSource::output; }
  bool asks_circuit() const { return source() == adapt::RankSource::circuit; }

  /// The signal of a token in a governed block, in 1e-9; of `circuit` -1 where it falls back to the
  /// attention's entropy.
  template <class T>
  int64_t signal(const RankedToken<T>& token) const;

  /// Ŝ of a token's signal, or its draw.
  template <class T>
  int64_t standing(const RankedToken<T>& token) const {
    return standing(token.layer, token.position, token.entropy, signal(token));
  }
  int64_t standing(int64_t layer, int64_t position, double entropy, int64_t signal) const;

  /// The decision for a token; previous: the level of the token before, 0: none was chosen.
  adapt::RankDecision decide(int64_t layer, int64_t position, int64_t standing, int previous,
                             int64_t entropy = 0) const;

 private:
  struct Layer {
    int levels = 0;  ///< 0: not governed
    adapt::EntropyDistribution distribution;
    adapt::EntropyDistribution circuit;  ///< of routed tokens
    std::vector<int64_t> gate;           ///< see RankPolicy::Layer
    adapt::LevelThresholds thresholds{};
  };

  adapt::RankSource source() const { return adapt::info(options_.policy.signal).source; }

  RankOptions options_;
  int levels_ = 1;
  int64_t mean_ = 0, alpha_ = 0, hysteresis_ = 0;
  std::vector<std::vector<int64_t>> places_;
  std::vector<Layer> layers_;
  std::optional<RankPolicy> stored_;
};

/// Which nested levels a pass runs: one for all maps, or a scheduler's for those that it governs and one for
/// the others.
struct Levels {
  Levels(int level_ = 0) : level(level_) {}  // NOLINT: a number is a choice
  Levels(int level_, const RankScheduler* scheduler_, uint8_t* chosen_ = nullptr, int64_t* signals_ = nullptr)
      : level(level_), scheduler(scheduler_), chosen(chosen_), signals(signals_) {}

  int level = 0;  ///< 0: the largest
  const RankScheduler* scheduler = nullptr;
  /// [layers, rows of the pass]: what each token took, where the scheduler governs; null: not asked for.
  uint8_t* chosen = nullptr;
  int64_t* signals = nullptr;  ///< the same of RankScheduler::signal()
};

/// The scheduling of one pass by one thread, or by each member of a team.
template <class T>
class RankedPass final : public nn::LevelChooser<T> {
 public:
  /// segments: all of the pass; they and what `levels` points to must outlive it. Unless take_slice is
  /// called, the thread, or every member of the team, sees all rows.
  RankedPass(const Levels& levels, std::span<const nn::Segment<T>> segments);

  /// For a team whose members each have rows of their own: of the pass' rows `slice`, this member's segments
  /// begin at `places`. shared_standing[rows of the pass] is the team's.
  void take_slice(Range slice, std::span<const int64_t> places, int64_t* shared_standing);

  /// circuit_nats[rows of the pass]: what the quantum layer tells, where the scheduler asks for it.
  void take_circuit(const T* circuit_nats) { circuit_nats_ = circuit_nats; }

  bool governs(int64_t layer) const override { return scheduler_.governs(layer); }
  void choose(const nn::Pass<T>& pass, int64_t layer, const T* entropy, ConstMatrix<T> x, uint8_t* levels,
              Arena& arena) override;

 private:
  int64_t place(const nn::Pass<T>& pass, size_t segment) const;
  RankedToken<T> seen(const nn::Pass<T>& pass, int64_t layer, size_t segment, int64_t i, const T* entropy,
                      ConstMatrix<T> x) const;
  void decide(int64_t layer, const nn::Segment<T>& segment, Range rows, const int64_t* standing,
              uint8_t* levels) const;
  void decide_slice(const nn::Pass<T>& pass, int64_t layer, uint8_t* levels, Arena& arena) const;
  void keep(const nn::Pass<T>& pass, int64_t layer, const uint8_t* levels) const;

  const RankScheduler& scheduler_;
  std::span<const nn::Segment<T>> segments_;
  uint8_t* chosen_;
  int64_t* signals_;
  const T* circuit_nats_ = nullptr;
  int64_t rows_ = 0;  // of the pass
  Range slice_;
  std::span<const int64_t> places_;
  int64_t* shared_standing_ = nullptr;
};

}  // namespace qtf::model
