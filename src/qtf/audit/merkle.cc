#include "qtf/audit/merkle.h"

namespace qtf::audit {

Digest RecordHasher::leaf(std::string_view bytes) {
  hash_.update(std::string_view("\0", 1));
  hash_.update(bytes);
  return hash_.digest();
}

Digest RecordHasher::node(const Digest& left, const Digest& right) {
  std::array<uint8_t, 1 + 2 * sizeof(Digest)> bytes{1};
  std::copy(left.begin(), left.end(), bytes.begin() + 1);
  std::copy(right.begin(), right.end(), bytes.begin() + 1 + sizeof(Digest));
  hash_.update(std::span<const uint8_t>(bytes));
  return hash_.digest();
}

Digest RecordHasher::plain(std::string_view bytes) {
  hash_.update(bytes);
  return hash_.digest();
}

void MerkleTree::add(const Digest& leaf) {
  ++count_;
  peaks_.emplace_back(leaf, 1);
  while (peaks_.size() > 1 && peaks_[peaks_.size() - 2].second == peaks_.back().second) {
    const auto right = peaks_.back();
    peaks_.pop_back();
    peaks_.back() = {hasher_.node(peaks_.back().first, right.first), 2 * right.second};
  }
}

Digest MerkleTree::root() {
  if (peaks_.empty()) return hasher_.plain({});
  Digest root = peaks_.back().first;
  for (size_t i = peaks_.size() - 1; i-- > 0;) root = hasher_.node(peaks_[i].first, root);
  return root;
}

}  // namespace qtf::audit
