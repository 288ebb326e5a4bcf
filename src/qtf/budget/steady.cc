#include "qtf/budget/steady.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>

namespace qtf::budget {

namespace {

using Clock = std::chrono::steady_clock;

// 4 MB of weights: beyond a core's own caches, as a model's are.
constexpr int64_t kWidth = 1024;

// References whose median is the machine's speed at the start.
constexpr int kFirstReferences = 9;

tt::WeightShape reference_shape() {
  tt::WeightShape shape;
  shape.out = shape.in = kWidth;
  return shape;
}

}  // namespace

ReferenceProduct::ReferenceProduct(ThreadPool& pool)
    : w_(static_cast<size_t>(kWidth * kWidth)),
      x_(static_cast<size_t>(kWidth), 1.0F),
      y_(static_cast<size_t>(kWidth)),
      map_(tt::make_linear_map<float>(reference_shape())),
      team_(pool),
      arenas_(static_cast<size_t>(pool.size())) {
  const Random random{1, 2};
  for (size_t i = 0; i < w_.size(); ++i) w_[i] = static_cast<float>(random.uniform(i));
  map_->prepare(w_.data(), tt::Use::inference);
}

int64_t ReferenceProduct::once() {
  int64_t ns = 0;
  team_.run([&](TeamMember& member) {
    member.barrier();
    const auto start = Clock::now();
    map_->forward_columns({x_.data(), 1, kWidth}, {y_.data(), 1, kWidth}, 0, member, nullptr,
                          arenas_[static_cast<size_t>(member.index())]);
    member.barrier();
    if (member.index() == 0)
      ns = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
  });
  return ns;
}

int64_t ReferenceProduct::measure() {
  std::array<int64_t, 3> ns{};
  for (int64_t& one : ns) one = once();
  std::sort(ns.begin(), ns.end());
  return std::max<int64_t>(1, ns[ns.size() / 2]);
}

Instruments machine_instruments(ThreadPool& pool) {
  const auto product = std::make_shared<ReferenceProduct>(pool);
  return {[product] { return product->measure(); },
          [] {
            rusage usage{};
            getrusage(RUSAGE_SELF, &usage);
            return static_cast<int64_t>(usage.ru_nivcsw);
          }};
}

SteadyRuns::SteadyRuns(Instruments instruments, int64_t reference_ns, const SteadyOptions& options)
    : instruments_(std::move(instruments)), options_(options), reference_ns_(reference_ns) {
  std::array<int64_t, kFirstReferences> ns{};
  for (int64_t& one : ns) one = instruments_.reference();
  last_ = ns.back();
  std::sort(ns.begin(), ns.end());
  if (reference_ns_ == 0) reference_ns_ = ns[ns.size() / 2];
}

double SteadyRuns::steady(const std::function<void()>& run) {
  for (int repeat = 0;; ++repeat) {
    const int64_t before = last_, interruptions = instruments_.interruptions();
    run();
    const bool interrupted = options_.uninterrupted && instruments_.interruptions() != interruptions;
    last_ = instruments_.reference();
    const double mean = static_cast<double>(before + last_) / 2;
    const bool drifted = static_cast<double>(std::abs(last_ - before)) > options_.most_drift * mean;
    const bool disturbed = drifted || interrupted;
    if (disturbed && repeat < options_.most_repeats) {
      ++repeated_;
      continue;
    }
    unsteady_ += disturbed;
    return static_cast<double>(reference_ns_) / mean;
  }
}

}  // namespace qtf::budget
