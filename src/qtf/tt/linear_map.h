// A linear map y = x·Wᵀ whose weights have any shape: forward, backward, and conversion to and from dense.
// nn/ builds its layers from these; adding a shape means one subclass in its own file and one table row.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "qtf/base/arena.h"
#include "qtf/base/random.h"
#include "qtf/base/team.h"
#include "qtf/tensor/gemm.h"
#include "qtf/tensor/matrix.h"
#include "qtf/tt/weight_shape.h"

namespace qtf::tt {

enum class Use { training, inference };

/// Consecutive rows that run at one nested level.
struct LevelGroup {
  int level = 0;  ///< 0: the largest
  int64_t first = 0;
  int64_t rows = 0;
};

/// The cores of a map in cores(shape) order, each as the matrix [core_rows(), core_row_size()] that it is
/// stored as. `gathers`: the map is an embedding, whose rows are looked up.
struct QuantizedCores {
  std::vector<QuantizedMatrix> cores;
  bool gathers = false;
};

/// A core's numbers per row where it is quantized: those that are summed over when it is applied lie side by
/// side.
int64_t core_row_size(const CoreSpec& core);

/// What a kind's products are called in a profile (base/profile.h).
struct ProductNames {
  const char* forward;
  const char* input_gradient;
  const char* weight_gradient;
};

/// Floating-point operations of a product.
inline double product_flops(int64_t m, int64_t n, int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

/// The cores are the parameters; the factors are the matrices that products use. For most shapes they are the
/// same numbers; where a shape is faster rebuilt (truncated outer bonds, interleaved trains above the
/// break-even rank), prepare() makes the factors once an update, and pull_back() takes their gradient to the
/// cores.
///
/// Const members are safe to call from many threads, each with its own scratch. `level` 0 is the largest.
/// Results for a row depend on that row only (see tensor/gemm.h).
template <class T>
class LinearMap {
 public:
  virtual ~LinearMap() = default;

  const WeightShape& shape() const { return shape_; }

  /// Numbers in the factors' gradient. Where factors_are_cores(), laid out exactly as the cores end to end.
  virtual int64_t factor_size() const = 0;
  virtual bool factors_are_cores() const = 0;

  /// Makes factors and packed panels from the cores (end to end, in cores(shape()) order). `cores` must
  /// outlive the map and its next prepare(). Inference skips what only backward needs.
  virtual void prepare(const T* cores, Use use) = 0;

  /// prepare() for inference from quantized cores (QuantizedCores), with the bits of their decoded numbers.
  /// What they point to must outlive the map and its next prepare().
  virtual void prepare_quantized(const QuantizedCores& cores);

  /// Numbers that forward() saves for backward() for `rows` tokens.
  virtual int64_t saved_size(int64_t rows) const = 0;

  /// y[M, out] = x[M, in]·Wᵀ. saved: saved_size(M) numbers for backward, or nullptr.
  virtual void forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int level, Arena& scratch) const = 0;

  /// forward() shared by a team, for few rows: all members call it with the same arguments, and each returns
  /// once the columns member.part(out, kColumnGrain) of y are complete. The same bits. shared:
  /// shared_size(M) numbers that all members see and that nothing else uses before the next barrier.
  virtual void forward_columns(ConstMatrix<T> x, Matrix<T> y, int level, TeamMember& member, T* shared,
                               Arena& scratch) const;
  virtual int64_t shared_size(int64_t /*rows*/) const { return 0; }

  /// forward_columns() for groups of rows, those of larger levels first. The same bits. A map whose levels
  /// are prefixes makes one product of every prefix block, of all rows that have it, so that no weight is
  /// read twice.
  virtual void forward_level_columns(ConstMatrix<T> x, Matrix<T> y, std::span<const LevelGroup> groups,
                                     TeamMember& member, T* shared, Arena& scratch) const;

  /// dx = dy·W or dx += dy·W (skipped if dx.data is null), and dfactors += the factors' gradient.
  virtual void backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx,
                        T* dfactors, int level, Arena& scratch) const = 0;

  /// Embedding: y[i, :] = W[rows[i], :], in size. gather_saved_size numbers go to `saved` unless it is null.
  virtual int64_t gather_saved_size(int64_t rows) const = 0;
  virtual void gather(std::span<const int32_t> rows, Matrix<T> y, T* saved, int level,
                      Arena& scratch) const = 0;

  /// dfactors += the gradient of gather, rows in order.
  virtual void gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T* saved, T* dfactors,
                               int level, Arena& scratch) const = 0;

  /// dcores = the cores' gradient from the factors' (overwritten). Not called where factors_are_cores().
  virtual void pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const = 0;

  /// w[out, in] = the dense matrix of a level.
  virtual void to_dense(const T* cores, T* w, int level, Arena& scratch) const = 0;

 protected:
  explicit LinearMap(WeightShape shape) : shape_(std::move(shape)) {}

 private:
  WeightShape shape_;
  AlignedVector<T> decoded_;  ///< cores, where prepare_quantized() needs them as numbers
};

/// Makes the map of a validated shape. merged_levels: levels (1 to level_count) that inference runs as the
/// matrices that their cores multiply out to, see tt/merged.h. float and double.
template <class T>
std::unique_ptr<LinearMap<T>> make_linear_map(const WeightShape& shape,
                                              const std::vector<int>& merged_levels = {});

/// Fills the cores (end to end) with normal numbers of std sqrt(1/fan_in)·min(1, sqrt(fan_out/fan_in)) each
/// (arXiv 2406.06248); the core applied last is scaled by `gain`, so that 0 gives a map that is zero and
/// trains. The i-th number depends on the stream and i only.
template <class T>
void initialise(const WeightShape& shape, Random stream, T* cores, double gain = 1);

/// Cores (end to end) of the best approximation of w[out, in] that this shape's decomposition gives:
/// truncated SVD (chain; nested prefixes are each optimal), TT-SVD (mpo), blockwise SVD (btt). Returns the
/// relative Frobenius error ‖W − Ŵ‖/‖W‖. Sources: Oseledets 2011; arXiv 2406.06248 for btt.
template <class T>
double from_dense(const WeightShape& shape, const T* w, T* cores);

}  // namespace qtf::tt
