// Keys and values of cached tokens in 16, 8 or 4 bits a number. A token's key and value of a head are coded
// as they are stored, each by itself with one scale: whoever reads the cache, however its tokens came into
// it, reads the same numbers. Keys lie in panels of tokens, values in panels of a head's numbers, so that
// attention is two products of kernels/quantized.h; a value's scale goes into its token's probability.
#pragma once

#include <cstdint>
#include <vector>

#include "qtf/base/aligned.h"
#include "qtf/base/arena.h"
#include "qtf/kernels/quantized.h"
#include "qtf/tensor/gemm.h"
#include "qtf/tensor/quantized_matrix.h"

namespace qtf::nn {

/// One head's tokens as attention multiplies by them, not owned: the first `tokens`, which q or p say.
struct CodedHead {
  CodeType type;
  kernels::QuantizedPanels keys_t;      ///< [head_dim, capacity]
  kernels::QuantizedPanels values;      ///< [capacity, head_dim], without their scales
  const float* value_scales = nullptr;  ///< [capacity]; null with halves, which have none

  /// p[n, tokens] = q[n, head_dim]·Kᵀ.
  void scores(ConstMatrix<float> q, Matrix<float> p) const;
  /// out[n, head_dim] = p[n, tokens]·V. p is scaled in place.
  void weigh(Matrix<float> p, Matrix<float> out) const;
};

/// The same with the codes written out as floats, for many queries; the same bits.
class UnpackedHead {
 public:
  UnpackedHead(const CodedHead& head, int64_t head_dim, int64_t tokens, Arena& memory);

  void scores(ConstMatrix<float> q, Matrix<float> p) const;
  void weigh(Matrix<float> p, Matrix<float> out) const;

 private:
  CodedHead head_;
  int64_t tokens_;
  PackedView<float> keys_t_;
  const float* values_;  // [tokens, head_dim] in panels of the codes' width
};

/// The codes of `heads` heads, of all layers together, each of `capacity` tokens.
class KvCodes {
 public:
  KvCodes(CodeType type, int64_t heads, int64_t head_dim, int64_t capacity);

  CodeType type() const { return type_; }
  size_t bytes() const { return keys_.size() + values_.size() + sizeof(float) * scales_.size(); }

  /// Codes a token's key and value, head_dim numbers each. Threads may store different tokens at once.
  void store(int64_t head, int64_t position, const float* key, const float* value);

  CodedHead head(int64_t head) const;

 private:
  CodeType type_;
  int64_t head_dim_, capacity_;
  int64_t key_bytes_ = 0, value_bytes_ = 0;  // of a head
  AlignedVector<uint8_t> keys_, values_;
  std::vector<float> scales_;  // of values, [heads, capacity]; none with halves
};

}  // namespace qtf::nn
