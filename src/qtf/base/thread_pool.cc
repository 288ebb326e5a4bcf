#include "qtf/base/thread_pool.h"

#include <sched.h>

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/base/profile.h"
#include "qtf/base/spin_wait.h"

namespace qtf {

namespace {

// A decoded token starts hundreds of jobs of some microseconds each, so workers spin for about that long
// before they sleep; sleeping costs the next job a wake-up of ~50 us. Where threads outnumber cores, who
// spins only keeps the others from working.
constexpr int kSpins = 20000;

int cores_available() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  if (threads < 0 || threads > 1024) {
    throw_input_error("threads", "expected 0 (all cores) to 1024, got {}", threads);
  }
  const int cores = std::max(1, cores_available());
  if (threads == 0) threads = cores;
  spins_ = threads <= cores ? kSpins : 0;
  errors_.resize(static_cast<size_t>(threads));
  for (int worker = 1; worker < threads; ++worker) {
    threads_.emplace_back([this, worker] { work(worker); });
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
}

void ThreadPool::call(int worker) {
  const bool measured = profile_ && worker > 0;  // the caller is measured all the time
  if (measured) profile_->start(worker);
  try {
    (*job_)(worker);
  } catch (...) {
    errors_[static_cast<size_t>(worker)] = std::current_exception();
  }
  if (measured) profile_->stop(worker);
}

void ThreadPool::work(int worker) {
  uint64_t seen = 0;
  while (true) {
    wait_while_equal(generation_, seen, spins_);
    seen = generation_.load(std::memory_order_acquire);
    if (stop_) return;
    call(worker);
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) pending_.notify_one();
  }
}

void ThreadPool::wait_for_workers() {
  const ProfileScope scope(kProfileWaiting);
  for (int left = pending_.load(); left != 0; left = pending_.load())
    wait_while_equal(pending_, left, spins_);
}

void ThreadPool::run(const std::function<void(int)>& job) {
  job_ = &job;
  if (profile_) profile_->before_job();
  for (auto& error : errors_) error = nullptr;
  pending_.store(static_cast<int>(threads_.size()), std::memory_order_release);
  if (!threads_.empty()) {
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
  }
  call(0);
  wait_for_workers();
  for (auto& error : errors_) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace qtf
