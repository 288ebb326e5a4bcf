// One persistent worker a core. Work is split statically by worker number, so that what a worker computes
// depends on the number of threads only, never on timing.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

namespace qtf {

class Profile;

/// A contiguous part of [0, n).
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

/// The part of [0, n) that worker `index` of `count` takes: sizes differ by at most one.
inline Range split_range(int64_t n, int index, int count) {
  return {n * index / count, n * (index + 1) / count};
}

/// Runs a function on every worker at once. The calling thread is worker 0. A job that throws on any worker
/// rethrows the first exception (lowest worker) in the caller, after all workers finished.
class ThreadPool {
 public:
  /// `threads` >= 1; 0 takes the number of cores this process may run on.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  /// How often who waits for a worker polls before it sleeps: 0 where threads outnumber cores.
  int spins() const { return spins_; }

  /// Calls job(worker) for worker = 0 … size()-1, and waits for all.
  void run(const std::function<void(int worker)>& job);

  /// Splits [0, n) evenly over the workers.
  void parallel_for(int64_t n, const std::function<void(int worker, Range range)>& body) {
    run([&](int worker) {
      const Range range = split_range(n, worker, size());
      if (range.size() > 0) body(worker, range);
    });
  }

 private:
  friend class Profile;

  void work(int worker);
  void call(int worker);
  void wait_for_workers();

  int spins_ = 0;
  Profile* profile_ = nullptr;  // base/profile.h, while there is one
  const std::function<void(int)>* job_ = nullptr;
  std::vector<std::exception_ptr> errors_;
  // Each on a cache line of its own: workers poll one while others change the other.
  alignas(64) std::atomic<uint64_t> generation_{0};
  alignas(64) std::atomic<int> pending_{0};
  alignas(64) std::atomic<bool> stop_{false};
  std::vector<std::jthread> threads_;
};

}  // namespace qtf
