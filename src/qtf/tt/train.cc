#include "qtf/tt/train.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "qtf/tensor/gemm.h"
#include "qtf/tensor/svd.h"

namespace qtf::tt {

int64_t Train::parameters() const {
  int64_t sum = 0;
  for (size_t k = 0; k < sizes.size(); ++k) sum += core_size(k);
  return sum;
}

int64_t Train::contracted_size() const {
  int64_t size = ranks.front() * ranks.back();
  for (const int64_t mode : sizes) size *= mode;
  return size;
}

namespace {

/// A place for a pointer a core, filled with where each core begins.
template <class T>
T** core_pointers(const Train& train, T* cores, Arena& scratch) {
  T** pointers = scratch.allocate<T*>(static_cast<int64_t>(train.sizes.size()));
  for (size_t k = 0; k < train.sizes.size(); ++k) {
    pointers[k] = cores;
    cores += train.core_size(k);
  }
  return pointers;
}

/// parts[k] = G_1⋯G_{k+1}, [r_0·s_1⋯s_{k+1}, r_{k+1}]. The whole goes to `result`, and is left out if that is
/// null.
template <class T>
const T** left_parts(const Train& train, const T* const* g, T* result, Arena& scratch) {
  const size_t d = train.sizes.size();
  const T** parts = scratch.allocate<const T*>(static_cast<int64_t>(d));
  parts[0] = g[0];
  int64_t rows = train.ranks[0] * train.sizes[0];
  for (size_t k = 1; k < d && (k + 1 < d || result); ++k) {
    const int64_t cols = train.sizes[k] * train.ranks[k + 1];
    T* part = k + 1 < d ? scratch.allocate<T>(rows * cols) : result;
    gemm(ConstMatrix<T>(parts[k - 1], rows, train.ranks[k]), ConstMatrix<T>(g[k], train.ranks[k], cols),
         Matrix<T>(part, rows, cols));
    parts[k] = part;
    rows *= train.sizes[k];
  }
  return parts;
}

/// parts[k] = G_{k+1}⋯G_d, [r_k, s_{k+1}⋯s_d·r_d].
template <class T>
const T** right_parts(const Train& train, const T* const* g, T* result, Arena& scratch) {
  const size_t d = train.sizes.size();
  const T** parts = scratch.allocate<const T*>(static_cast<int64_t>(d));
  parts[d - 1] = g[d - 1];
  int64_t cols = train.sizes[d - 1] * train.ranks[d];
  for (size_t k = d - 1; k-- > 0 && (k > 0 || result);) {
    const int64_t rows = train.ranks[k] * train.sizes[k];
    T* part = k > 0 ? scratch.allocate<T>(rows * cols) : result;
    gemm(ConstMatrix<T>(g[k], rows, train.ranks[k + 1]),
         ConstMatrix<T>(parts[k + 1], train.ranks[k + 1], cols), Matrix<T>(part, rows, cols));
    parts[k] = part;
    cols *= train.sizes[k];
  }
  return parts;
}

template <class T>
void left_backward(const Train& train, const T* const* g, const T* dresult, T* const* dg, Arena& scratch) {
  const T** parts = left_parts<T>(train, g, nullptr, scratch);
  int64_t rows = train.contracted_size() / train.ranks.back();
  const T* dpart = dresult;
  for (size_t k = train.sizes.size() - 1; k > 0; --k) {
    rows /= train.sizes[k];
    const int64_t rank = train.ranks[k], cols = train.sizes[k] * train.ranks[k + 1];
    const ConstMatrix<T> d(dpart, rows, cols);
    gemm(ConstMatrix<T>(parts[k - 1], rows, rank).transposed(), d, Matrix<T>(dg[k], rank, cols));
    T* before = k > 1 ? scratch.allocate<T>(rows * rank) : dg[0];
    gemm(d, ConstMatrix<T>(g[k], rank, cols).transposed(), Matrix<T>(before, rows, rank));
    dpart = before;
  }
}

template <class T>
void right_backward(const Train& train, const T* const* g, const T* dresult, T* const* dg, Arena& scratch) {
  const T** parts = right_parts<T>(train, g, nullptr, scratch);
  const size_t last = train.sizes.size() - 1;
  int64_t cols = train.contracted_size() / train.ranks.front();
  const T* dpart = dresult;
  for (size_t k = 0; k < last; ++k) {
    cols /= train.sizes[k];
    const int64_t rank = train.ranks[k + 1], rows = train.ranks[k] * train.sizes[k];
    const ConstMatrix<T> d(dpart, rows, cols);
    gemm(d, ConstMatrix<T>(parts[k + 1], rank, cols).transposed(), Matrix<T>(dg[k], rows, rank));
    T* behind = k + 1 < last ? scratch.allocate<T>(rank * cols) : dg[last];
    gemm(ConstMatrix<T>(g[k], rows, rank).transposed(), d, Matrix<T>(behind, rank, cols));
    dpart = behind;
  }
}

template <class T>
double norm(std::span<const T> values) {
  double sum = 0;
  for (const T x : values) sum += static_cast<double>(x) * x;
  return std::sqrt(sum);
}

/// Scales each core to the same norm; the product stays.
template <class T>
void balance(const Train& train, T* cores) {
  std::vector<std::span<T>> parts;
  double mean_log = 0;
  for (size_t k = 0; k < train.sizes.size(); ++k) {
    parts.emplace_back(cores, static_cast<size_t>(train.core_size(k)));
    cores += train.core_size(k);
    mean_log += std::log(norm<T>(parts.back())) / static_cast<double>(train.sizes.size());
  }
  if (!std::isfinite(mean_log)) return;  // a core is zero, so is the tensor
  for (const std::span<T> part : parts) {
    const double scale = std::exp(mean_log) / norm<T>(part);
    for (T& x : part) x = static_cast<T>(x * scale);
  }
}

}  // namespace

template <class T>
void contract(const Train& train, Sweep sweep, const T* cores, T* result, Arena& scratch) {
  const ArenaScope scope(scratch);
  if (train.sizes.size() == 1) {
    std::copy_n(cores, train.core_size(0), result);
    return;
  }
  const T* const* g = core_pointers(train, cores, scratch);
  if (sweep == Sweep::from_left)
    left_parts(train, g, result, scratch);
  else
    right_parts(train, g, result, scratch);
}

template <class T>
void contract_backward(const Train& train, Sweep sweep, const T* cores, const T* dresult, T* dcores,
                       Arena& scratch) {
  const ArenaScope scope(scratch);
  if (train.sizes.size() == 1) {
    std::copy_n(dresult, train.core_size(0), dcores);
    return;
  }
  const T* const* g = core_pointers(train, cores, scratch);
  T* const* dg = core_pointers(train, dcores, scratch);
  if (sweep == Sweep::from_left)
    left_backward(train, g, dresult, dg, scratch);
  else
    right_backward(train, g, dresult, dg, scratch);
}

template <class T>
void tt_svd(const Train& train, const T* tensor, T* cores) {
  const size_t d = train.sizes.size();
  AlignedVector<T> rest(tensor, tensor + train.contracted_size());
  T* core = cores;
  for (size_t k = 0; k + 1 < d; ++k) {
    const int64_t rows = train.ranks[k] * train.sizes[k], rank = train.ranks[k + 1];
    const int64_t cols = static_cast<int64_t>(rest.size()) / rows;
    const Svd<T> svd = truncated_svd(ConstMatrix<T>(rest.data(), rows, cols), {.max_rank = rank});
    const auto found = static_cast<int64_t>(svd.s.size());  // 1 for a zero tensor
    std::fill_n(core, rows * rank, T{0});
    rest.assign(static_cast<size_t>(rank * cols), T{0});
    for (int64_t i = 0; i < rows; ++i) std::copy_n(svd.u.data() + i * found, found, core + i * rank);
    for (int64_t r = 0; r < found; ++r)
      for (int64_t j = 0; j < cols; ++j) rest[r * cols + j] = svd.s[r] * svd.v[r * cols + j];
    core += rows * rank;
  }
  std::copy(rest.begin(), rest.end(), core);
  balance(train, cores);
}

#define QTF_INSTANTIATE(T)                                                              \
  template void contract(const Train&, Sweep, const T*, T*, Arena&);                    \
  template void contract_backward(const Train&, Sweep, const T*, const T*, T*, Arena&); \
  template void tt_svd(const Train&, const T*, T*);
QTF_INSTANTIATE(float)
QTF_INSTANTIATE(double)
#undef QTF_INSTANTIATE

}  // namespace qtf::tt
