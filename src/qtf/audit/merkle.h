// Hashes of records and the Merkle tree over them, as RFC 6962 has it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "qtf/base/sha256.h"

namespace qtf::audit {

/// Hashes many records: keeps its state, so that none is allocated for each. Not thread-safe.
class RecordHasher {
 public:
  /// SHA-256 of a zero byte and the record's bytes: its hash, and its leaf of the tree.
  Digest leaf(std::string_view bytes);
  /// SHA-256 of a byte 1 and both.
  Digest node(const Digest& left, const Digest& right);
  /// SHA-256 of the bytes.
  Digest plain(std::string_view bytes);

 private:
  Sha256 hash_;
};

/// The root over leaves that come one by one, in memory that grows with the logarithm of their number.
class MerkleTree {
 public:
  void add(const Digest& leaf);
  int64_t count() const { return count_; }
  /// Of the leaves so far; without any, SHA-256 of nothing.
  Digest root();

 private:
  RecordHasher hasher_;
  int64_t count_ = 0;
  std::vector<std::pair<Digest, int64_t>> peaks_;  // roots of whole subtrees, and their sizes, decreasing
};

}  // namespace qtf::audit
