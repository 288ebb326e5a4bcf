// Which nested level a token takes in a layer: one decision a token and layer, made after the layer's
// attention from the token's own signal and the level of the token before. Pure functions of integers that
// return their inputs, so that a decision can be recorded, replayed and explained. model/rank_scheduler.h
// asks them.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/adapt/entropy_distribution.h"

namespace qtf::adapt {

/// Levels are numbered 1 (smallest) to at most this.
inline constexpr int kMostLevels = 8;

/// What a policy decides by.
enum class RankSignal : uint8_t {
  fixed,     ///< nothing: every token takes the same level
  entropy,   ///< where the token's attention entropy stands in the layer's distribution
  random,    ///< a draw: as many tokens at each level, any of them (to compare with)
  gate,      ///< what a learned gate expects the token to lose at a smaller level
  output,    ///< the entropy of what the model expected in the token's place
  surprise,  ///< how little the model expected the token itself
  circuit,   ///< the entanglement of the token's own circuit state, after the quantum layer and where it is
             ///< routed; else the attention entropy
};

/// What a signal is taken from, beside the attention's entropy.
enum class RankSource : uint8_t {
  attention,  ///< nothing else
  hidden,     ///< the token's numbers before the block
  output,     ///< the model's output at the token before: a text is then read token by token
  circuit,    ///< the quantum layer's states
};

/// A row of the table of policies.
struct RankPolicyInfo {
  RankSignal signal;
  std::string_view name;     ///< as --rank-policy has it
  std::string_view summary;  ///< for help
  bool calibrated;           ///< needs a distribution measured on a text
  RankSource source = RankSource::attention;
};

/// The signal that is calibrated where no other is asked for: the best that was measured (docs/adaptive.md).
inline constexpr RankSignal kUsualSignal = RankSignal::gate;

/// In RankSignal's order.
const std::vector<RankPolicyInfo>& rank_policies();
const RankPolicyInfo& info(RankSignal signal);

/// A policy by name: "entropy", "random", "fixed:2".
struct RankPolicyChoice {
  RankSignal signal = RankSignal::entropy;
  int level = 0;  ///< of fixed
  bool operator==(const RankPolicyChoice&) const = default;
};

/// A calibrated signal by its name. Throws InputError, naming them all, for another.
RankSignal parse_calibrated_signal(std::string_view name);

/// Names of the calibrated signals, with commas between.
std::string calibrated_signals();

/// Throws InputError for a name that no policy has (with a suggestion), and for fixed without a level from 1
/// to `levels`.
RankPolicyChoice parse_rank_policy(std::string_view text, int levels);

/// Ŝ from which on a token takes the next level: thresholds[k − 1] is between levels k and k + 1. What lies
/// beyond a policy's levels is not read.
using LevelThresholds = std::array<int64_t, kMostLevels - 1>;

struct RankQuestion {
  RankSignal signal = RankSignal::entropy;
  int64_t position = 0;  ///< t: of the token in its sequence, from 0
  int64_t layer = 0;
  int64_t entropy = 0;   ///< the token's attention entropy in the layer, in 1e-9
  int64_t standing = 0;  ///< Ŝ in [0, kUnit]: of the signal in its distribution, or the draw
  int levels = 1;
  int fixed_level = 0;  ///< of the signal `fixed`
  LevelThresholds thresholds{};
  int64_t hysteresis = 0;  ///< how far beyond a threshold Ŝ must be to leave the level of the token before
  int previous = 0;        ///< that level; 0: there is none that was chosen
  uint64_t seed = 0;       ///< of random draws
  bool operator==(const RankQuestion&) const = default;
};

/// A decision with its inputs; all other levels were rejected.
struct RankDecision {
  RankQuestion question;
  int level = 0;
  bool operator==(const RankDecision&) const = default;
};

/// The first token of a sequence, whose attention says nothing, takes the largest level. Of the others, the
/// level is one more than the thresholds that Ŝ reaches; those above the level of the token before count
/// `hysteresis` more, those below so much less. Causal: it asks for nothing that comes later.
RankDecision decide_level(const RankQuestion& question);

/// The standing that `random` gives a token: uniform in [0, kUnit), a function of the seed, the layer, the
/// position and the token's entropy, which differs from sequence to sequence.
int64_t random_standing(uint64_t seed, int64_t layer, int64_t position, int64_t entropy);

/// One line for a record: integers as decimal strings, ASCII keys. With the interval of Ŝ that would have
/// given each rejected level.
nlohmann::ordered_json to_json(const RankDecision& decision);

/// What thresholds are to be solved for.
struct RankGoal {
  int64_t mean = kUnit / 2;  ///< m, the mean rank as a share of the range of ranks, in 1e-9
  /// Each level's place in the range of ranks, in 1e-9: 0 for the smallest, kUnit for the largest, none below
  /// the one before.
  std::vector<int64_t> places;
  /// α, how steeply the rank rises with Ŝ, in 1e-9: the smaller, the nearer all tokens stay to the mean. 0:
  /// such that the mean is m without a shift, which spreads the tokens over all levels.
  int64_t alpha = 0;
  bool operator==(const RankGoal&) const = default;
};

/// The slope where nothing else is asked for. Levels that are more than this share of the range apart are
/// then mixed in twos, the neighbours of the mean: measured better than spreading, because what the small
/// levels lose outweighs what the large ones gain (docs/adaptive.md).
inline constexpr int64_t kUsualAlpha = kUnit / 10;

/// The slope that was measured best for a signal: the gate knows enough to spread tokens over all levels.
constexpr int64_t usual_alpha(RankSignal signal) {
  return signal == RankSignal::gate ? kUnit : kUsualAlpha;
}

struct RankThresholds {
  RankGoal goal;
  int64_t alpha = 0;                ///< of r = r_min + (α·Ŝ + c)·(r_max − r_min), in 1e-9
  int64_t shift = 0;                ///< of all thresholds, so that the mean after rounding is m
  std::vector<int64_t> thresholds;  ///< of Ŝ, in 1e-9, one fewer than levels
  int64_t mean = 0;                 ///< that they give where Ŝ is uniform, as on the calibration text
  bool operator==(const RankThresholds&) const = default;
};

/// Rounding α·Ŝ + c to the nearest level's place puts the thresholds at the middles between places over α,
/// shifted together by what c is worth: until the mean of the rounded places over uniform Ŝ is at most m, and
/// nearest to it. Without an α it is the one with which the mean of min(1, α·Ŝ) is m: 2m up to one half, then
/// 1/(2(1 − m)). Throws InputError for m outside (0, 1), α below 0, under two or over kMostLevels levels, and
/// places that are not in order.
RankThresholds solve_thresholds(const RankGoal& goal);

/// The mean place over uniform Ŝ.
int64_t mean_place(const std::vector<int64_t>& places, const std::vector<int64_t>& thresholds);

/// One line for decisions.jsonl.
nlohmann::ordered_json to_json(const RankThresholds& solved);

}  // namespace qtf::adapt
