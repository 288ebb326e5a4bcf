// Matrix decompositions (LAPACK) for making, truncating and transforming tensor trains. Slow work, done at
// conversion and compression, never in a training step.
#pragma once

#include <cstdint>
#include <optional>

#include "qtf/base/aligned.h"
#include "qtf/tensor/matrix.h"

namespace qtf {

struct SvdOptions {
  int64_t max_rank = 0;  ///< most singular values kept; 0: no limit
  double tolerance = 0;  ///< keep the fewest whose truncation error is at most this
};

/// A ≈ U·diag(s)·V with rank = s.size() >= 1.
template <class T>
struct Svd {
  AlignedVector<T> u;           ///< [rows, rank], orthonormal columns
  AlignedVector<T> s;           ///< decreasing, not negative
  AlignedVector<T> v;           ///< [rank, cols], orthonormal rows
  double truncation_error = 0;  ///< ‖A − U·diag(s)·V‖ / ‖A‖ (Frobenius), from the singular values left out
};

/// The best approximation of a[rows, cols] of at most options.max_rank (Eckart-Young); at least one singular
/// value is kept. Row-major results, whatever the strides of `a`. Runs on the calling thread only, and may
/// run on several threads at once. Throws InputError for an empty matrix, NaN or infinity in it, a negative
/// max_rank or a tolerance that is no number >= 0. float and double.
template <class T>
Svd<T> truncated_svd(ConstMatrix<T> a, const SvdOptions& options = {});

/// A = Σ_i values[i] · row_iᵀ·row_i.
template <class T>
struct SymmetricEigen {
  AlignedVector<T> values;   ///< decreasing
  AlignedVector<T> vectors;  ///< [n, n], row i is the unit eigenvector of values[i]
};

/// All eigenvalues and eigenvectors of a symmetric a[n, n], of which only the lower triangle is read. Throws
/// InputError for an empty or non-square matrix, and for NaN or infinity in the lower triangle. float and
/// double.
template <class T>
SymmetricEigen<T> symmetric_eigen(ConstMatrix<T> a);

/// A = L·Lᵀ, and L⁻¹; both [n, n] with zeros above the diagonal.
template <class T>
struct Cholesky {
  AlignedVector<T> lower;
  AlignedVector<T> inverse;
};

/// Of a symmetric a[n, n], of which only the lower triangle is read: many times faster than its eigenvectors.
/// Nothing if A is not positive definite to rounding, or holds NaN. Throws InputError for an empty or
/// non-square matrix. float and double.
template <class T>
std::optional<Cholesky<T>> cholesky(ConstMatrix<T> a);

}  // namespace qtf
