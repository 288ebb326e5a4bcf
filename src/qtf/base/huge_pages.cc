#include "qtf/base/huge_pages.h"

#include <sys/mman.h>

#include <cstdint>
#include <map>
#include <mutex>

namespace qtf {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kLargeBlock = 2 * kHugePage;  // from here on a block has pages of its own
constexpr size_t kSlab = size_t{16} << 20;
constexpr size_t kSmallBlock = size_t{64} << 10;  // smaller ones are left to new: small models stay small

void* allocate_large(size_t bytes) {
  void* block = ::operator new (bytes, std::align_val_t{kHugePage});
#ifdef MADV_HUGEPAGE
  // Fails where the kernel has no huge pages; the block is as good without.
  static_cast<void>(madvise(block, bytes / 4096 * 4096, MADV_HUGEPAGE));
#endif
  return block;
}

void free_large(void* block) noexcept {
  ::operator delete (block, std::align_val_t{kHugePage});
}

/// Blocks are cut off the newest slab one after the other, and a slab goes when its last block does.
class Slabs {
 public:
  void* allocate(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    const std::lock_guard lock(mutex_);
    if (!newest_ || used_ + bytes > kSlab) {
      newest_ = static_cast<std::byte*>(allocate_large(kSlab));
      used_ = 0;
      blocks_[newest_] = 0;
    }
    void* block = newest_ + used_;
    used_ += bytes;
    ++blocks_[newest_];
    return block;
  }

  void free(void* block) noexcept {
    const std::lock_guard lock(mutex_);
    const auto slab = --blocks_.upper_bound(static_cast<std::byte*>(block));
    if (--slab->second > 0) return;
    if (slab->first == newest_) newest_ = nullptr;
    free_large(slab->first);
    blocks_.erase(slab);
  }

 private:
  std::mutex mutex_;
  std::byte* newest_ = nullptr;
  size_t used_ = 0;                      // of the newest
  std::map<std::byte*, size_t> blocks_;  // alive, of each slab
};

/// Never destroyed: models may outlive other statics.
Slabs& slabs() {
  static Slabs& instance = *new Slabs;
  return instance;
}

}  // namespace

void* allocate_aligned(size_t bytes) {
  return bytes < kLargeBlock ? ::operator new (bytes, std::align_val_t{64}) : allocate_large(bytes);
}

void free_aligned(void* block, size_t bytes) noexcept {
  bytes < kLargeBlock ? ::operator delete (block, std::align_val_t{64}) : free_large(block);
}

void* allocate_shared(size_t bytes) {
  const bool middle = bytes >= kSmallBlock && bytes < kLargeBlock;
  return middle ? slabs().allocate(bytes) : allocate_aligned(bytes);
}

void free_shared(void* block, size_t bytes) noexcept {
  const bool middle = bytes >= kSmallBlock && bytes < kLargeBlock;
  middle ? slabs().free(block) : free_aligned(block, bytes);
}

}  // namespace qtf
