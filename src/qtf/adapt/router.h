// Which tokens pass the quantum layer: one decision a token, made of its own score and of what was decided
// before it in its sequence, the same in training and in use. Pure functions of integers that return their
// inputs, so that a decision can be recorded, replayed and explained. model/quantum_path.h asks them.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

namespace qtf::adapt {

/// Shares of tokens are integers in parts per million, below this.
inline constexpr int64_t kRouteLimitPpm = 300'000;

struct RouteQuestion {
  int64_t position = 0;       ///< t: of the token in its sequence, from 0
  int64_t routed_before = 0;  ///< of the tokens at 0 … t − 1
  int64_t score = 0;          ///< in 1e-9
  int64_t threshold = 0;      ///< in 1e-9
  int64_t ppm = 0;            ///< the largest share of any prefix that may be routed, in 1e-6
  bool operator==(const RouteQuestion&) const = default;
};

/// A decision with its inputs and both its reasons.
struct RouteDecision {
  RouteQuestion question;
  bool above_threshold = false;  ///< score >= threshold
  bool within_quota = false;     ///< 1e6·(routed_before + 1) <= ppm·(t + 1)
  bool routed = false;           ///< both
  bool operator==(const RouteDecision&) const = default;
};

/// Whatever the scores are, at most ppm·(t + 1)/1e6 of the tokens 0 … t are routed, for every t.
RouteDecision decide_route(const RouteQuestion& question);

/// One line for a record: integers as decimal strings, ASCII keys.
nlohmann::ordered_json to_json(const RouteDecision& decision);

/// What decides beside a token's own numbers. Training moves it along with the weights.
struct RouterState {
  float threshold = 0;
  std::vector<float> entropy_quantiles;  ///< of Ŝ (entropy_distribution.h), K of them
};

/// What one step's tokens tell.
struct RouterObservation {
  int64_t tokens = 0;                  ///< all of them
  std::span<const float> open_scores;  ///< of those for which the quota had room
  std::span<const float> entropies;    ///< of all
};

/// Moves the threshold so that nine tenths of the share `ppm` of all tokens exceed it where the quota has
/// room (elsewhere a score changes nothing; the last tenth would leave no room to be choosy), and the
/// quantiles towards those of the entropies. step: counted from 1; the first takes the step's own figures,
/// later ones move a share of max(1/step, 1/20). A function of the sets of numbers, not of their order.
/// Numbers that are not finite are left out; without any, nothing changes.
void calibrate(int64_t step, int64_t ppm, const RouterObservation& seen, RouterState& state);

}  // namespace qtf::adapt
