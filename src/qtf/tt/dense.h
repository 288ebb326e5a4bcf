// The dense shape: W[out, in] itself. Shapes that are multiplied out (RebuiltMap) use it too.
#pragma once

#include "qtf/tt/linear_map.h"

namespace qtf::tt {

inline constexpr ProductNames kDenseProducts{"dense, forward", "dense, input gradient",
                                             "dense, weight gradient"};

template <class T>
class DenseMap final : public LinearMap<T> {
 public:
  explicit DenseMap(WeightShape shape, const ProductNames& names = kDenseProducts)
      : LinearMap<T>(std::move(shape)), names_(names) {}

  int64_t factor_size() const override { return this->shape().out * this->shape().in; }
  bool factors_are_cores() const override { return true; }
  void prepare(const T* cores, Use use) override;
  void prepare_quantized(const QuantizedCores& cores) override;
  int64_t saved_size(int64_t) const override { return 0; }
  void forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int level, Arena& scratch) const override;
  void forward_columns(ConstMatrix<T> x, Matrix<T> y, int level, TeamMember& member, T* shared,
                       Arena& scratch) const override;
  void backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx, T* dfactors,
                int level, Arena& scratch) const override;
  int64_t gather_saved_size(int64_t) const override { return 0; }
  void gather(std::span<const int32_t> rows, Matrix<T> y, T* saved, int level, Arena& scratch) const override;
  void gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T* saved, T* dfactors,
                       int level, Arena& scratch) const override;
  void pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const override;
  void to_dense(const T* cores, T* w, int level, Arena& scratch) const override;

 private:
  double flops(int64_t rows) const { return product_flops(rows, this->shape().in, this->shape().out); }

  ProductNames names_;
  const T* w_ = nullptr;        ///< null: quantized
  QuantizedMatrix codes_;       ///< of W, where it is quantized
  PackedMatrix<T> transposed_;  ///< Wᵀ, for x·Wᵀ
  PackedMatrix<T> plain_;       ///< W, for dy·W; training only
};

/// A map whose cores are multiplied out to W once an update; products are dense ones. A subclass gives
/// to_dense() and pull_back(): W from the cores, and the cores' gradient from W's.
template <class T>
class RebuiltMap : public LinearMap<T> {
 public:
  int64_t factor_size() const final { return dense_.factor_size(); }
  bool factors_are_cores() const final { return false; }
  void prepare(const T* cores, Use use) final;
  int64_t saved_size(int64_t) const final { return 0; }
  void forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int level, Arena& scratch) const final {
    dense_.forward(x, y, saved, level, scratch);
  }
  void forward_columns(ConstMatrix<T> x, Matrix<T> y, int level, TeamMember& member, T* shared,
                       Arena& scratch) const final {
    dense_.forward_columns(x, y, level, member, shared, scratch);
  }
  void backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx, T* dfactors,
                int level, Arena& scratch) const final {
    dense_.backward(dy, x, saved, dx, into_dx, dfactors, level, scratch);
  }
  int64_t gather_saved_size(int64_t) const final { return 0; }
  void gather(std::span<const int32_t> rows, Matrix<T> y, T* saved, int level, Arena& scratch) const final {
    dense_.gather(rows, y, saved, level, scratch);
  }
  void gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T* saved, T* dfactors,
                       int level, Arena& scratch) const final {
    dense_.gather_backward(rows, dy, saved, dfactors, level, scratch);
  }

 protected:
  explicit RebuiltMap(WeightShape shape);

 private:
  DenseMap<T> dense_;
  AlignedVector<T> w_;
  Arena workspace_;  ///< of prepare()
};

}  // namespace qtf::tt
