// The first product of a chain whose gauge is fixed, z = x·Vᵀ. The pivots' columns of V are the identity's,
// so what they give is x itself: only the stored numbers are multiplied, rank² fewer than V has.
#pragma once

#include <span>
#include <vector>

#include "qtf/base/arena.h"
#include "qtf/base/team.h"
#include "qtf/tensor/gemm.h"
#include "qtf/tt/weight_shape.h"

namespace qtf::tt {

/// Every element of z is one chain of sums: the pivot's x, then the stored numbers in order. So both ways to
/// compute it, and any number of rows, give the same bits.
template <class T>
class FixedInputs {
 public:
  FixedInputs() = default;
  /// A chain with pivots.
  explicit FixedInputs(const WeightShape& shape);

  bool empty() const { return blocks_.empty(); }

  /// stored: the numbers of V in the file's order, level after level; not needed afterwards.
  void prepare(const T* stored);
  /// The same from codes: a matrix a level's addition, [its rank, the other inputs]. float only.
  void prepare_quantized(std::span<const QuantizedMatrix> stored);

  /// z[M, rank of a level] = x[M, in]·Vᵀ.
  void forward(ConstMatrix<T> x, Matrix<T> z, Arena& scratch) const;

  /// A member's columns of each level's addition: together the members make all of z.
  void forward_columns(ConstMatrix<T> x, Matrix<T> z, const TeamMember& member, Arena& scratch) const;

  /// The same of one level's addition, of all its columns in z[M, rank]; block: from 0.
  void forward_block_columns(size_t block, ConstMatrix<T> x, Matrix<T> z, const TeamMember& member,
                             Arena& scratch) const;

 private:
  /// The rows of V that a level adds.
  struct Block {
    int64_t begin = 0, end = 0;           ///< in the bond
    std::vector<int32_t> pivots, others;  ///< inputs, increasing
    PackedMatrix<T> transposed;           ///< [others, end - begin]

    int64_t size() const { return end - begin; }
  };

  /// z's columns of the block = x's pivots; returns x's other columns.
  Matrix<T> split(const Block& block, ConstMatrix<T> x, Range columns, Matrix<T> z, Arena& scratch) const;

  std::vector<Block> blocks_;
};

}  // namespace qtf::tt
