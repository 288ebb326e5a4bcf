// Where the time of a program goes: scopes in the code name its parts, and a Profile measures how long every
// worker of a pool is in each. While there is none, a scope costs one look at a thread's pointer.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "qtf/base/thread_pool.h"

namespace qtf {

/// A part of the program, or a part of a part.
struct ProfileRow {
  std::string path;    ///< names from the outermost scope on: "feed-forward/dense, forward"
  int depth = 0;       ///< slashes in the path
  int64_t calls = 0;   ///< by all workers
  double seconds = 0;  ///< of all workers, what lies inside included
  double flops = 0;    ///< told by the scopes, what lies inside included; 0 where they tell none
};

struct ProfileReport {
  double wall_seconds = 0;
  int threads = 0;
  /// Every part before its own parts, else by time. The top level adds up to wall_seconds · threads: it ends
  /// with "other", in no scope, and "waiting", workers without work (for other workers, or for the caller).
  std::vector<ProfileRow> rows;
};

/// One thread's times by scope.
class ProfileTree {
 public:
  using Clock = std::chrono::steady_clock;
  struct Node {
    const char* name = nullptr;
    int parent = -1;
    int64_t calls = 0;
    Clock::duration time{};  ///< in no scope inside
    double flops = 0;
  };

  ProfileTree() : nodes_(1) {}

  void enter(const char* name, double flops);
  void leave();
  /// Starts the clock inside the scopes of `path`; stop() ends all that are open. Between, time counts.
  void start(const std::vector<const char*>& path);
  void stop();

  std::vector<const char*> path() const;
  const std::vector<Node>& nodes() const { return nodes_; }  ///< parents first
  Clock::duration running() const { return Clock::now() - since_; }

 private:
  int child(const char* name);
  void pass_time();

  std::vector<Node> nodes_;
  int current_ = 0;
  Clock::time_point since_{};
};

namespace internal {
inline thread_local constinit ProfileTree* profile_tree = nullptr;
}

/// Names what runs until the end of the block. `name` must outlive the profile (a literal); `flops`: of the
/// work inside, if it is arithmetic worth telling.
class ProfileScope {
 public:
  explicit ProfileScope(const char* name, double flops = 0) : tree_(internal::profile_tree) {
    if (tree_) tree_->enter(name, flops);
  }
  ~ProfileScope() {
    if (tree_) tree_->leave();
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  ProfileTree* tree_;
};

/// What a scope is called in which a worker has nothing to do.
inline constexpr const char* kProfileWaiting = "waiting";

/// Measures the calling thread and the pool's workers from here to its end. One a pool at a time; the pool's
/// jobs must be started by this thread.
class Profile {
 public:
  explicit Profile(ThreadPool& pool);
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  /// Until now. To be called while no job runs.
  ProfileReport report() const;

 private:
  friend class ThreadPool;
  void before_job();       // remembers the caller's scopes
  void start(int worker);  // of a worker's part of a job: within them
  void stop(int worker);

  ThreadPool& pool_;
  std::vector<ProfileTree> trees_;
  std::vector<const char*> path_;
  ProfileTree::Clock::time_point begin_;
};

}  // namespace qtf
