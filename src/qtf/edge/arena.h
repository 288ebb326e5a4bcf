// The caller's memory, handed out from its begin. An arena without memory counts what is asked of it: one and
// the same layout says how much is needed and lays things out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "qtf/edge/format.h"

namespace qtf::edge {

class Arena {
 public:
  /// Counts only.
  Arena() = default;
  /// memory: of any alignment.
  Arena(void* memory, size_t bytes) : begin_(reinterpret_cast<uintptr_t>(memory)), size_(bytes), real_(true) {
    used_ = (kAlignment - begin_ % kAlignment) % kAlignment;
  }

  /// Room for `count` things, aligned to kAlignment; null where the memory does not reach, and where there is
  /// none.
  template <class T>
  T* take(int64_t count) {
    const uint64_t at = used_;
    used_ += (static_cast<uint64_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return real_ && used_ <= size_ ? reinterpret_cast<T*>(begin_ + static_cast<uintptr_t>(at)) : nullptr;
  }

  /// Bytes asked for so far; of an arena that counts, with what aligning unaligned memory may take. More than
  /// any arena has where a processor of 32 bits cannot say it.
  size_t used() const {
    const uint64_t all = real_ ? used_ : used_ + kAlignment - 1;
    return all > SIZE_MAX ? SIZE_MAX : static_cast<size_t>(all);
  }
  bool enough() const { return !real_ || used_ <= size_; }

 private:
  uintptr_t begin_ = 0;
  uint64_t size_ = 0, used_ = 0;
  bool real_ = false;
};

}  // namespace qtf::edge
