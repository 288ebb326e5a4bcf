// A map of which some levels run as the matrix that their cores multiply out to, because that was measured to
// be faster (the execution plan, model/execution_plan.h). What is stored stays the cores.
#pragma once

#include <vector>

#include "qtf/tt/dense.h"

namespace qtf::tt {

/// Inference of the merged levels is dense, and so are their bits, for any number of rows. Everything else is
/// the inner map's: sizes, cores, factors, and all of training.
template <class T>
class MergedMap final : public LinearMap<T> {
 public:
  /// levels: 1 to level_count(inner's shape).
  MergedMap(std::unique_ptr<LinearMap<T>> inner, const std::vector<int>& levels);

  int64_t factor_size() const override { return inner_->factor_size(); }
  bool factors_are_cores() const override { return inner_->factors_are_cores(); }
  void prepare(const T* cores, Use use) override;
  /// Merges nothing: that the matrix was faster was measured of floats.
  void prepare_quantized(const QuantizedCores& cores) override {
    inner_->prepare_quantized(cores);
    merging_ = false;
  }
  int64_t saved_size(int64_t rows) const override { return inner_->saved_size(rows); }
  void forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int level, Arena& scratch) const override;
  void forward_columns(ConstMatrix<T> x, Matrix<T> y, int level, TeamMember& member, T* shared,
                       Arena& scratch) const override;
  void forward_level_columns(ConstMatrix<T> x, Matrix<T> y, std::span<const LevelGroup> groups,
                             TeamMember& member, T* shared, Arena& scratch) const override;
  int64_t shared_size(int64_t rows) const override { return inner_->shared_size(rows); }
  void backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx, T* dfactors,
                int level, Arena& scratch) const override {
    inner_->backward(dy, x, saved, dx, into_dx, dfactors, level, scratch);
  }
  int64_t gather_saved_size(int64_t rows) const override { return inner_->gather_saved_size(rows); }
  void gather(std::span<const int32_t> rows, Matrix<T> y, T* saved, int level, Arena& scratch) const override;
  void gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T* saved, T* dfactors,
                       int level, Arena& scratch) const override {
    inner_->gather_backward(rows, dy, saved, dfactors, level, scratch);
  }
  void pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const override {
    inner_->pull_back(cores, dfactors, dcores, scratch);
  }
  void to_dense(const T* cores, T* w, int level, Arena& scratch) const override {
    inner_->to_dense(cores, w, level, scratch);
  }

 private:
  struct Level {
    int level;
    AlignedVector<T> w;
    std::unique_ptr<DenseMap<T>> map;
  };

  /// What runs a level since the last prepare().
  const LinearMap<T>& at(int level) const;

  std::unique_ptr<LinearMap<T>> inner_;
  std::vector<Level> merged_;
  bool merging_ = false;  ///< since the last prepare()
};

}  // namespace qtf::tt
