// Sums of gradients over workers and ranks, run by run while the backward pass goes on: a worker that is the
// last to finish a block's gradients adds the workers' up and hands the run to a thread that sums over ranks.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

#include "qtf/base/thread_pool.h"
#include "qtf/train/ranks.h"

namespace qtf::train {

class GradientSums {
 public:
  GradientSums(Ranks& ranks, int workers);
  ~GradientSums();
  GradientSums(const GradientSums&) = delete;
  GradientSums& operator=(const GradientSums&) = delete;

  /// A new step's gradients, a buffer a worker; the sums go to the first. runs: what is summed at once, in
  /// the order in which a backward pass finishes them; together, all numbers.
  void begin(std::vector<float*> gradients, std::vector<Range> runs);

  /// This worker's numbers of the next run are final. Any thread; each worker its runs in order.
  void finish_run(int worker);

  /// This worker's numbers of all runs are final.
  void finish(int worker);

  /// Returns when the first buffer holds all sums, those of this step. Throws what the summing threw.
  void wait();

 private:
  void add_workers(Range run);
  void sum_over_ranks(const std::stop_token& stop);

  Ranks& ranks_;
  std::vector<Range> runs_;
  std::vector<float*> gradients_;
  std::vector<size_t> finished_;  // runs, a worker each
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<int> pending_;  // workers, a run each
  std::queue<Range> ready_;
  size_t summed_ = 0;  // runs
  std::exception_ptr error_;
  std::jthread thread_;  // the last member: it uses the others
};

}  // namespace qtf::train
