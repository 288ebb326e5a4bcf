// A map that begins as a dense one and turns into its own shape while it trains ("self-guided training",
// Wei et al. 2024): y = a·x·Gᵀ + (1 − a)·shape(x), a going from 1 to 0. model/ wraps its maps in it.
#pragma once

#include "qtf/tt/dense.h"

namespace qtf::tt {

/// Everything but training passes is the inner map's: sizes, cores, factors, inference.
template <class T>
class GuidedMap final : public LinearMap<T> {
 public:
  explicit GuidedMap(std::unique_ptr<LinearMap<T>> inner);

  /// guide[out, in]: G, which must outlive the next prepare(). share: a in [0, 1], 0 leaves G out. backward
  /// adds G's gradient at dfactors + gradient_gap. Takes effect at the next prepare().
  void set_guide(const T* guide, double share, int64_t gradient_gap);

  /// The inner map; this is spent.
  std::unique_ptr<LinearMap<T>> release() { return std::move(inner_); }

  int64_t factor_size() const override { return inner_->factor_size(); }
  bool factors_are_cores() const override { return inner_->factors_are_cores(); }
  void prepare(const T* cores, Use use) override;
  int64_t saved_size(int64_t rows) const override { return inner_->saved_size(rows); }
  void forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int level, Arena& scratch) const override;
  void forward_columns(ConstMatrix<T> x, Matrix<T> y, int level, TeamMember& member, T* shared,
                       Arena& scratch) const override {
    inner_->forward_columns(x, y, level, member, shared, scratch);
  }
  int64_t shared_size(int64_t rows) const override { return inner_->shared_size(rows); }
  void backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx, T* dfactors,
                int level, Arena& scratch) const override;
  int64_t gather_saved_size(int64_t rows) const override { return inner_->gather_saved_size(rows); }
  void gather(std::span<const int32_t> rows, Matrix<T> y, T* saved, int level, Arena& scratch) const override;
  void gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T* saved, T* dfactors,
                       int level, Arena& scratch) const override;
  void pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const override {
    inner_->pull_back(cores, dfactors, dcores, scratch);
  }
  void to_dense(const T* cores, T* w, int level, Arena& scratch) const override {
    inner_->to_dense(cores, w, level, scratch);
  }

 private:
  std::unique_ptr<LinearMap<T>> inner_;
  DenseMap<T> dense_;
  const T* guide_ = nullptr;
  T share_ = 0;
  int64_t gradient_gap_ = 0;
  bool guiding_ = false;  ///< since the last prepare()
};

}  // namespace qtf::tt
