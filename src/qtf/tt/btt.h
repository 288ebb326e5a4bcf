// The block tensor train (arXiv 2406.06248; Monarch's form): W cut into n_outer × m_outer blocks of rank r.
//   z[γ, β, σ] = Σ_δ R[γ][(β, σ), δ]·x[γ, δ]        R: core.0 (m_outer, n_outer·r, m_inner)
//   y[β, α]    = Σ_{γ, σ} L[β][α, (γ, σ)]·z[γ, β, σ]  L: core.1 (n_outer, n_inner, m_outer·r)
// with in = (γ, δ), γ in m_outer, δ in m_inner, and out = (β, α), β in n_outer, α in n_inner.
#pragma once

#include <vector>

#include "qtf/tt/linear_map.h"

namespace qtf::tt {

template <class T>
class BttMap final : public LinearMap<T> {
 public:
  explicit BttMap(WeightShape shape);

  int64_t factor_size() const override { return right_size() + left_size(); }
  bool factors_are_cores() const override { return true; }
  void prepare(const T* cores, Use use) override;
  /// z as [β][row][(γ, σ)], a chunk of rows at a time.
  int64_t saved_size(int64_t rows) const override { return rows * middle_; }
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
  int64_t right_size() const { return m_outer_ * right_rows_ * m_inner_; }
  int64_t left_size() const { return n_outer_ * n_inner_ * left_cols_; }
  /// Where block γ of R and block β of L begin in the cores.
  int64_t right_begin(int64_t gamma) const { return gamma * right_rows_ * m_inner_; }
  int64_t left_begin(int64_t beta) const { return right_size() + beta * n_inner_ * left_cols_; }
  void forward_chunk(ConstMatrix<T> x, Matrix<T> y, T* saved, Arena& scratch) const;
  void backward_chunk(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx,
                      T* dfactors, Arena& scratch) const;
  void to_blocks(const T* by_input, T* by_output, int64_t rows) const;
  void from_blocks(const T* by_output, T* by_input, int64_t rows) const;

  int64_t n_outer_, n_inner_, m_outer_, m_inner_, rank_;
  int64_t right_rows_;  ///< n_outer·r
  int64_t left_cols_;   ///< m_outer·r
  int64_t middle_;      ///< n_outer·m_outer·r
  const T* cores_ = nullptr;
  std::vector<PackedMatrix<T>> right_transposed_, left_transposed_;  ///< a block each
  std::vector<PackedMatrix<T>> right_packed_, left_packed_;          ///< training only
};

/// Every block's truncated SVD, its singular values shared evenly.
template <class T>
void btt_from_dense(const WeightShape& shape, const T* w, T* cores);

}  // namespace qtf::tt
