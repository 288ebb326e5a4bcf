#include "qtf/tt/fixed_inputs.h"

#include <algorithm>

#include "qtf/tensor/gemm_columns.h"
#include "qtf/tt/gauge.h"

namespace qtf::tt {

template <class T>
FixedInputs<T>::FixedInputs(const WeightShape& shape) {
  for (const auto& [begin, end] : bond_blocks(shape)) {
    Block& block = blocks_.emplace_back();
    block.begin = begin, block.end = end;
    block.pivots.assign(shape.pivots.begin() + begin, shape.pivots.begin() + end);
    for (int32_t i = 0; i < shape.in; ++i)
      if (!std::binary_search(block.pivots.begin(), block.pivots.end(), i)) block.others.push_back(i);
  }
}

template <class T>
void FixedInputs<T>::prepare(const T* stored) {
  for (Block& block : blocks_) {
    const auto others = static_cast<int64_t>(block.others.size());
    block.transposed.pack(ConstMatrix<T>(stored, block.size(), others).transposed());
    stored += block.size() * others;
  }
}

template <class T>
void FixedInputs<T>::prepare_quantized(std::span<const QuantizedMatrix> stored) {
  for (size_t block = 0; block < blocks_.size(); ++block)
    blocks_[block].transposed.pack_transposed(stored[block]);
}

template <class T>
Matrix<T> FixedInputs<T>::split(const Block& block, ConstMatrix<T> x, Range columns, Matrix<T> z,
                                Arena& scratch) const {
  const auto others = static_cast<int64_t>(block.others.size());
  const Matrix<T> rest(scratch.allocate<T>(x.rows * others), x.rows, others);
  for (int64_t i = 0; i < x.rows; ++i) {
    const T* from = x.data + i * x.row_stride;
    T *to = z.row(i) + block.begin, *left = rest.row(i);
    for (int64_t r = columns.begin; r < columns.end; ++r) to[r] = from[block.pivots[static_cast<size_t>(r)]];
    for (int64_t j = 0; j < others; ++j) left[j] = from[block.others[static_cast<size_t>(j)]];
  }
  return rest;
}

template <class T>
void FixedInputs<T>::forward(ConstMatrix<T> x, Matrix<T> z, Arena& scratch) const {
  for (const Block& block : blocks_) {
    if (block.begin >= z.cols) return;
    const ArenaScope scope(scratch);
    const Matrix<T> rest = split(block, x, {0, block.size()}, z, scratch);
    gemm<T>(rest, block.transposed, z.col_block(block.begin, block.size()), Into::accumulate);
  }
}

template <class T>
void FixedInputs<T>::forward_columns(ConstMatrix<T> x, Matrix<T> z, const TeamMember& member,
                                     Arena& scratch) const {
  for (size_t block = 0; block < blocks_.size() && blocks_[block].begin < z.cols; ++block)
    forward_block_columns(block, x, z, member, scratch);
}

template <class T>
void FixedInputs<T>::forward_block_columns(size_t index, ConstMatrix<T> x, Matrix<T> z,
                                           const TeamMember& member, Arena& scratch) const {
  const Block& block = blocks_[index];
  const Range columns = member.part(block.size(), kColumnGrain);
  if (columns.size() == 0) return;
  const ArenaScope scope(scratch);
  const Matrix<T> rest = split(block, x, columns, z, scratch);
  gemm_columns<T>(rest, block.transposed, z.col_block(block.begin, block.size()), columns, Into::accumulate);
}

template class FixedInputs<float>;
template class FixedInputs<double>;

}  // namespace qtf::tt
