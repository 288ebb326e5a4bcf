// Sums of outer products over many tokens: blocks of tokens are multiplied in fp32 and added up in fp64.
#pragma once

#include <cstdint>
#include <vector>

#include "qtf/base/aligned.h"
#include "qtf/base/thread_pool.h"
#include "qtf/tensor/matrix.h"

namespace qtf::compress {

/// The lower triangle of a symmetric matrix, row after row.
template <class T>
struct Triangle {
  int64_t size = 0;
  AlignedVector<T> lower;

  explicit Triangle(int64_t n = 0) : size(n), lower(static_cast<size_t>(n * (n + 1) / 2), T{0}) {}

  /// The whole matrix [size, size], times `scale`.
  AlignedVector<double> matrix(double scale = 1) const;
};

/// Σ x·xᵀ over the rows x of what was added.
using SecondMoment = Triangle<double>;
/// E[x·xᵀ], as it is kept: half the size, and no less than the products' fp32 gives.
using MeanMoment = Triangle<float>;

MeanMoment mean_of(const SecondMoment& sum, int64_t tokens);

/// Σ a·bᵀ over pairs of rows.
struct CrossMoment {
  int64_t rows = 0, cols = 0;
  AlignedVector<double> sum;  ///< [rows, cols]

  CrossMoment(int64_t m = 0, int64_t n = 0) : rows(m), cols(n), sum(static_cast<size_t>(m * n), 0.0) {}
};

/// Additions to carry out together, split over the pool; the sums are the same bits for any number of
/// threads.
class MomentUpdates {
 public:
  /// x[tokens, size] must stay until run().
  void add(ConstMatrix<float> x, SecondMoment& sum);
  /// a[tokens, rows], b[tokens, cols].
  void add(ConstMatrix<float> a, ConstMatrix<float> b, CrossMoment& sum);
  void run(ThreadPool& pool);

 private:
  /// Rows [first, first + count) of a sum.
  struct Task {
    ConstMatrix<float> a, b;
    double* sum;  ///< its row `first`
    int64_t first;
    int64_t stride;  ///< 0: a lower triangle
  };
  static void run(const Task& task);
  void split(ConstMatrix<float> a, ConstMatrix<float> b, double* sum, int64_t stride);

  std::vector<Task> tasks_;
};

}  // namespace qtf::compress
