// Matrix products, single-threaded: each worker of a pool multiplies its own part.
//
// Every element of a result is one chain of fused multiply-adds over k = 0, 1, 2, …, whatever the number of
// rows, the blocking or the form of the operands. So one product serves training and inference, and a token's
// result does not depend on the tokens beside it.
#pragma once

#include <cstdint>

#include "qtf/base/aligned.h"
#include "qtf/base/arena.h"
#include "qtf/tensor/matrix.h"
#include "qtf/tensor/quantized_matrix.h"

namespace qtf {

enum class Into { overwrite, accumulate };

/// C[m, n] = A[m, k] · B[k, n], or C += A · B. A and B may have any strides (pass `w.transposed()` for x·Wᵀ).
/// No two of them may overlap C. float and double.
template <class T>
void gemm(ConstMatrix<T> a, ConstMatrix<T> b, Matrix<T> c, Into into = Into::overwrite);

/// A right-hand operand B[rows, cols] laid out in column panels, not owned.
template <class T>
struct PackedView {
  const T* panels = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
};

/// Packs B into memory of the arena, for a few products.
template <class T>
PackedView<T> pack(ConstMatrix<T> b, Arena& memory);

/// A packed operand that is used in many products (weights: packed once an update in training, once at load
/// in inference).
template <class T>
class PackedMatrix {
 public:
  PackedMatrix() = default;
  explicit PackedMatrix(ConstMatrix<T> b) { pack(b); }

  /// Replaces the contents by B; keeps the memory if it suffices.
  void pack(ConstMatrix<T> b);

  /// Replaces the contents by B = Wᵀ in W's codes, so that B takes their few bytes: products decode what they
  /// read, and have the bits of products with W's decoded numbers. float only.
  void pack_transposed(const QuantizedMatrix& w);

  bool empty() const { return rows_ * cols_ == 0; }
  bool quantized() const { return !codes_.empty(); }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  /// Of a matrix that is not quantized.
  const T* panels() const { return panels_.data(); }
  PackedView<T> view() const { return {panels_.data(), rows_, cols_}; }
  /// Of a quantized one.
  const Coding& coding() const { return coding_; }
  const uint8_t* codes() const { return codes_.data(); }

 private:
  WeightVector<T> panels_;
  WeightVector<uint8_t> codes_;
  Coding coding_;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
};

/// C[m, n] = A[m, k] · B[:k, :n], or C += …: k and n are taken from A and C, and may be less than B's rows
/// and columns (a nested level is a prefix).
template <class T>
void gemm(ConstMatrix<T> a, PackedView<T> b, Matrix<T> c, Into into = Into::overwrite);
template <class T>
void gemm(ConstMatrix<T> a, const PackedMatrix<T>& b, Matrix<T> c, Into into = Into::overwrite);

}  // namespace qtf
