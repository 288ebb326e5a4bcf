#include "qtf/tensor/svd.h"

#include <lapacke.h>

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"

// Present where the BLAS underneath is OpenBLAS; weak, so that any other BLAS links too.
extern "C" {
int omp_get_max_threads() __attribute__((weak));
void omp_set_num_threads(int) __attribute__((weak));
}

namespace qtf {

namespace {

/// Keeps an OpenMP BLAS on the calling thread for a scope: qtf has one worker a core already, and concurrent
/// callers of a threaded OpenBLAS wait for each other.
class SingleThreadedBlas {
 public:
  SingleThreadedBlas() : before_(omp_get_max_threads ? omp_get_max_threads() : 0) {
    if (omp_set_num_threads) omp_set_num_threads(1);
  }
  ~SingleThreadedBlas() {
    if (omp_set_num_threads && before_ > 0) omp_set_num_threads(before_);
  }
  SingleThreadedBlas(const SingleThreadedBlas&) = delete;
  SingleThreadedBlas& operator=(const SingleThreadedBlas&) = delete;

 private:
  int before_;
};

// Row-major A[m, n] is column-major Aᵀ[n, m] = Vᵀ·diag(s)·Uᵀ: LAPACK's left vectors are our V's rows in
// memory and its right ones our U, so that nothing is transposed.
lapack_int gesdd(lapack_int n, lapack_int m, float* a, float* s, float* v, float* u, lapack_int k) {
  return LAPACKE_sgesdd(LAPACK_COL_MAJOR, 'S', n, m, a, n, s, v, n, u, k);
}
lapack_int gesdd(lapack_int n, lapack_int m, double* a, double* s, double* v, double* u, lapack_int k) {
  return LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', n, m, a, n, s, v, n, u, k);
}
lapack_int gesvd(lapack_int n, lapack_int m, float* a, float* s, float* v, float* u, lapack_int k) {
  AlignedVector<float> superdiagonal(static_cast<size_t>(k));
  return LAPACKE_sgesvd(LAPACK_COL_MAJOR, 'S', 'S', n, m, a, n, s, v, n, u, k, superdiagonal.data());
}
lapack_int gesvd(lapack_int n, lapack_int m, double* a, double* s, double* v, double* u, lapack_int k) {
  AlignedVector<double> superdiagonal(static_cast<size_t>(k));
  return LAPACKE_dgesvd(LAPACK_COL_MAJOR, 'S', 'S', n, m, a, n, s, v, n, u, k, superdiagonal.data());
}
lapack_int syevd(lapack_int n, float* a, float* w) {
  return LAPACKE_ssyevd(LAPACK_COL_MAJOR, 'V', 'U', n, a, n, w);
}
lapack_int syevd(lapack_int n, double* a, double* w) {
  return LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'U', n, a, n, w);
}

// The row-major lower triangle L of A = L·Lᵀ is the column-major upper one of A = Uᵀ·U.
lapack_int potrf(lapack_int n, float* a) {
  return LAPACKE_spotrf(LAPACK_COL_MAJOR, 'U', n, a, n);
}
lapack_int potrf(lapack_int n, double* a) {
  return LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', n, a, n);
}
lapack_int trtri(lapack_int n, float* a) {
  return LAPACKE_strtri(LAPACK_COL_MAJOR, 'U', 'N', n, a, n);
}
lapack_int trtri(lapack_int n, double* a) {
  return LAPACKE_dtrtri(LAPACK_COL_MAJOR, 'U', 'N', n, a, n);
}

template <class T>
AlignedVector<T> row_major_copy(ConstMatrix<T> a) {
  AlignedVector<T> copy(static_cast<size_t>(a.rows * a.cols));
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.cols; ++j) copy[i * a.cols + j] = a(i, j);
  return copy;
}

/// Row-major, zeros above the diagonal.
template <class T>
AlignedVector<T> lower_triangle(ConstMatrix<T> a) {
  AlignedVector<T> triangle(static_cast<size_t>(a.rows * a.rows), T{0});
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j <= i; ++j) triangle[i * a.rows + j] = a(i, j);
  return triangle;
}

template <class T>
void check_square(const char* place, ConstMatrix<T> a) {
  if (a.rows <= 0 || a.cols != a.rows)
    throw_input_error(place, "the matrix must be square, got {} x {}", a.rows, a.cols);
}

template <class T>
void check_finite(const char* place, const AlignedVector<T>& values) {
  if (!std::all_of(values.begin(), values.end(), [](T x) { return std::isfinite(x); }))
    throw_input_error(place, "the matrix holds NaN or infinity; check the weights it was made from");
}

void check_options(const SvdOptions& options) {
  if (options.max_rank < 0)
    throw_input_error("truncated_svd", "max_rank must be positive, or 0 for no limit, got {}",
                      options.max_rank);
  if (!(options.tolerance >= 0))
    throw_input_error("truncated_svd", "tolerance must be 0 or more, got {}", options.tolerance);
}

/// The whole thin decomposition. Divide and conquer first; QR iteration where that does not converge.
template <class T>
Svd<T> thin_svd(ConstMatrix<T> a) {
  AlignedVector<T> copy = row_major_copy(a);
  check_finite("truncated_svd", copy);
  const int64_t k = std::min(a.rows, a.cols);
  Svd<T> svd;
  svd.u.resize(static_cast<size_t>(a.rows * k));
  svd.s.resize(static_cast<size_t>(k));
  svd.v.resize(static_cast<size_t>(k * a.cols));
  const auto m = static_cast<lapack_int>(a.rows), n = static_cast<lapack_int>(a.cols);
  const auto rank = static_cast<lapack_int>(k);
  const SingleThreadedBlas single;
  if (gesdd(n, m, copy.data(), svd.s.data(), svd.v.data(), svd.u.data(), rank) == 0) return svd;
  copy = row_major_copy(a);
  if (gesvd(n, m, copy.data(), svd.s.data(), svd.v.data(), svd.u.data(), rank) != 0)
    throw_input_error("truncated_svd", "no convergence on a {} x {} matrix; rescale it", a.rows, a.cols);
  return svd;
}

/// The rank to keep, and the error that it leaves.
template <class T>
std::pair<int64_t, double> choose_rank(const AlignedVector<T>& s, const SvdOptions& options) {
  const auto full = static_cast<int64_t>(s.size());
  double total = 0;
  for (int64_t i = full - 1; i >= 0; --i) total += static_cast<double>(s[i]) * s[i];
  if (total == 0) return {1, 0.0};
  const int64_t most = options.max_rank > 0 ? std::min(options.max_rank, full) : full;
  const double allowed = options.tolerance * options.tolerance * total;
  int64_t rank = full;
  double dropped = 0;
  while (rank > 1) {
    const double next = dropped + static_cast<double>(s[rank - 1]) * s[rank - 1];
    if (rank <= most && next > allowed) break;
    dropped = next;
    --rank;
  }
  return {rank, std::sqrt(dropped / total)};
}

/// Keeps the first `kept` columns of each row of u[rows, k].
template <class T>
void keep_columns(AlignedVector<T>& u, int64_t rows, int64_t k, int64_t kept) {
  for (int64_t i = 1; i < rows; ++i) std::copy_n(u.data() + i * k, kept, u.data() + i * kept);
  u.resize(static_cast<size_t>(rows * kept));
}

}  // namespace

template <class T>
Svd<T> truncated_svd(ConstMatrix<T> a, const SvdOptions& options) {
  if (a.rows <= 0 || a.cols <= 0)
    throw_input_error("truncated_svd", "the matrix must have rows and columns, got {} x {}", a.rows, a.cols);
  check_options(options);
  Svd<T> svd = thin_svd(a);
  const auto [rank, error] = choose_rank(svd.s, options);
  keep_columns(svd.u, a.rows, static_cast<int64_t>(svd.s.size()), rank);
  svd.s.resize(static_cast<size_t>(rank));
  svd.v.resize(static_cast<size_t>(rank * a.cols));
  svd.truncation_error = error;
  return svd;
}

template <class T>
SymmetricEigen<T> symmetric_eigen(ConstMatrix<T> a) {
  check_square("symmetric_eigen", a);
  const int64_t n = a.rows;
  SymmetricEigen<T> eigen;
  eigen.vectors = lower_triangle(a);
  eigen.values.resize(static_cast<size_t>(n));
  check_finite("symmetric_eigen", eigen.vectors);
  const SingleThreadedBlas single;
  if (syevd(static_cast<lapack_int>(n), eigen.vectors.data(), eigen.values.data()) != 0)
    throw_input_error("symmetric_eigen", "no convergence on a {} x {} matrix; rescale it", n, n);
  // LAPACK's order is increasing.
  std::reverse(eigen.values.begin(), eigen.values.end());
  for (int64_t i = 0; i < n / 2; ++i)
    std::swap_ranges(eigen.vectors.begin() + i * n, eigen.vectors.begin() + (i + 1) * n,
                     eigen.vectors.begin() + (n - 1 - i) * n);
  return eigen;
}

template <class T>
std::optional<Cholesky<T>> cholesky(ConstMatrix<T> a) {
  check_square("cholesky", a);
  const auto n = static_cast<lapack_int>(a.rows);
  Cholesky<T> result{lower_triangle(a), {}};
  // LAPACKE takes NaN for a bad argument, and dpotrf for no positive pivot.
  const SingleThreadedBlas single;
  if (potrf(n, result.lower.data()) != 0) return std::nullopt;
  result.inverse = result.lower;
  if (trtri(n, result.inverse.data()) != 0) return std::nullopt;
  return result;
}

template Svd<float> truncated_svd(ConstMatrix<float>, const SvdOptions&);
template Svd<double> truncated_svd(ConstMatrix<double>, const SvdOptions&);
template SymmetricEigen<float> symmetric_eigen(ConstMatrix<float>);
template SymmetricEigen<double> symmetric_eigen(ConstMatrix<double>);
template std::optional<Cholesky<float>> cholesky(ConstMatrix<float>);
template std::optional<Cholesky<double>> cholesky(ConstMatrix<double>);

}  // namespace qtf
