// Times of a model's linear maps one by one, as inference runs them: few tokens by a team's columns, many by
// rows. Execution plans and cost tables are made from them.
#pragma once

#include <cstdint>
#include <vector>

#include "qtf/base/arena.h"
#include "qtf/base/team.h"
#include "qtf/model/transformer.h"

namespace qtf::model {

class MapTimer {
 public:
  /// maps: numbers in linear_maps() order. model and pool must outlive it.
  MapTimer(const Transformer<float>& model, std::vector<size_t> maps, ThreadPool& pool);

  /// Nanoseconds of each map in one pass through all of them in order, so that weights come from where they
  /// would in use. `model` is prepared for inference, of the same sizes as the constructor's, and its maps
  /// need no more shared numbers than those.
  std::vector<int64_t> pass(const Transformer<float>& model, int level, int64_t tokens);

 private:
  void run(const nn::Linear<float>& linear, int level, int64_t tokens, TeamMember& member, Arena& scratch);

  std::vector<size_t> maps_;
  Team team_;
  std::vector<Arena> arenas_;
  AlignedVector<float> x_, y_, shared_;
};

/// Maps that a pass of tokens runs: all but an embedding that is only looked up.
std::vector<size_t> maps_run(const Transformer<float>& model);

}  // namespace qtf::model
