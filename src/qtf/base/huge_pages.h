// Memory in pages of 2 MB. A decoded token reads every weight once; with pages of 4 KB the processor then
// waits for addresses and its prefetchers stop at every page: 14 GB/s instead of 26 were measured on weights
// beyond the caches. Where the system has no such pages (Linux: transparent_hugepage), this is ordinary
// memory.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace qtf {

/// A block aligned to 64 bytes.
void* allocate_aligned(size_t bytes);
void free_aligned(void* block, size_t bytes) noexcept;

/// The same, but middle-sized blocks share huge pages, whose memory returns when all blocks of a slab (16 MB)
/// are free: for what lives as long as a model. Thread-safe.
void* allocate_shared(size_t bytes);
void free_shared(void* block, size_t bytes) noexcept;

template <class T>
struct SharedPageAllocator {
  using value_type = T;
  SharedPageAllocator() = default;
  template <class U>
  SharedPageAllocator(const SharedPageAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(allocate_shared(n * sizeof(T))); }
  void deallocate(T* p, size_t n) { free_shared(p, n * sizeof(T)); }
  bool operator==(const SharedPageAllocator&) const { return true; }
};

/// Many of them lie end to end in huge pages.
template <class T>
using WeightVector = std::vector<T, SharedPageAllocator<T>>;

}  // namespace qtf
