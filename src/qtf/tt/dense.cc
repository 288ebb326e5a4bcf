#include "qtf/tt/dense.h"

#include <algorithm>
#include <type_traits>

#include "qtf/base/error.h"
#include "qtf/base/profile.h"
#include "qtf/kernels/vector.h"
#include "qtf/tensor/gemm_columns.h"
#include "qtf/tt/shape_rules.h"

namespace qtf::tt {

namespace {

void check(const WeightShape& shape) {
  if (!shape.out_modes.empty() || !shape.in_modes.empty() || !shape.ranks.empty())
    throw_input_error("shape", "dense takes no modes and no ranks; leave them out");
}

WeightShape dense_shape(int64_t out, int64_t in) {
  WeightShape shape;
  shape.out = out, shape.in = in;
  return shape;
}

}  // namespace

const ShapeRules& dense_rules() {
  static const ShapeRules rules{
      .info = {.kind = ShapeKind::dense,
               .name = "dense",
               .summary = "the whole matrix W[out, in]",
               .options = ""},
      .keys = {},
      .set_options = [](WeightShape&, const ShapeOptions&) {},
      .options_text = [](const WeightShape&) { return std::string(); },
      .check = check,
      .cores =
          [](const WeightShape& s) {
            return std::vector<CoreSpec>{
                {.suffix = "weight", .dims = {s.out, s.in}, .fan_in = s.in, .fan_out = s.out}};
          },
      .is_rebuilt = [](const WeightShape&) { return false; },
      .direct_macs = [](const WeightShape& s, int) { return s.in * s.out; },
      .with_parameters = [](WeightShape s, int64_t) { return s; },
  };
  return rules;
}

template <class T>
void DenseMap<T>::prepare(const T* cores, Use use) {
  w_ = cores;
  const ConstMatrix<T> w(w_, this->shape().out, this->shape().in);
  transposed_.pack(w.transposed());
  if (use == Use::training) plain_.pack(w);
}

template <class T>
void DenseMap<T>::prepare_quantized(const QuantizedCores& cores) {
  if constexpr (std::is_same_v<T, float>) {
    w_ = nullptr;
    codes_ = cores.cores[0];
    transposed_.pack_transposed(codes_);
    plain_ = {};
  } else {
    LinearMap<T>::prepare_quantized(cores);
  }
}

template <class T>
void DenseMap<T>::forward(ConstMatrix<T> x, Matrix<T> y, T*, int, Arena&) const {
  const ProfileScope scope(names_.forward, flops(x.rows));
  gemm(x, transposed_, y);
}

template <class T>
void DenseMap<T>::forward_columns(ConstMatrix<T> x, Matrix<T> y, int, TeamMember& member, T*, Arena&) const {
  const Range columns = member.part(y.cols, kColumnGrain);
  const ProfileScope scope(names_.forward, product_flops(x.rows, columns.size(), x.cols));
  gemm_columns(x, transposed_, y, columns);
}

template <class T>
void DenseMap<T>::backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T*, Matrix<T> dx, Into into_dx,
                           T* dfactors, int, Arena&) const {
  if (dx.data) {
    const ProfileScope scope(names_.input_gradient, flops(x.rows));
    gemm(dy, plain_, dx, into_dx);
  }
  const ProfileScope scope(names_.weight_gradient, flops(x.rows));
  gemm(dy.transposed(), x, Matrix<T>(dfactors, this->shape().out, this->shape().in), Into::accumulate);
}

template <class T>
void DenseMap<T>::gather(std::span<const int32_t> rows, Matrix<T> y, T*, int, Arena&) const {
  const int64_t in = this->shape().in;
  for (size_t i = 0; i < rows.size(); ++i) {
    T* to = y.row(static_cast<int64_t>(i));
    if constexpr (std::is_same_v<T, float>) {
      if (!w_) {
        codes_.decode_row(rows[i], in, to);
        continue;
      }
    }
    std::copy_n(w_ + rows[i] * in, in, to);
  }
}

template <class T>
void DenseMap<T>::gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T*, T* dfactors,
                                  int, Arena&) const {
  const int64_t in = this->shape().in;
  for (size_t i = 0; i < rows.size(); ++i)
    kernels::add(in, dy.data + static_cast<int64_t>(i) * dy.row_stride, dfactors + rows[i] * in);
}

template <class T>
void DenseMap<T>::pull_back(const T*, const T* dfactors, T* dcores, Arena&) const {
  std::copy_n(dfactors, factor_size(), dcores);
}

template <class T>
void DenseMap<T>::to_dense(const T* cores, T* w, int, Arena&) const {
  std::copy_n(cores, factor_size(), w);
}

namespace {
constexpr ProductNames kRebuiltProducts{"rebuilt, forward", "rebuilt, input gradient",
                                        "rebuilt, weight gradient"};
}

template <class T>
RebuiltMap<T>::RebuiltMap(WeightShape shape)
    : LinearMap<T>(shape),
      dense_(dense_shape(shape.out, shape.in), kRebuiltProducts),
      w_(static_cast<size_t>(shape.out * shape.in)) {}

template <class T>
void RebuiltMap<T>::prepare(const T* cores, Use use) {
  this->to_dense(cores, w_.data(), 0, workspace_);
  dense_.prepare(w_.data(), use);
}

template class DenseMap<float>;
template class DenseMap<double>;
template class RebuiltMap<float>;
template class RebuiltMap<double>;

}  // namespace qtf::tt
