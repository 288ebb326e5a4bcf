#include "qtf/audit/merkle.h"

#include <gtest/gtest.h>

namespace qtf::audit {
namespace {

/// RFC 6962, section 2.1, word for word.
Digest by_definition(std::span<const Digest> leaves) {
  RecordHasher hasher;
  if (leaves.empty()) return hasher.plain({});
  if (leaves.size() == 1) return leaves[0];
  size_t k = 1;
  while (2 * k < leaves.size()) k *= 2;
  return hasher.node(by_definition(leaves.first(k)), by_definition(leaves.subspan(k)));
}

TEST(MerkleTree, HasTheRootOfTheDefinition) {
  RecordHasher hasher;
  MerkleTree tree;
  std::vector<Digest> leaves;
  for (int i = 0; i < 70; ++i) {
    EXPECT_EQ(tree.count(), i);
    EXPECT_EQ(tree.root(), by_definition(leaves)) << i;
    leaves.push_back(hasher.leaf("record " + std::to_string(i)));
    tree.add(leaves.back());
  }
}

// The test vectors of RFC 6962's reference implementation (certificate-transparency, merkle_tree_test.cc).
TEST(MerkleTree, KnownAnswers) {
  RecordHasher hasher;
  MerkleTree tree;
  EXPECT_EQ(to_hex(tree.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  tree.add(hasher.leaf(""));
  EXPECT_EQ(to_hex(tree.root()), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
  tree.add(hasher.leaf(std::string_view("\0", 1)));
  EXPECT_EQ(to_hex(tree.root()), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
}

}  // namespace
}  // namespace qtf::audit
