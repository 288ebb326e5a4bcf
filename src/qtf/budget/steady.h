// Times that can be compared although the machine's speed changes: every run stands between two runs of a
// fixed product, the reference, and is scaled by it; a run that something else disturbed is repeated.
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
  /// A run is repeated, too, if a processor was taken from one of the program's threads meanwhile: what it
  /// then took is another program's time.
  bool uninterrupted = false;
};

/// What the machine is asked; tests answer themselves.
struct Instruments {
  std::function<int64_t()> reference;      ///< nanoseconds of the reference product, now
  std::function<int64_t()> interruptions;  ///< how often a processor was taken from this program so far
};

/// The reference product on the pool, and the system's count of involuntary switches of all threads.
Instruments machine_instruments(ThreadPool& pool);

/// Runs things between references.
class SteadyRuns {
 public:
  /// reference_ns: of the machine at the speed that times are scaled to; 0: now.
  SteadyRuns(Instruments instruments, int64_t reference_ns, const SteadyOptions& options = {});
  SteadyRuns(ThreadPool& pool, int64_t reference_ns, const SteadyOptions& options = {})
      : SteadyRuns(machine_instruments(pool), reference_ns, options) {}

  int64_t reference_ns() const { return reference_ns_; }
  int64_t repeated() const { return repeated_; }  ///< runs that were thrown away as disturbed
  int64_t unsteady() const { return unsteady_; }  ///< runs disturbed each time, which count all the same

  /// Calls `run` until nothing disturbs it; returns what its times are to be multiplied by.
  double steady(const std::function<void()>& run);

 private:
  Instruments instruments_;
  SteadyOptions options_;
  int64_t reference_ns_ = 0, last_ = 0;
  int64_t repeated_ = 0, unsteady_ = 0;
};

}  // namespace qtf::budget
