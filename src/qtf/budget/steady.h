// Times that can be compared although the machine's speed changes: every run stands between two runs of a
// fixed product, the reference, and is scaled by it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "qtf/base/aligned.h"
#include "qtf/base/arena.h"
#include "qtf/base/team.h"
#include "qtf/base/thread_pool.h"
#include "qtf/tt/linear_map.h"

namespace qtf::budget {

/// y = W·x for one token and a fixed dense W[1024, 1024], as inference runs it.
class ReferenceProduct {
 public:
  explicit ReferenceProduct(ThreadPool& pool);
  /// Nanoseconds: the median of 3.
  int64_t measure();

 private:
  int64_t once();

  AlignedVector<float> w_, x_, y_;
  std::unique_ptr<tt::LinearMap<float>> map_;
  Team team_;
  std::vector<Arena> arenas_;
};

struct SteadyOptions {
  double most_drift = 0.05;  ///< of the reference from before to after a run: beyond, the run is repeated
  int most_repeats = 3;      ///< a run; then it counts as it is
};

/// Runs things between references.
class SteadyRuns {
 public:
  /// reference_ns: of the machine at the speed that times are scaled to; 0: now.
  SteadyRuns(ThreadPool& pool, int64_t reference_ns, const SteadyOptions& options = {});

  int64_t reference_ns() const { return reference_ns_; }
  int64_t repeated() const { return repeated_; }  ///< runs that were thrown away for drift
  int64_t unsteady() const { return unsteady_; }  ///< runs that drifted each time and count all the same

  /// Calls `run` until the reference stays; returns what its times are to be multiplied by.
  double steady(const std::function<void()>& run);

 private:
  ReferenceProduct reference_;
  SteadyOptions options_;
  int64_t reference_ns_ = 0, last_ = 0;
  int64_t repeated_ = 0, unsteady_ = 0;
};

}  // namespace qtf::budget
