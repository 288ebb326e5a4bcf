// A bump allocator for activations and scratch: one a worker, sized once, so that a training step or a
// decoded token allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "qtf/base/huge_pages.h"

namespace qtf {

/// Memory that is handed out in order and given back all at once or down to a mark. Grows by adding
/// chunks, never moves what it handed out. Not thread-safe: one arena a thread.
class Arena {
 public:
  /// Where the arena stands; see release().
  struct Mark {
    size_t chunk = 0;
    size_t used = 0;
  };

  Arena() = default;
  Arena(Arena&&) = default;
  Arena& operator=(Arena&&) = default;

  /// `count` uninitialised elements, aligned to 64 bytes.
  template <class T>
  T* allocate(int64_t count) {
    return static_cast<T*>(allocate_bytes(static_cast<size_t>(count) * sizeof(T)));
  }

  Mark mark() const { return {current_, chunks_.empty() ? 0 : chunks_[current_].used}; }

  /// Gives back everything handed out since `mark`.
  void release(Mark mark);

  /// Most bytes ever in use at once.
  size_t peak_bytes() const { return peak_; }

 private:
  struct Free {
    size_t size = 0;
    void operator()(std::byte* p) const { free_aligned(p, size); }
  };
  struct Chunk {
    std::unique_ptr<std::byte, Free> data;
    size_t size = 0;
    size_t used = 0;
  };

  void* allocate_bytes(size_t bytes);

  std::vector<Chunk> chunks_;
  size_t current_ = 0;
  size_t in_use_ = 0;
  size_t peak_ = 0;
};

/// Gives scratch back at the end of a scope.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace qtf
