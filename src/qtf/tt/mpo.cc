#include "qtf/tt/mpo.h"

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/profile.h"
#include "qtf/tt/shape_rules.h"

namespace qtf::tt {

namespace {

std::vector<int64_t> joint_modes(const WeightShape& shape) {
  std::vector<int64_t> sizes;
  for (size_t k = 0; k < shape.out_modes.size(); ++k) sizes.push_back(shape.out_modes[k] * shape.in_modes[k]);
  return sizes;
}

std::vector<int64_t> bond_ranks(const WeightShape& shape, int64_t rank) {
  const std::vector<int64_t> sizes = joint_modes(shape);
  std::vector<int64_t> ranks;
  for (size_t k = 1; k < sizes.size(); ++k) ranks.push_back(std::min(rank, bond_limit(sizes, k)));
  return ranks;
}

int64_t full_rank(const WeightShape& shape) {
  const std::vector<int64_t> sizes = joint_modes(shape);
  int64_t full = 1;
  for (size_t k = 1; k < sizes.size(); ++k) full = std::max(full, bond_limit(sizes, k));
  return full;
}

/// Output modes decrease and input modes increase: the joint modes are even, so that cores are small, and
/// contraction from the last core costs least (in·n_d and m_1·out are small).
void set_default_modes(WeightShape& shape, int count) {
  shape.out_modes = balanced_modes(shape.out, count);
  std::reverse(shape.out_modes.begin(), shape.out_modes.end());
  shape.in_modes = balanced_modes(shape.in, count);
}

void check_all_modes(const WeightShape& shape) {
  check_modes("out", shape.out_modes, shape.out);
  check_modes("in", shape.in_modes, shape.in);
  if (shape.out_modes.size() != shape.in_modes.size() || shape.out_modes.size() < 2)
    throw_input_error("shape", "mpo needs as many out modes as in modes, two or more, got out={} and in={}",
                      modes_text(shape.out_modes), modes_text(shape.in_modes));
}

void set_options(WeightShape& shape, const ShapeOptions& options) {
  const size_t count = std::max({size_t{2}, options.list("out", {}).size(), options.list("in", {}).size()});
  set_default_modes(shape, static_cast<int>(std::min<size_t>(count, 64)));
  shape.out_modes = options.list("out", shape.out_modes);
  shape.in_modes = options.list("in", shape.in_modes);
  check_all_modes(shape);
  const auto rank = options.number("rank");
  if (options.has("ranks") == rank.has_value())
    throw_input_error("shape", "mpo needs either rank=R or ranks=AxB, one a bond");
  if (rank)
    check_rank(*rank, full_rank(shape),
               fmt::format("modes {} and {}", modes_text(shape.out_modes), modes_text(shape.in_modes)));
  shape.ranks = rank ? bond_ranks(shape, *rank) : options.list("ranks", {});
}

std::string options_text(const WeightShape& shape) {
  const int64_t rank = *std::max_element(shape.ranks.begin(), shape.ranks.end());
  const bool uniform = shape.ranks == bond_ranks(shape, rank);
  return fmt::format(
      "{},out={},in={}",
      uniform ? fmt::format("rank={}", rank) : fmt::format("ranks={}", modes_text(shape.ranks)),
      modes_text(shape.out_modes), modes_text(shape.in_modes));
}

void check(const WeightShape& shape) {
  check_all_modes(shape);
  check_bonds(joint_modes(shape), shape.ranks);
}

int64_t rank_at(const WeightShape& shape, size_t bond) {
  return bond == 0 || bond == shape.out_modes.size() ? 1 : shape.ranks[bond - 1];
}

std::vector<CoreSpec> mpo_cores(const WeightShape& shape) {
  std::vector<CoreSpec> result;
  for (size_t k = 0; k < shape.out_modes.size(); ++k) {
    const int64_t left = rank_at(shape, k), right = rank_at(shape, k + 1);
    result.push_back({.suffix = fmt::format("core.{}", k),
                      .dims = {left, shape.out_modes[k], shape.in_modes[k], right},
                      .fan_in = shape.in_modes[k] * right,
                      .fan_out = left * shape.out_modes[k]});
  }
  return result;
}

int64_t direct_macs(const WeightShape& shape, int) {
  const std::span<const int64_t> out(shape.out_modes), in(shape.in_modes);
  int64_t sum = 0;
  for (size_t k = 0; k < out.size(); ++k)
    sum += product(in.first(k + 1)) * product(out.subspan(k)) * rank_at(shape, k) * rank_at(shape, k + 1);
  return sum;
}

WeightShape with_parameters(WeightShape shape, int64_t max_parameters) {
  set_default_modes(shape, 2);
  const std::vector<int64_t> sizes = joint_modes(shape);
  shape.ranks = {std::clamp<int64_t>(max_parameters / (sizes[0] + sizes[1]), 1, full_rank(shape))};
  return shape;
}

Train joint_train(const WeightShape& shape) {
  Train train{.sizes = joint_modes(shape), .ranks = shape.ranks};
  train.ranks.insert(train.ranks.begin(), 1);
  train.ranks.push_back(1);
  return train;
}

}  // namespace

const ShapeRules& mpo_rules() {
  static const ShapeRules rules{
      .info = {.kind = ShapeKind::mpo,
               .name = "mpo",
               .summary = "interleaved tensor train (TT-matrix): fewest parameters, for high ratios",
               .options = "rank=R[,out=AxB][,in=AxB] (or ranks=A, one a bond)"},
      .keys = {"rank", "out", "in", "ranks"},
      .set_options = set_options,
      .options_text = options_text,
      .check = check,
      .cores = mpo_cores,
      .is_rebuilt = [](const WeightShape& s) { return direct_macs(s, 0) >= s.in * s.out; },
      .direct_macs = direct_macs,
      .with_parameters = with_parameters,
  };
  return rules;
}

namespace {

/// The offset of every index of `modes` (row-major) where mode k has stride strides[k].
std::vector<int64_t> offsets(const std::vector<int64_t>& modes, const std::vector<int64_t>& strides) {
  std::vector<int64_t> result{0};
  for (size_t k = 0; k < modes.size(); ++k) {
    std::vector<int64_t> next;
    next.reserve(result.size() * static_cast<size_t>(modes[k]));
    for (const int64_t base : result)
      for (int64_t i = 0; i < modes[k]; ++i) next.push_back(base + i * strides[k]);
    result = std::move(next);
  }
  return result;
}

}  // namespace

MpoOrder::MpoOrder(const WeightShape& shape) {
  const size_t d = shape.out_modes.size();
  std::vector<int64_t> out_strides(d), in_strides(d);
  int64_t stride = 1;
  for (size_t k = d; k-- > 0;) {
    in_strides[k] = stride;
    out_strides[k] = stride * shape.in_modes[k];
    stride *= shape.in_modes[k] * shape.out_modes[k];
  }
  out = offsets(shape.out_modes, out_strides);
  in = offsets(shape.in_modes, in_strides);
}

namespace {

/// w[out, in] from the train's order.
template <class T>
void to_matrix(const MpoOrder& order, const T* tensor, T* w) {
  for (const int64_t i : order.out)
    for (const int64_t j : order.in) *w++ = tensor[i + j];
}

template <class T>
void from_matrix(const MpoOrder& order, const T* w, T* tensor) {
  for (const int64_t i : order.out)
    for (const int64_t j : order.in) tensor[i + j] = *w++;
}

template <class T>
void mpo_to_dense(const Train& train, const MpoOrder& order, const T* cores, T* w, Arena& scratch) {
  const ArenaScope scope(scratch);
  T* tensor = scratch.allocate<T>(train.contracted_size());
  contract(train, Sweep::from_left, cores, tensor, scratch);
  to_matrix(order, tensor, w);
}

}  // namespace

template <class T>
MpoMap<T>::MpoMap(WeightShape shape) : LinearMap<T>(shape), train_(joint_train(shape)), order_(shape) {
  const std::span<const int64_t> out(this->shape().out_modes), in(this->shape().in_modes);
  int64_t core_end = 0;
  state_begin_.push_back(0);
  for (size_t k = 0; k < out.size(); ++k) {
    const int64_t left = train_.ranks[k], right = train_.ranks[k + 1];
    steps_.push_back({.slices = product(in.first(k)),
                      .outer = left * out[k],
                      .inner = in[k] * right,
                      .cols = product(out.subspan(k + 1))});
    core_begin_.push_back(core_end);
    core_end += train_.core_size(k);
    if (k + 1 < out.size())
      state_begin_.push_back(state_begin_.back() + steps_[k].slices * steps_[k].inner * steps_[k].cols);
  }
}

template <class T>
void MpoMap<T>::prepare(const T* cores, Use use) {
  cores_ = cores;
  const ConstMatrix<T> last = core(steps_.size() - 1);
  last_transposed_.pack(last.transposed());
  if (use == Use::training) last_packed_.pack(last);
}

namespace {

/// Tokens taken through all cores at once, so that the states between them stay in the cache.
constexpr int64_t kChunkRows = 64;

/// x with rows end to end: itself, or a copy in scratch.
template <class T>
const T* contiguous(ConstMatrix<T> x, Arena& scratch) {
  if (x.row_stride == x.cols || x.rows == 1) return x.data;
  T* copy = scratch.allocate<T>(x.rows * x.cols);
  for (int64_t i = 0; i < x.rows; ++i) std::copy_n(x.data + i * x.row_stride, x.cols, copy + i * x.cols);
  return copy;
}

}  // namespace

template <class T>
void MpoMap<T>::forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int, Arena& scratch) const {
  const ProfileScope profile("mpo, forward", product_flops(x.rows, direct_macs(this->shape(), 0), 1));
  for (int64_t first = 0; first < x.rows; first += kChunkRows) {
    const int64_t rows = std::min(kChunkRows, x.rows - first);
    forward_chunk(x.row_block(first, rows), y.row_block(first, rows),
                  saved ? saved + saved_size(first) : nullptr, scratch);
  }
}

template <class T>
void MpoMap<T>::forward_chunk(ConstMatrix<T> x, Matrix<T> y, T* saved, Arena& scratch) const {
  const ArenaScope scope(scratch);
  const size_t last = steps_.size() - 1;
  T* states = saved ? saved : scratch.allocate<T>(saved_size(x.rows));
  const auto state = [&](size_t k) { return states + x.rows * state_begin_[k - 1]; };  // X_k, k = 1 … d-1
  const int64_t rows = x.rows * steps_[last].slices;
  gemm(ConstMatrix<T>(contiguous(x, scratch), rows, steps_[last].inner), last_transposed_,
       Matrix<T>(state(last), rows, steps_[last].outer));
  for (size_t k = last; k-- > 0;) {
    const Step& s = steps_[k];
    for (int64_t i = 0; i < x.rows * s.slices; ++i) {
      T* result = k > 0 ? state(k) + i * s.outer * s.cols : y.row(i);
      gemm(core(k), ConstMatrix<T>(state(k + 1) + i * s.inner * s.cols, s.inner, s.cols),
           Matrix<T>(result, s.outer, s.cols));
    }
  }
}

template <class T>
void MpoMap<T>::backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx,
                         T* dfactors, int, Arena& scratch) const {
  // Both gradients are made core by core.
  const ProfileScope profile("mpo, backward",
                             product_flops(x.rows, direct_macs(this->shape(), 0), dx.data ? 2 : 1));
  for (int64_t first = 0; first < x.rows; first += kChunkRows) {
    const int64_t rows = std::min(kChunkRows, x.rows - first);
    backward_chunk(dy.row_block(first, rows), x.row_block(first, rows), saved + saved_size(first),
                   dx.data ? dx.row_block(first, rows) : Matrix<T>(), into_dx, dfactors, scratch);
  }
}

template <class T>
void MpoMap<T>::backward_chunk(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx,
                               Into into_dx, T* dfactors, Arena& scratch) const {
  const ArenaScope scope(scratch);
  const size_t last = steps_.size() - 1;
  T* gradients = scratch.allocate<T>(saved_size(x.rows));
  const auto begin = [&](size_t k) { return x.rows * state_begin_[k - 1]; };
  for (size_t k = 0; k < last; ++k) {
    const Step& s = steps_[k];
    const Matrix<T> dcore(dfactors + core_begin_[k], s.outer, s.inner);
    for (int64_t i = 0; i < x.rows * s.slices; ++i) {
      const T* above = k > 0 ? gradients + begin(k) + i * s.outer * s.cols : dy.data + i * dy.row_stride;
      const ConstMatrix<T> d(above, s.outer, s.cols);
      const int64_t at = begin(k + 1) + i * s.inner * s.cols;
      gemm(d, ConstMatrix<T>(saved + at, s.inner, s.cols).transposed(), dcore, Into::accumulate);
      gemm(core(k).transposed(), d, Matrix<T>(gradients + at, s.inner, s.cols));
    }
  }
  const Step& s = steps_[last];
  const int64_t rows = x.rows * s.slices;
  const ConstMatrix<T> d(gradients + begin(last), rows, s.outer);
  gemm(d.transposed(), ConstMatrix<T>(contiguous(x, scratch), rows, s.inner),
       Matrix<T>(dfactors + core_begin_[last], s.outer, s.inner), Into::accumulate);
  if (!dx.data) return;
  for (int64_t i = 0; i < x.rows; ++i)
    gemm(d.row_block(i * s.slices, s.slices), last_packed_, Matrix<T>(dx.row(i), s.slices, s.inner), into_dx);
}

template <class T>
int64_t MpoMap<T>::row_part(size_t k, int64_t row) const {
  const int64_t index = row / steps_[k].cols % this->shape().out_modes[k];
  return core_begin_[k] + index * steps_[k].inner;
}

template <class T>
ConstMatrix<T> MpoMap<T>::row_core(size_t k, int64_t row) const {
  return {cores_ + row_part(k, row), train_.ranks[k], steps_[k].inner,
          this->shape().out_modes[k] * steps_[k].inner};
}

/// The row's partial products: [k] is [m_1⋯m_{k+1}, r_{k+1}]; the last goes to `result`, left out if that is
/// null.
template <class T>
const T** MpoMap<T>::row_states(int64_t row, T* result, Arena& scratch) const {
  const size_t d = steps_.size();
  const T** states = scratch.allocate<const T*>(static_cast<int64_t>(d));
  states[0] = row_core(0, row).data;
  for (size_t k = 1; k < d && (k + 1 < d || result); ++k) {
    const Step& s = steps_[k];
    T* next = k + 1 < d ? scratch.allocate<T>(s.slices * s.inner) : result;
    gemm(ConstMatrix<T>(states[k - 1], s.slices, train_.ranks[k]), row_core(k, row),
         Matrix<T>(next, s.slices, s.inner));
    states[k] = next;
  }
  return states;
}

template <class T>
void MpoMap<T>::gather(std::span<const int32_t> rows, Matrix<T> y, T*, int, Arena& scratch) const {
  for (size_t i = 0; i < rows.size(); ++i) {
    const ArenaScope scope(scratch);
    row_states(rows[i], y.row(static_cast<int64_t>(i)), scratch);
  }
}

template <class T>
void MpoMap<T>::row_backward(int64_t row, const T* dy, T* dfactors, Arena& scratch) const {
  const ArenaScope scope(scratch);
  const T** states = row_states(row, nullptr, scratch);
  const T* above = dy;
  for (size_t k = steps_.size() - 1; k > 0; --k) {
    const Step& s = steps_[k];
    const int64_t rank = train_.ranks[k];
    const ConstMatrix<T> d(above, s.slices, s.inner);
    gemm(ConstMatrix<T>(states[k - 1], s.slices, rank).transposed(), d,
         Matrix<T>(dfactors + row_part(k, row), rank, s.inner, this->shape().out_modes[k] * s.inner),
         Into::accumulate);
    T* before = scratch.allocate<T>(s.slices * rank);
    gemm(d, row_core(k, row).transposed(), Matrix<T>(before, s.slices, rank));
    above = before;
  }
  T* dcore = dfactors + row_part(0, row);
  for (int64_t j = 0; j < steps_[0].inner; ++j) dcore[j] += above[j];
}

template <class T>
void MpoMap<T>::gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T*, T* dfactors, int,
                                Arena& scratch) const {
  for (size_t i = 0; i < rows.size(); ++i)
    row_backward(rows[i], dy.data + static_cast<int64_t>(i) * dy.row_stride, dfactors, scratch);
}

template <class T>
void MpoMap<T>::pull_back(const T*, const T* dfactors, T* dcores, Arena&) const {
  std::copy_n(dfactors, factor_size(), dcores);
}

template <class T>
void MpoMap<T>::to_dense(const T* cores, T* w, int, Arena& scratch) const {
  mpo_to_dense(train_, order_, cores, w, scratch);
}

template <class T>
RebuiltMpo<T>::RebuiltMpo(WeightShape shape)
    : RebuiltMap<T>(shape), train_(joint_train(shape)), order_(shape) {}

template <class T>
void RebuiltMpo<T>::to_dense(const T* cores, T* w, int, Arena& scratch) const {
  mpo_to_dense(train_, order_, cores, w, scratch);
}

template <class T>
void RebuiltMpo<T>::pull_back(const T* cores, const T* dfactors, T* dcores, Arena& scratch) const {
  const ArenaScope scope(scratch);
  T* gradient = scratch.allocate<T>(train_.contracted_size());
  from_matrix(order_, dfactors, gradient);
  contract_backward(train_, Sweep::from_left, cores, gradient, dcores, scratch);
}

template <class T>
void mpo_from_dense(const WeightShape& shape, const T* w, T* cores) {
  const Train train = joint_train(shape);
  AlignedVector<T> tensor(static_cast<size_t>(train.contracted_size()));
  from_matrix(MpoOrder(shape), w, tensor.data());
  tt_svd(train, tensor.data(), cores);
}

#define QTF_INSTANTIATE(T)      \
  template class MpoMap<T>;     \
  template class RebuiltMpo<T>; \
  template void mpo_from_dense(const WeightShape&, const T*, T*);
QTF_INSTANTIATE(float)
QTF_INSTANTIATE(double)
#undef QTF_INSTANTIATE

}  // namespace qtf::tt
