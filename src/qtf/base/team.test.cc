#include "qtf/base/team.h"

#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

namespace qtf {
namespace {

/// As many threads as cores, which spin, and more, which sleep.
std::vector<int> team_sizes() {
  return {1, 2, 2 * ThreadPool(0).size() + 1};
}

TEST(TeamMember, PartsCoverAllInOrderAndBeginAtTheGrain) {
  for (const int threads : team_sizes()) {
    ThreadPool pool(threads);
    Team team(pool);
    for (const int64_t n : {0, 1, 15, 16, 17, 100, 704}) {
      for (const int64_t grain : {1, 16}) {
        std::vector<Range> parts(static_cast<size_t>(threads));
        team.run([&](TeamMember& member) {
          EXPECT_EQ(member.size(), threads);
          parts[static_cast<size_t>(member.index())] = member.part(n, grain);
        });
        int64_t next = 0;
        for (const Range& part : parts) {
          EXPECT_EQ(part.begin, next);
          EXPECT_TRUE(part.begin % grain == 0 || part.begin == n);
          EXPECT_LE(part.size(), n / threads + grain);
          next = part.end;
        }
        EXPECT_EQ(next, n);
      }
    }
  }
}

TEST(TeamMember, AloneHasAllAndWaitsForNobody) {
  TeamMember alone;
  EXPECT_EQ(alone.size(), 1);
  EXPECT_EQ(alone.part(7, 16).size(), 7);
  alone.barrier();
}

// Each member reads what its neighbour wrote in the step before; a barrier that lets one through early shows.
TEST(Team, WhatWasWrittenBeforeABarrierIsSeenAfterIt) {
  for (const int threads : team_sizes()) {
    ThreadPool pool(threads);
    Team team(pool);
    std::vector<int64_t> values(static_cast<size_t>(threads));
    constexpr int64_t kSteps = 2000;
    std::atomic<int64_t> wrong = 0;
    team.run([&](TeamMember& member) {
      const auto mine = static_cast<size_t>(member.index()), next = (mine + 1) % values.size();
      for (int64_t step = 1; step <= kSteps; ++step) {
        values[mine] = step;
        member.barrier();
        wrong += values[next] != step;
        member.barrier();
      }
    });
    EXPECT_EQ(wrong, 0) << threads;
  }
}

TEST(Team, RunsOnFewerMembersThanThePoolHas) {
  ThreadPool pool(4);
  Team team(pool);
  for (const int members : {1, 3, 4, 0}) {
    std::atomic<int> calls = 0;
    team.run(
        [&](TeamMember& member) {
          EXPECT_EQ(member.size(), members ? members : 4);
          member.barrier();
          ++calls;
        },
        members);
    EXPECT_EQ(calls, members ? members : 4);
  }
}

TEST(Team, OneThatThrowsEndsTheOthersAndTheNextJobRuns) {
  for (const int threads : team_sizes()) {
    ThreadPool pool(threads);
    Team team(pool);
    for (int repeat = 0; repeat < 20; ++repeat) {
      try {
        team.run([&](TeamMember& member) {
          member.barrier();
          if (member.index() == threads - 1) throw std::runtime_error("last");
          if (repeat % 2) std::this_thread::sleep_for(std::chrono::microseconds(100));
          member.barrier();
          member.barrier();
          if (threads > 1) ADD_FAILURE() << "passed a barrier that not all reached";
        });
        FAIL() << "nothing thrown";
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "last");
      }
      std::atomic<int> calls = 0;
      team.run([&](TeamMember& member) {
        member.barrier();
        ++calls;
      });
      EXPECT_EQ(calls, threads);
    }
  }
}

}  // namespace
}  // namespace qtf
