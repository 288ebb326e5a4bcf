#include "qtf/base/arena.h"

#include <algorithm>

namespace qtf {

namespace {
constexpr size_t kAlignment = 64;
constexpr size_t kMinChunk = size_t{1} << 20;
}  // namespace

void* Arena::allocate_bytes(size_t bytes) {
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  while (current_ < chunks_.size() && chunks_[current_].used + bytes > chunks_[current_].size) {
    if (current_ + 1 == chunks_.size()) break;
    ++current_;
  }
  if (chunks_.empty() || chunks_[current_].used + bytes > chunks_[current_].size) {
    const size_t grown = chunks_.empty() ? kMinChunk : 2 * chunks_.back().size;
    const size_t size = std::max(bytes, grown);
    chunks_.push_back({{static_cast<std::byte*>(allocate_aligned(size)), Free{size}}, size, 0});
    current_ = chunks_.size() - 1;
  }
  Chunk& chunk = chunks_[current_];
  void* result = chunk.data.get() + chunk.used;
  chunk.used += bytes;
  in_use_ += bytes;
  peak_ = std::max(peak_, in_use_);
  return result;
}

void Arena::release(Mark mark) {
  if (chunks_.empty()) return;
  for (size_t i = mark.chunk + 1; i < chunks_.size(); ++i) {
    in_use_ -= chunks_[i].used;
    chunks_[i].used = 0;
  }
  in_use_ -= chunks_[mark.chunk].used - mark.used;
  chunks_[mark.chunk].used = mark.used;
  current_ = mark.chunk;
}

}  // namespace qtf
