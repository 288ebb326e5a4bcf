#include "qtf/model/rank_scheduler.h"

#include <algorithm>
#include <numbers>

#include "qtf/adapt/gate_signal.h"
#include "qtf/base/error.h"

namespace qtf::model {

namespace {
constexpr const char* kSchedulerPlace = "rank-policy";

// Of half of 16 qubits, the most that a circuit has: signals are shares of it.
constexpr double kMostCircuitNats = 8 * std::numbers::ln2;

/// Throws InputError for a model that cannot have the signal.
void check_signal(const ModelConfig& config, const RankOptions& options) {
  const adapt::RankPolicyInfo& policy = adapt::info(options.policy.signal);
  if (policy.source == adapt::RankSource::circuit && !config.quantum)
    throw_input_error(kSchedulerPlace,
                      "this model has no quantum layer, so no circuit whose states could say "
                      "what {} asks for; choose another policy",
                      policy.name);
  const bool fits = config.rank_policy && quantiles_for(*config.rank_policy, 0, policy.signal);
  if (policy.calibrated && !fits)
    throw_input_error(kSchedulerPlace,
                      "this model is not calibrated for the policy {}; do it once with qtf calibrate MODEL "
                      "--text FILE --signal {}",
                      policy.name, policy.name);
}

}  // namespace

adapt::RankPolicyChoice own_policy(const ModelConfig& config) {
  return {config.rank_policy ? config.rank_policy->signal : adapt::kUsualSignal, 0};
}

RankScheduler::RankScheduler(const ModelConfig& config, const RankOptions& options)
    : options_(options), levels_(level_count(config)), stored_(config.rank_policy) {
  layers_.resize(static_cast<size_t>(config.layers));
  bool any = false;
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    places_.push_back(level_places(config, layer));
    if (places_.back().empty()) continue;
    layers_[static_cast<size_t>(layer)].levels = levels_;
    any = true;
  }
  if (!any) {
    throw_input_error(kSchedulerPlace,
                      "this model's feed-forward layers have no nested levels to choose from; make them with "
                      "qtf compress --levels 1.5,2,3,4 or qtf train --levels 4");
  }
  if (levels_ > adapt::kMostLevels)
    throw_input_error(kSchedulerPlace, "a policy picks among at most {} levels, this model has {}",
                      adapt::kMostLevels, levels_);
  check_signal(config, options);
  const adapt::RankPolicyInfo& info = adapt::info(options.policy.signal);
  const bool fits = stored_ && quantiles_for(*stored_, 0, options.policy.signal);
  // `random` compares with the model's own policy: at its slope.
  const bool own_slope = stored_ && (stored_->signal == options.policy.signal || !info.calibrated);
  alpha_ = options.alpha.value_or(own_slope ? stored_->alpha : adapt::usual_alpha(options.policy.signal));
  hysteresis_ = options.hysteresis.value_or(fits ? stored_->hysteresis : 0);
  for (size_t layer = 0; layer < layers_.size() && fits; ++layer) {
    const RankPolicy::Layer& of = stored_->layers[layer];
    layers_[layer].distribution.quantiles = *quantiles_for(*stored_, layer, options.policy.signal);
    layers_[layer].circuit.quantiles = of.circuit;
    layers_[layer].gate = of.gate;
  }
  set_mean(options.mean.value_or(stored_ ? stored_->mean : adapt::kUnit / 2));
}

void RankScheduler::set_mean(int64_t mean) {
  const bool as_stored = stored_ && stored_->mean == mean && stored_->alpha == alpha_;
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    if (layers_[layer].levels == 0) continue;
    const std::vector<int64_t> thresholds =
        as_stored ? stored_->layers[layer].thresholds
                  : adapt::solve_thresholds({mean, places_[layer], alpha_}).thresholds;
    std::copy(thresholds.begin(), thresholds.end(), layers_[layer].thresholds.begin());
  }
  mean_ = mean;
}

void RankScheduler::set_quantiles(const std::vector<std::vector<int64_t>>& quantiles) {
  for (size_t layer = 0; layer < layers_.size(); ++layer)
    layers_[layer].distribution = adapt::repaired(quantiles[layer]);
}

template <class T>
int64_t RankScheduler::signal(const RankedToken<T>& token) const {
  switch (options_.policy.signal) {
    case adapt::RankSignal::gate:
      return adapt::to_units(
          adapt::gate_signal<T>(layers_[static_cast<size_t>(token.layer)].gate, token.x, token.entropy));
    case adapt::RankSignal::output:
    case adapt::RankSignal::surprise:
      return adapt::to_units(token.hint);
    case adapt::RankSignal::circuit:
      return token.circuit_nats > 0 ? adapt::to_units(token.circuit_nats / kMostCircuitNats) : -1;
    default:
      return adapt::to_units(token.entropy);
  }
}

int64_t RankScheduler::standing(int64_t layer, int64_t position, double entropy, int64_t signal) const {
  const Layer& of = layers_[static_cast<size_t>(layer)];
  switch (options_.policy.signal) {
    case adapt::RankSignal::fixed:
      return 0;
    case adapt::RankSignal::random:
      return adapt::random_standing(options_.seed, layer, position, adapt::to_units(entropy));
    case adapt::RankSignal::circuit:
      if (signal >= 0 && !of.circuit.quantiles.empty()) return adapt::rank_of(of.circuit, signal);
      return adapt::rank_of(of.distribution, adapt::to_units(entropy));
    default:
      return adapt::rank_of(of.distribution, signal);
  }
}

adapt::RankDecision RankScheduler::decide(int64_t layer, int64_t position, int64_t standing, int previous,
                                          int64_t entropy) const {
  const Layer& of = layers_[static_cast<size_t>(layer)];
  return adapt::decide_level({.signal = options_.policy.signal,
                              .position = position,
                              .layer = layer,
                              .entropy = entropy,
                              .standing = standing,
                              .levels = of.levels,
                              .fixed_level = options_.policy.level,
                              .thresholds = of.thresholds,
                              .hysteresis = hysteresis_,
                              .previous = previous,
                              .seed = options_.seed});
}

template <class T>
RankedPass<T>::RankedPass(const Levels& levels, std::span<const nn::Segment<T>> segments)
    : scheduler_(*levels.scheduler), segments_(segments), chosen_(levels.chosen), signals_(levels.signals) {
  for (const nn::Segment<T>& segment : segments) rows_ = segment.row + segment.rows;
}

template <class T>
void RankedPass<T>::take_slice(Range slice, std::span<const int64_t> places, int64_t* shared_standing) {
  slice_ = slice, places_ = places, shared_standing_ = shared_standing;
}

template <class T>
int64_t RankedPass<T>::place(const nn::Pass<T>& pass, size_t segment) const {
  return shared_standing_ ? places_[segment] : pass.segments[segment].row;
}

/// Rows of a segment, counted in the segment; standing and levels: of the first of them.
template <class T>
void RankedPass<T>::decide(int64_t layer, const nn::Segment<T>& segment, Range rows, const int64_t* standing,
                           uint8_t* levels) const {
  const int64_t first = segment.position + rows.begin;
  // What the first token of a sequence takes is not chosen, and so nothing to stay at.
  int previous =
      scheduler_.sequential() && first > 1 && segment.cache ? segment.cache->level(layer, first - 1) : 0;
  for (int64_t i = 0; i < rows.size(); ++i) {
    const int64_t position = first + i;
    const int level = scheduler_.decide(layer, position, standing[i], previous).level;
    levels[i] = static_cast<uint8_t>(level);
    previous = position > 0 && scheduler_.sequential() ? level : 0;
  }
}

/// All members decide for the whole slice, each by itself: a level asks for the one before.
template <class T>
void RankedPass<T>::decide_slice(const nn::Pass<T>& pass, int64_t layer, uint8_t* levels,
                                 Arena& arena) const {
  auto* all = arena.allocate<uint8_t>(slice_.size());
  for (const nn::Segment<T>& segment : segments_) {
    const int64_t begin = std::max(slice_.begin, segment.row);
    const int64_t end = std::min(slice_.end, segment.row + segment.rows);
    if (begin >= end) continue;
    decide(layer, segment, {begin - segment.row, end - segment.row}, shared_standing_ + begin,
           all + begin - slice_.begin);
  }
  for (size_t s = 0; s < pass.segments.size(); ++s)
    std::copy_n(all + places_[s] - slice_.begin, pass.segments[s].rows, levels + pass.segments[s].row);
}

/// The i-th row of a segment.
template <class T>
RankedToken<T> RankedPass<T>::seen(const nn::Pass<T>& pass, int64_t layer, size_t segment, int64_t i,
                                   const T* entropy, ConstMatrix<T> x) const {
  const nn::Segment<T>& of = pass.segments[segment];
  RankedToken<T> token{.layer = layer,
                       .position = of.position + i,
                       .entropy = static_cast<double>(entropy[of.row + i]),
                       .x = x.data + (of.row + i) * x.row_stride};
  if (scheduler_.asks_output() && of.cache) token.hint = static_cast<double>(of.cache->hint(token.position));
  if (circuit_nats_ && pass.middle && layer > pass.middle_layer)
    token.circuit_nats = static_cast<double>(circuit_nats_[place(pass, segment) + i]);
  return token;
}

template <class T>
void RankedPass<T>::choose(const nn::Pass<T>& pass, int64_t layer, const T* entropy, ConstMatrix<T> x,
                           uint8_t* levels, Arena& arena) {
  const bool in_slices = shared_standing_ && scheduler_.sequential();
  int64_t* standing = shared_standing_ ? shared_standing_ : arena.allocate<int64_t>(pass.rows);
  for (size_t s = 0; s < pass.segments.size(); ++s) {
    const nn::Segment<T>& segment = pass.segments[s];
    int64_t* to = standing + place(pass, s);
    const bool tells = signals_ && (!pass.team || shared_standing_ || pass.team->index() == 0);
    for (int64_t i = 0; i < segment.rows; ++i) {
      const RankedToken<T> token = seen(pass, layer, s, i, entropy, x);
      const int64_t signal = scheduler_.signal(token);
      to[i] = scheduler_.standing(layer, token.position, token.entropy, signal);
      if (tells) signals_[layer * rows_ + place(pass, s) + i] = signal;
    }
    if (!in_slices) decide(layer, segment, {0, segment.rows}, to, levels + segment.row);
  }
  if (in_slices) {
    if (pass.team) pass.team->barrier();
    decide_slice(pass, layer, levels, arena);
  }
  keep(pass, layer, levels);
}

template <class T>
void RankedPass<T>::keep(const nn::Pass<T>& pass, int64_t layer, const uint8_t* levels) const {
  const bool all_see_all = pass.team && !shared_standing_;
  if (all_see_all && pass.team->index() != 0) return;
  for (size_t s = 0; s < pass.segments.size(); ++s) {
    const nn::Segment<T>& segment = pass.segments[s];
    const uint8_t* of = levels + segment.row;
    if (chosen_) std::copy_n(of, segment.rows, chosen_ + layer * rows_ + place(pass, s));
    for (int64_t i = 0; segment.cache && i < segment.rows; ++i)
      segment.cache->keep_level(layer, segment.position + i, of[i]);
  }
}

template int64_t RankScheduler::signal<float>(const RankedToken<float>&) const;
template int64_t RankScheduler::signal<double>(const RankedToken<double>&) const;
template class RankedPass<float>;
template class RankedPass<double>;

}  // namespace qtf::model
