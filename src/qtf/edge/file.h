// An edge file that was checked: sizes fit each other, and everything that a record names lies in the file.
// Whoever has a File may follow its records without looking again.
#pragma once

#include "qtf/edge/format.h"
#include "qtf/edge/qtf_edge.h"

namespace qtf::edge {

class File {
 public:
  File() = default;

  /// Checks everything but the numbers of the weights. On QTF_EDGE_BAD_FILE or QTF_EDGE_BAD_ARGUMENT the
  /// message says what is wrong where.
  qtf_edge_status open(const void* file, size_t bytes, qtf_edge_message* message);

  const Header& header() const { return *header_; }
  const Matrix& matrix(uint32_t index) const { return at<Matrix>(header_->matrices)[index]; }
  const Map& map(uint32_t index) const { return at<Map>(header_->maps)[index]; }
  const Block& block(uint32_t index) const { return at<Block>(header_->blocks)[index]; }

  /// Null for a span of nothing.
  template <class T>
  const T* at(const Span& span) const {
    return span.count ? reinterpret_cast<const T*>(begin_ + span.offset) : nullptr;
  }

  /// Of a qtf_edge_policy from 1 on; null: the model was not calibrated for it.
  const Policy* policy(uint32_t number) const {
    const Policy& policy = header_->policies[number - 1];
    return policy.blocks.count ? &policy : nullptr;
  }

  int64_t head_dim() const { return header_->width / header_->heads; }
  int64_t qkv_width() const { return (header_->heads + 2 * int64_t{header_->kv_heads}) * head_dim(); }
  /// Rank of a chain at a nested level (0: the largest); a map with fewer levels runs at its own largest.
  int64_t rank(const Map& map, uint32_t level) const {
    const auto count = static_cast<uint32_t>(map.block_ends.count);
    return at<uint32_t>(map.block_ends)[level == 0 || level > count ? count - 1 : level - 1];
  }

 private:
  friend class FileCheck;

  const char* begin_ = nullptr;
  const Header* header_ = nullptr;
};

}  // namespace qtf::edge
