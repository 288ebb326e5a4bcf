// The interleaved tensor train (matrix product operator): core G_k (r_{k-1}, n_k, m_k, r_k) joins the k-th
// output mode n_k and the k-th input mode m_k.
#pragma once

#include "qtf/tt/dense.h"
#include "qtf/tt/train.h"

namespace qtf::tt {

/// Where row i and column j of W stand in the train's own order (n_1, m_1, …, n_d, m_d): at out[i] + in[j].
struct MpoOrder {
  std::vector<int64_t> out;
  std::vector<int64_t> in;

  explicit MpoOrder(const WeightShape& shape);
};

/// Contracted with the input core by core, from the last to the first, with no permutation: the state after
/// cores d … k+1 is X_k[token, m_1 … m_k, r_k, n_{k+1} … n_d]; X_d = x, X_0 = y.
template <class T>
class MpoMap final : public LinearMap<T> {
 public:
  explicit MpoMap(WeightShape shape);

  int64_t factor_size() const override { return train_.parameters(); }
  bool factors_are_cores() const override { return true; }
  void prepare(const T* cores, Use use) override;
  /// X_1 … X_{d-1}, a chunk of rows at a time.
  int64_t saved_size(int64_t rows) const override { return rows * state_begin_.back(); }
  void forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int level, Arena& scratch) const override;
  void backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx, T* dfactors,
                int level, Arena& scratch) const override;
  int64_t gather_saved_size(int64_t) const override { return 0; }
  void gather(std::span<const int32_t> rows, Matrix<T> y, T* saved, int level, Arena& scratch) const override;
  void gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T* saved, T* dfactors,
                       int level, Arena& scratch) const override;
  void pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const override;
  void to_dense(const T* cores, T* w, int level, Arena& scratch) const override;

 private:
  /// Sizes of step k = 1 … d-1 (0-based core k-1): each of `slices` blocks a token is an (inner × cols)
  /// matrix, multiplied from the left by the core seen as outer × inner.
  struct Step {
    int64_t slices = 0;
    int64_t outer = 0;
    int64_t inner = 0;
    int64_t cols = 0;
  };

  void forward_chunk(ConstMatrix<T> x, Matrix<T> y, T* saved, Arena& scratch) const;
  void backward_chunk(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx,
                      T* dfactors, Arena& scratch) const;
  ConstMatrix<T> core(size_t k) const { return {cores_ + core_begin_[k], steps_[k].outer, steps_[k].inner}; }
  /// The part of core k that makes output row `row`: [r_{k-1}, m_k·r_k], as an offset into the cores.
  int64_t row_part(size_t k, int64_t row) const;
  ConstMatrix<T> row_core(size_t k, int64_t row) const;
  const T** row_states(int64_t row, T* result, Arena& scratch) const;
  void row_backward(int64_t row, const T* dy, T* dfactors, Arena& scratch) const;

  Train train_;  ///< with modes n_k·m_k
  MpoOrder order_;
  std::vector<Step> steps_;
  std::vector<int64_t> core_begin_;
  std::vector<int64_t> state_begin_;  ///< numbers a token before X_{k+1}; the last: in all
  const T* cores_ = nullptr;
  PackedMatrix<T> last_transposed_;  ///< [m_d, r_{d-1}·n_d]
  PackedMatrix<T> last_packed_;      ///< [r_{d-1}·n_d, m_d], training only
};

/// An mpo whose direct contraction would cost as much as the dense product.
template <class T>
class RebuiltMpo final : public RebuiltMap<T> {
 public:
  explicit RebuiltMpo(WeightShape shape);
  void pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const override;
  void to_dense(const T* cores, T* w, int level, Arena& scratch) const override;

 private:
  Train train_;
  MpoOrder order_;
};

/// TT-SVD of W in the order (n_1·m_1, …, n_d·m_d).
template <class T>
void mpo_from_dense(const WeightShape& shape, const T* w, T* cores);

}  // namespace qtf::tt
