#include "qtf/tt/gauge.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "qtf/base/error.h"
#include "qtf/tensor/gemm.h"
#include "qtf/tensor/svd.h"

namespace qtf::tt {

namespace {

// An exchange of pivots must win at least so much volume, so that few are needed.
constexpr double kWorthExchange = 1.5;

/// Row reduction of V[rows, cols]: A = V[:, pivots]⁻¹·V.
class RowReduction {
 public:
  /// given: the pivots, or empty to choose them.
  RowReduction(AlignedVector<double> v, int64_t rows, int64_t cols, std::span<const int64_t> given)
      : a_(std::move(v)),
        rows_(rows),
        cols_(cols),
        pivots_(static_cast<size_t>(rows), -1),
        excluded_(static_cast<size_t>(cols), !given.empty()) {
    for (const int64_t pivot : given) excluded_[static_cast<size_t>(pivot)] = false;
    for (int64_t step = 0; step < rows_; ++step) add_pivot();
    while (given.empty() && exchange()) continue;
  }

  /// Increasing.
  std::vector<int64_t> pivots() const {
    std::vector<int64_t> sorted = pivots_;
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  }
  /// The row whose pivot is column `pivot`.
  const double* row_of(int64_t pivot) const {
    return a_.data() + (std::find(pivots_.begin(), pivots_.end(), pivot) - pivots_.begin()) * cols_;
  }

 private:
  struct Place {
    int64_t row = -1, col = -1;
    double size = -1;
  };

  /// The largest number outside the pivots' columns, in rows that have a pivot or in those without.
  Place largest(bool with_pivot) const {
    std::vector<bool> taken = excluded_;
    for (const int64_t p : pivots_)
      if (p >= 0) taken[static_cast<size_t>(p)] = true;
    Place best;
    for (int64_t i = 0; i < rows_; ++i) {
      if ((pivots_[static_cast<size_t>(i)] >= 0) != with_pivot) continue;
      for (int64_t j = 0; j < cols_; ++j) {
        const double size = std::abs(a_[i * cols_ + j]);
        if (!taken[static_cast<size_t>(j)] && size > best.size) best = {i, j, size};
      }
    }
    return best;
  }

  void add_pivot() {
    const Place best = largest(false);
    // Rows that depend on others leave nothing: any column serves, its part of U is W's column then.
    if (best.size < 1e-14) {
      double* row = a_.data() + best.row * cols_;
      std::fill_n(row, cols_, 0.0);
      row[best.col] = 1;
    }
    pivot_at(best);
  }

  bool exchange() {
    const Place best = largest(true);
    if (best.size <= kWorthExchange) return false;
    pivot_at(best);
    return true;
  }

  /// Makes the column at `place` one of the identity.
  void pivot_at(const Place& place) {
    double* row = a_.data() + place.row * cols_;
    const double scale = 1 / row[place.col];
    for (int64_t j = 0; j < cols_; ++j) row[j] *= scale;
    for (int64_t i = 0; i < rows_; ++i) {
      double* other = a_.data() + i * cols_;
      const double factor = other[place.col];
      if (i == place.row || factor == 0) continue;
      for (int64_t j = 0; j < cols_; ++j) other[j] -= factor * row[j];
      other[place.col] = 0;
    }
    row[place.col] = 1;
    pivots_[static_cast<size_t>(place.row)] = place.col;
  }

  AlignedVector<double> a_;
  int64_t rows_, cols_;
  std::vector<int64_t> pivots_;  ///< each row's, -1: none yet
  std::vector<bool> excluded_;   ///< columns that may not be pivots
};

/// Rows made orthonormal (modified Gram-Schmidt, twice for accuracy): the reduction then pivots by what the
/// rows span, not by how they are scaled.
void orthonormalise(AlignedVector<double>& v, int64_t rows, int64_t cols) {
  for (int64_t i = 0; i < rows; ++i) {
    double* row = v.data() + i * cols;
    const double before = std::sqrt(std::inner_product(row, row + cols, row, 0.0));
    for (int pass = 0; pass < 2; ++pass)
      for (int64_t k = 0; k < i; ++k) {
        const double* other = v.data() + k * cols;
        const double dot = std::inner_product(row, row + cols, other, 0.0);
        for (int64_t j = 0; j < cols; ++j) row[j] -= dot * other[j];
      }
    const double norm = std::sqrt(std::inner_product(row, row + cols, row, 0.0));
    const bool dependent = norm <= 1e-12 * before || norm == 0;
    for (int64_t j = 0; j < cols; ++j) row[j] = dependent ? 0 : row[j] / norm;
  }
}

/// Calls stored(index in the free V, index in the stored V) for every number of V that is stored, and
/// fixed(index in the free V, value) for the others.
template <class Stored, class Fixed>
void for_each_of_v(const WeightShape& shape, const Stored& stored, const Fixed& fixed) {
  int64_t at = 0;
  for (const auto& [begin, end] : bond_blocks(shape)) {
    std::vector<int64_t> row_of(static_cast<size_t>(shape.in), -1);
    for (int64_t r = begin; r < end; ++r)
      row_of[static_cast<size_t>(shape.pivots[static_cast<size_t>(r)])] = r;
    for (int64_t r = begin; r < end; ++r)
      for (int64_t j = 0; j < shape.in; ++j) {
        const int64_t pivot_row = row_of[static_cast<size_t>(j)];
        if (pivot_row < 0)
          stored(r * shape.in + j, at++);
        else
          fixed(r * shape.in + j, pivot_row == r ? 1 : 0);
      }
  }
}

}  // namespace

std::vector<std::pair<int64_t, int64_t>> bond_blocks(const WeightShape& shape) {
  std::vector<std::pair<int64_t, int64_t>> blocks;
  int64_t before = 0;
  for (const int64_t rank : shape.levels) blocks.emplace_back(std::exchange(before, rank), rank);
  if (blocks.empty()) blocks.emplace_back(0, level_rank(shape, 0));
  return blocks;
}

bool can_fix_gauge(const WeightShape& shape) {
  return shape.kind == ShapeKind::chain && shape.pivots.empty() && shape.out_modes.size() == 1 &&
         shape.in_modes.size() == 1 && level_rank(shape, 0) < shape.in;
}

int64_t gauge_size(const WeightShape& shape) {
  int64_t size = 0;
  if (can_fix_gauge(shape))
    for (const auto& [begin, end] : bond_blocks(shape)) size += (end - begin) * (end - begin);
  return size;
}

template <class T>
FixedChain<T> fix_gauge(const WeightShape& shape, const T* cores) {
  QTF_ASSERT(can_fix_gauge(with_free_gauge(shape)));
  const int64_t rank = level_rank(shape, 0), in = shape.in;
  const T *u = cores, *v = cores + shape.out * rank;
  FixedChain<T> fixed{with_free_gauge(shape), {}};
  fixed.cores.resize(static_cast<size_t>(shape.out * rank));
  AlignedVector<T> stored;
  for (const auto& [begin, end] : bond_blocks(shape)) {
    AlignedVector<double> block(v + begin * in, v + end * in);
    orthonormalise(block, end - begin, in);
    const auto given =
        shape.pivots.empty()
            ? std::span<const int64_t>()
            : std::span(shape.pivots).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    const RowReduction reduced(std::move(block), end - begin, in, given);
    const std::vector<int64_t> pivots = reduced.pivots();
    for (const int64_t pivot : pivots) {
      const double* row = reduced.row_of(pivot);
      for (int64_t j = 0; j < in; ++j)
        if (!std::binary_search(pivots.begin(), pivots.end(), j)) stored.push_back(static_cast<T>(row[j]));
      // The pivot's column of the block's W, which is U's new column.
      const auto column = static_cast<int64_t>(fixed.shape.pivots.size());
      for (int64_t i = 0; i < shape.out; ++i) {
        double sum = 0;
        for (int64_t r = begin; r < end; ++r)
          sum += static_cast<double>(u[i * rank + r]) * static_cast<double>(v[r * in + pivot]);
        fixed.cores[i * rank + column] = static_cast<T>(sum);
      }
      fixed.shape.pivots.push_back(pivot);
    }
  }
  fixed.cores.insert(fixed.cores.end(), stored.begin(), stored.end());
  return fixed;
}

WeightShape with_free_gauge(WeightShape shape) {
  shape.pivots.clear();
  return shape;
}

template <class T>
void free_gauge(const WeightShape& shape, const T* fixed, T* cores) {
  const int64_t u = shape.out * level_rank(shape, 0);
  std::copy_n(fixed, u, cores);
  for_each_of_v(
      shape, [&](int64_t to, int64_t from) { cores[u + to] = fixed[u + from]; },
      [&](int64_t to, int value) { cores[u + to] = static_cast<T>(value); });
}

template <class T>
void balance_gauge(const WeightShape& shape, T* cores) {
  const int64_t rank = level_rank(shape, 0), out = shape.out, in = shape.in;
  const Matrix<T> u(cores, out, rank), v(cores + out * rank, rank, in);
  for (const auto& [begin, end] : bond_blocks(shape)) {
    AlignedVector<T> w(static_cast<size_t>(out * in));
    gemm<T>(u.col_block(begin, end - begin), v.row_block(begin, end - begin), Matrix<T>(w.data(), out, in));
    const Svd<T> svd = truncated_svd(ConstMatrix<T>(w.data(), out, in), {.max_rank = end - begin});
    const auto found = static_cast<int64_t>(svd.s.size());
    for (int64_t r = 0; r < end - begin; ++r) {
      const T root = r < found ? std::sqrt(svd.s[r]) : T{0};
      for (int64_t i = 0; i < out; ++i) u(i, begin + r) = r < found ? root * svd.u[i * found + r] : T{0};
      for (int64_t j = 0; j < in; ++j) v(begin + r, j) = r < found ? root * svd.v[r * in + j] : T{0};
    }
  }
}

template <class T>
void spread_gauge(const WeightShape& shape, T* cores) {
  const int64_t rank = level_rank(shape, 0), out = shape.out, in = shape.in;
  const Matrix<T> u(cores, out, rank), v(cores + out * rank, rank, in);
  for (const auto& [begin, end] : bond_blocks(shape)) {
    const int64_t size = end - begin;
    AlignedVector<T> numbers(static_cast<size_t>(size * size));
    const Matrix<T> turn(numbers.data(), size, size);
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = 0; j < size; ++j) {
        const double angle = std::numbers::pi * static_cast<double>(i) * (static_cast<double>(j) + 0.5);
        turn(i, j) = static_cast<T>(std::sqrt((i ? 2.0 : 1.0) / static_cast<double>(size)) *
                                    std::cos(angle / static_cast<double>(size)));
      }
    AlignedVector<T> before(static_cast<size_t>(size * std::max(out, in)));
    const Matrix<T> old_u(before.data(), out, size), old_v(before.data(), size, in);
    for (int64_t i = 0; i < out; ++i) std::copy_n(&u(i, begin), size, old_u.row(i));
    gemm<T>(old_u, turn, u.col_block(begin, size));
    for (int64_t r = 0; r < size; ++r) std::copy_n(v.row(begin + r), in, old_v.row(r));
    gemm<T>(ConstMatrix<T>(turn).transposed(), old_v, v.row_block(begin, size));
  }
}

template <class T>
void gauge_gradient(const WeightShape& shape, const T* dcores, T* dfixed) {
  const int64_t u = shape.out * level_rank(shape, 0);
  std::copy_n(dcores, u, dfixed);
  for_each_of_v(
      shape, [&](int64_t from, int64_t to) { dfixed[u + to] = dcores[u + from]; }, [](int64_t, int) {});
}

#define QTF_INSTANTIATE(T)                                        \
  template FixedChain<T> fix_gauge(const WeightShape&, const T*); \
  template void free_gauge(const WeightShape&, const T*, T*);     \
  template void gauge_gradient(const WeightShape&, const T*, T*); \
  template void balance_gauge(const WeightShape&, T*);            \
  template void spread_gauge(const WeightShape&, T*);
QTF_INSTANTIATE(float)
QTF_INSTANTIATE(double)
#undef QTF_INSTANTIATE

}  // namespace qtf::tt
