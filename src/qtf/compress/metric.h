// A decomposition of a weight that counts its errors as the model does: by what passes through it, and by how
// much the loss minds.
#pragma once

#include <cstdint>

#include "qtf/base/aligned.h"
#include "qtf/tensor/matrix.h"

namespace qtf::compress {

/// A symmetric positive matrix M = R·Rᵀ. Or a diagonal one, or the identity.
class Metric {
 public:
  /// The identity.
  explicit Metric(int64_t size) : size_(size) {}

  /// M + shrinkage·(its mean eigenvalue)·I, by Cholesky; where rounding has left that indefinite, by
  /// eigenvectors, negative eigenvalues of M counting as 0. Throws InputError if M is zero or not finite.
  static Metric from_matrix(ConstMatrix<double> m, double shrinkage);

  /// diag(values), all positive.
  static Metric from_diagonal(const AlignedVector<double>& values);

  int64_t size() const { return size_; }

  /// w·R and, undone, w·R⁻¹, in place; w[m, size].
  void apply_right(Matrix<double> w) const;
  void undo_right(Matrix<double> w) const;
  /// Rᵀ·w and, undone, R⁻ᵀ·w, in place; w[size, n].
  void apply_left(Matrix<double> w) const;
  void undo_left(Matrix<double> w) const;

  /// w·M⁻¹, in place; w[m, size].
  void divide_right(Matrix<double> w) const;

 private:
  int64_t size_ = 0;
  AlignedVector<double> root_, inverse_;  ///< R and R⁻¹ [size, size]; empty for a diagonal
  AlignedVector<double> diagonal_;        ///< of R, if that is diagonal; empty too: the identity
};

/// The singular value decomposition of Rᵣᵀ·W·R꜀ for metrics of W's rows and columns, taken back: the first r
/// terms of W = Σ uᵢ·vᵢᵀ are the best approximation of rank r, and leaving out term i costs exactly
/// losses[i] = σᵢ², where the cost of an error ΔW is tr(Mᵣ·ΔW·M꜀·ΔWᵀ).
struct WeightedSvd {
  int64_t out = 0, in = 0, rank = 0;
  AlignedVector<double> losses;  ///< decreasing
  AlignedVector<double> u;       ///< [out, rank]
  AlignedVector<double> v;       ///< [rank, in]; ‖uᵢ‖ = ‖vᵢ‖
};

WeightedSvd weighted_svd(ConstMatrix<double> w, const Metric& rows, const Metric& columns);

/// Its losses alone.
AlignedVector<double> weighted_losses(ConstMatrix<double> w, const Metric& rows, const Metric& columns);

/// tr(Mᵣ·ΔW·M꜀·ΔWᵀ).
double weighted_error(ConstMatrix<double> difference, const Metric& rows, const Metric& columns);

}  // namespace qtf::compress
