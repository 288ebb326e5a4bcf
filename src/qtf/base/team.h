// Workers of a pool that do one job in step: what any of them wrote before a barrier, all may read after it.
// A decoded token is such a job. Its products take some microseconds each; a barrier after one costs a few
// tenths (two cores), less than starting a job a product.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>

#include "qtf/base/thread_pool.h"

namespace qtf {

class Team;

/// One worker's place in a team.
class TeamMember {
 public:
  /// A team of one: barriers do nothing.
  TeamMember() = default;

  int index() const { return index_; }
  int size() const { return size_; }

  /// Returns when all members have called it.
  void barrier();

  /// This member's part of [0, n), which begins and, but for the last, ends at a multiple of `grain`.
  Range part(int64_t n, int64_t grain = 1) const {
    const Range blocks = split_range((n + grain - 1) / grain, index_, size_);
    return {std::min(n, blocks.begin * grain), std::min(n, blocks.end * grain)};
  }

 private:
  friend class Team;
  TeamMember(Team& team, int index, int size) : team_(&team), index_(index), size_(size) {}

  Team* team_ = nullptr;
  int index_ = 0;
  int size_ = 1;
};

/// Runs jobs in step on a pool's workers. One job at a time.
class Team {
 public:
  explicit Team(ThreadPool& pool) : pool_(pool) {}
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return pool_.size(); }

  /// Calls job(member) on `members` workers at once (0: all, at most size()) and waits; the calling thread is
  /// member 0. All must call barrier() equally often. Where one throws, the others end at their next barrier,
  /// and the exception of the lowest that threw is rethrown here.
  void run(const std::function<void(TeamMember&)>& job, int members = 0);

 private:
  friend class TeamMember;
  struct Abandoned {};  // ends the members that wait for one that threw

  void barrier();
  void abandon();

  ThreadPool& pool_;
  int members_ = 1;
  alignas(64) std::atomic<int> arrived_{0};  // apart from what the waiting poll
  alignas(64) std::atomic<uint32_t> phase_{0};
  std::atomic<bool> abandoned_{false};
};

inline void TeamMember::barrier() {
  if (size_ > 1) team_->barrier();
}

}  // namespace qtf
