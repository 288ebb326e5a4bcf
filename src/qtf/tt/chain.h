// The chain: a tensor train of W whose output modes come first, then the input modes. Its centre bond is the
// matrix rank r: W = U·V with U[out, r] contracted from the output modes' cores and V[r, in] from the input
// modes'. A prefix of the centre bond is a level. With one mode a side the cores are U (1, out, r) and V (r,
// in, 1) themselves.
#pragma once

#include <optional>

#include "qtf/tt/dense.h"
#include "qtf/tt/fixed_inputs.h"
#include "qtf/tt/gauge.h"
#include "qtf/tt/train.h"

namespace qtf::tt {

/// The two halves of a chain. Factors are U, then V.
struct ChainHalves {
  Train out;  ///< contracts to U[out, r]
  Train in;   ///< contracts to V[r, in]
  /// The shape, where its gauge is fixed: U and V are the cores with the identity's columns put in.
  std::optional<WeightShape> fixed;

  explicit ChainHalves(const WeightShape& shape);
  int64_t rank() const { return out.ranks.back(); }
  int64_t factor_size() const { return out.contracted_size() + in.contracted_size(); }

  template <class T>
  void to_factors(const T* cores, T* factors, Arena& scratch) const {
    if (fixed) return free_gauge(*fixed, cores, factors);
    contract(out, Sweep::from_left, cores, factors, scratch);
    contract(in, Sweep::from_right, cores + out.parameters(), factors + out.contracted_size(), scratch);
  }
  template <class T>
  void pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const {
    if (fixed) return gauge_gradient(*fixed, dfactors, dcores);
    contract_backward(out, Sweep::from_left, cores, dfactors, dcores, scratch);
    contract_backward(in, Sweep::from_right, cores + out.parameters(), dfactors + out.contracted_size(),
                      dcores + out.parameters(), scratch);
  }
};

/// Applied as z = x·Vᵀ, y = z·Uᵀ.
template <class T>
class ChainMap final : public LinearMap<T> {
 public:
  explicit ChainMap(WeightShape shape);

  int64_t factor_size() const override { return halves_.factor_size(); }
  bool factors_are_cores() const override;
  void prepare(const T* cores, Use use) override;
  void prepare_quantized(const QuantizedCores& cores) override;
  /// z.
  int64_t saved_size(int64_t rows) const override { return rows * halves_.rank(); }
  void forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int level, Arena& scratch) const override;
  void forward_columns(ConstMatrix<T> x, Matrix<T> y, int level, TeamMember& member, T* shared,
                       Arena& scratch) const override;
  void forward_level_columns(ConstMatrix<T> x, Matrix<T> y, std::span<const LevelGroup> groups,
                             TeamMember& member, T* shared, Arena& scratch) const override;
  /// z.
  int64_t shared_size(int64_t rows) const override { return rows * halves_.rank(); }
  void backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx, T* dfactors,
                int level, Arena& scratch) const override;
  int64_t gather_saved_size(int64_t) const override { return 0; }
  void gather(std::span<const int32_t> rows, Matrix<T> y, T* saved, int level, Arena& scratch) const override;
  void gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T* saved, T* dfactors,
                       int level, Arena& scratch) const override;
  void pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const override;
  void to_dense(const T* cores, T* w, int level, Arena& scratch) const override;

 private:
  Matrix<T> gather_u(std::span<const int32_t> rows, int64_t rank, Arena& scratch) const;
  ConstMatrix<T> v(int64_t rank) const { return {v_, rank, this->shape().in}; }
  void write_v_out(std::span<const QuantizedMatrix> cores);
  /// z = x·Vᵀ.
  void first_product(ConstMatrix<T> x, Matrix<T> z, Arena& scratch) const;

  ChainHalves halves_;
  FixedInputs<T> fixed_inputs_;  ///< empty: the gauge is free
  AlignedVector<T> factors_;     ///< U, V, where the cores are not them; V of a quantized embedding
  QuantizedMatrix u_codes_;      ///< where it is quantized
  const T* u_ = nullptr;         ///< null: quantized
  const T* v_ = nullptr;
  PackedMatrix<T> v_transposed_;  ///< [in, r]; with a fixed gauge training only
  PackedMatrix<T> u_transposed_;  ///< [r, out]
  PackedMatrix<T> u_packed_;      ///< [out, r], training only
  PackedMatrix<T> v_packed_;      ///< [r, in], training only
  Arena workspace_;               ///< of prepare()
};

/// A chain whose rank makes U and V larger than W.
template <class T>
class RebuiltChain final : public RebuiltMap<T> {
 public:
  explicit RebuiltChain(WeightShape shape) : RebuiltMap<T>(shape), halves_(shape) {}
  void pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const override;
  void to_dense(const T* cores, T* w, int level, Arena& scratch) const override;

 private:
  ChainHalves halves_;
};

/// Truncated SVD of W, the singular values shared evenly between U and V; then TT-SVD of either half,
/// weighted by the singular values, where it has several modes.
template <class T>
void chain_from_dense(const WeightShape& shape, const T* w, T* cores);

}  // namespace qtf::tt
