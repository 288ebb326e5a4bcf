// The ranks that `--ratio` picks: a pure function of integers that returns its inputs beside what it chose
// and what it rejected, so that the choice can be recorded, replayed and explained.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "qtf/model/config.h"

namespace qtf::model {

/// What is asked: weight shapes of one kind for these maps, the whole model within max_parameters.
struct RankQuestion {
  struct Map {
    std::string name;
    int64_t out = 0, in = 0;
    int64_t richness_ppm = 1'000'000;  ///< of the common share that this map may keep, in 1e-6
    bool operator==(const Map&) const = default;
  };
  tt::ShapeKind kind = tt::ShapeKind::chain;
  int64_t max_parameters = 0;
  int levels = 1;                ///< nested ranks of every chain
  bool fixed_gauge = false;      ///< chains are stored with a fixed gauge (tt/gauge.h), and counted so
  int64_t other_parameters = 0;  ///< norms, biases and positions, which are not compressed
  std::vector<Map> maps;

  bool operator==(const RankQuestion&) const = default;
};

/// The answer, with the question. Integers and texts only: replay is exact.
struct RankChoice {
  struct Row {
    std::string shape;  ///< text form
    int64_t parameters = 0;
    std::string rejected;  ///< the shape at the next larger share; the same text where that is no other
    int64_t rejected_parameters = 0;
    bool operator==(const Row&) const = default;
  };
  RankQuestion question;
  int64_t share_ppb = 0;       ///< the common share of dense parameters that a map may keep, in 1e-9
  int64_t next_share_ppb = 0;  ///< the smallest larger share tried: all maps at it would exceed the budget
  int64_t parameters = 0;      ///< of the whole model with these shapes
  std::vector<Row> rows;       ///< a row a map

  bool operator==(const RankChoice&) const = default;
};

/// Finds the largest common share that fits by bisection; then, map after map, takes the next larger share
/// where the budget still allows it. Throws InputError with the smallest reachable count if even rank 1 is
/// too large.
RankChoice choose_ranks(const RankQuestion& question);

/// How much richer than others maps are kept, by map name, in 1e-6.
using Richness = std::map<std::string, int64_t>;

/// From "embedding=1.5,attention=1.2": a part or the end of a map's name, as in `--shape`. Later ones win.
/// Throws InputError for what matches nothing or is not in 0.01 to 100.
Richness parse_richness(const ModelConfig& config, const std::vector<std::string>& requests);

/// Picks ranks so that the whole model has at most 1/ratio of the dense model's parameters, and sets
/// config.shapes. Throws InputError with the largest ratio that can be reached (config is then untouched).
/// Chains count as files store them, with a fixed gauge, and get `levels` nested ranks.
RankChoice apply_ratio(ModelConfig& config, double ratio, tt::ShapeKind kind = tt::ShapeKind::chain,
                       const Richness& richness = {}, int levels = 1);

/// One line for decisions.jsonl: integers as decimal strings, ASCII keys.
nlohmann::ordered_json to_json(const RankChoice& choice);

}  // namespace qtf::model
