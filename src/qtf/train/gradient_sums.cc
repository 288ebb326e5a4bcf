#include "qtf/train/gradient_sums.h"

#include <algorithm>

#include "qtf/kernels/vector.h"

namespace qtf::train {

GradientSums::GradientSums(Ranks& ranks, int workers)
    : ranks_(ranks), finished_(static_cast<size_t>(workers)) {
  thread_ = std::jthread([this](const std::stop_token& stop) { sum_over_ranks(stop); });
}

GradientSums::~GradientSums() = default;

void GradientSums::begin(std::vector<float*> gradients, std::vector<Range> runs) {
  const std::lock_guard lock(mutex_);
  gradients_ = std::move(gradients);
  runs_ = std::move(runs);
  std::ranges::fill(finished_, 0);
  pending_.assign(runs_.size(), static_cast<int>(finished_.size()));
  summed_ = 0;
}

void GradientSums::finish_run(int worker) {
  const size_t run = finished_[static_cast<size_t>(worker)]++;
  {
    const std::lock_guard lock(mutex_);
    if (--pending_[run] > 0) return;
  }
  // No later run can be complete before this worker has finished it too, so runs become ready in their order,
  // the same on every rank.
  add_workers(runs_[run]);
  const std::lock_guard lock(mutex_);
  ready_.push(runs_[run]);
  changed_.notify_all();
}

void GradientSums::finish(int worker) {
  while (finished_[static_cast<size_t>(worker)] < runs_.size()) finish_run(worker);
}

void GradientSums::add_workers(Range run) {
  for (size_t worker = 1; worker < gradients_.size(); ++worker) {
    kernels::add<float>(run.size(), gradients_[worker] + run.begin, gradients_[0] + run.begin);
  }
}

void GradientSums::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return error_ || summed_ == runs_.size(); });
  if (error_) std::rethrow_exception(error_);
}

void GradientSums::sum_over_ranks(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [&] { return !ready_.empty(); })) {
    const Range run = ready_.front();
    ready_.pop();
    float* values = gradients_[0] + run.begin;
    lock.unlock();
    std::exception_ptr error;
    try {
      ranks_.sum(std::span(values, static_cast<size_t>(run.size())));
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    ++summed_;
    if (error) error_ = error;
    changed_.notify_all();
    if (error_) return;
  }
}

}  // namespace qtf::train
