#include "qtf/base/thread_pool.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "qtf/base/error.h"

namespace qtf {
namespace {

TEST(SplitRange, CoversAllInOrderAndEvenly) {
  for (int64_t n : {0, 1, 5, 64, 1001}) {
    for (int count : {1, 2, 3, 7, 64}) {
      int64_t next = 0;
      for (int i = 0; i < count; ++i) {
        const Range range = split_range(n, i, count);
        EXPECT_EQ(range.begin, next);
        EXPECT_GE(range.size(), n / count);
        EXPECT_LE(range.size(), n / count + 1);
        next = range.end;
      }
      EXPECT_EQ(next, n);
    }
  }
}

TEST(ThreadPool, CallsEveryWorkerOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    std::vector<int> calls(static_cast<size_t>(threads));
    pool.run([&](int worker) { ++calls[static_cast<size_t>(worker)]; });
    EXPECT_EQ(calls, std::vector<int>(static_cast<size_t>(threads), 1));
  }
}

TEST(ThreadPool, ZeroTakesTheCores) {
  EXPECT_GE(ThreadPool(0).size(), 1);
}

TEST(ThreadPool, RefusesImpossibleSizes) {
  EXPECT_THROW(ThreadPool(-1), InputError);
  EXPECT_THROW(ThreadPool(1025), InputError);
}

TEST(ThreadPool, ManyTinyJobsLoseNothing) {
  for (int threads :
       {2, 2 * std::max(1, ThreadPool(0).size())}) {  // workers that spin, and workers that sleep
    ThreadPool pool(threads);
    std::vector<int64_t> counts(static_cast<size_t>(threads));
    for (int job = 0; job < 5000; ++job) pool.run([&](int worker) { ++counts[static_cast<size_t>(worker)]; });
    EXPECT_EQ(counts, std::vector<int64_t>(counts.size(), 5000));
  }
}

TEST(ThreadPool, SleepingWorkersWakeUp) {
  ThreadPool pool(2);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // longer than workers spin
    std::atomic<int> calls = 0;
    pool.run([&](int) { ++calls; });
    EXPECT_EQ(calls, 2);
  }
}

// Partial sums per worker, added in worker order: the same bits however the threads are timed.
double sum_of_roots(ThreadPool& pool, bool delays) {
  std::vector<double> partial(static_cast<size_t>(pool.size()));
  pool.parallel_for(10001, [&](int worker, Range range) {
    if (delays) std::this_thread::sleep_for(std::chrono::milliseconds(worker % 2));
    for (int64_t i = range.begin; i < range.end; ++i) {
      partial[static_cast<size_t>(worker)] += std::sqrt(static_cast<double>(i));
    }
  });
  return std::accumulate(partial.begin(), partial.end(), 0.0);
}

TEST(ThreadPool, ResultsDoNotDependOnTiming) {
  ThreadPool pool(4);
  const double first = sum_of_roots(pool, false);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(sum_of_roots(pool, i % 2 == 0), first);
}

TEST(ThreadPool, ParallelForSkipsEmptyParts) {
  ThreadPool pool(4);
  std::atomic<int> calls = 0;
  pool.parallel_for(2, [&](int, Range range) { calls += static_cast<int>(range.size()) == 1; });
  EXPECT_EQ(calls, 2);
  pool.parallel_for(0, [&](int, Range) { ++calls; });
  EXPECT_EQ(calls, 2);
}

TEST(ThreadPool, RethrowsTheLowestWorkersErrorAfterAllFinished) {
  ThreadPool pool(4);
  std::atomic<int> finished = 0;
  const auto job = [&](int worker) {
    ++finished;
    if (worker != 0) throw std::runtime_error(std::to_string(worker));
  };
  try {
    pool.run(job);
    FAIL() << "nothing thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "1");
  }
  EXPECT_EQ(finished, 4);
  EXPECT_NO_THROW(pool.run([](int) {})) << "the error of one job must not reach the next";
}

}  // namespace
}  // namespace qtf
