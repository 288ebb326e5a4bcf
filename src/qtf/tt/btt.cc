#include "qtf/tt/btt.h"

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/profile.h"
#include "qtf/kernels/vector.h"
#include "qtf/tensor/svd.h"
#include "qtf/tt/shape_rules.h"

namespace qtf::tt {

namespace {

int64_t full_rank(const WeightShape& shape) {
  return std::min(shape.out_modes[1], shape.in_modes[1]);
}

std::string block_text(const WeightShape& shape) {
  return fmt::format("blocks of {} x {}", shape.out_modes[1], shape.in_modes[1]);
}

void check_all_modes(const WeightShape& shape) {
  check_modes("out", shape.out_modes, shape.out);
  check_modes("in", shape.in_modes, shape.in);
  if (shape.out_modes.size() != 2 || shape.in_modes.size() != 2)
    throw_input_error("shape",
                      "btt needs two out and two in modes (blocks x block size), got out={} and in={}",
                      modes_text(shape.out_modes), modes_text(shape.in_modes));
}

/// As many blocks a side as each is wide, or the nearest below.
void set_default_modes(WeightShape& shape) {
  shape.out_modes = balanced_modes(shape.out, 2);
  shape.in_modes = balanced_modes(shape.in, 2);
}

void set_options(WeightShape& shape, const ShapeOptions& options) {
  set_default_modes(shape);
  shape.out_modes = options.list("out", shape.out_modes);
  shape.in_modes = options.list("in", shape.in_modes);
  check_all_modes(shape);
  const auto rank = options.number("rank");
  if (!rank) throw_input_error("shape", "btt needs rank=R, 1 to {}", full_rank(shape));
  check_rank(*rank, full_rank(shape), block_text(shape));
  shape.ranks = {*rank};
}

std::string options_text(const WeightShape& shape) {
  return fmt::format("rank={},out={},in={}", shape.ranks[0], modes_text(shape.out_modes),
                     modes_text(shape.in_modes));
}

void check(const WeightShape& shape) {
  check_all_modes(shape);
  if (shape.ranks.size() != 1) throw_input_error("shape", "btt has one rank, got {}", shape.ranks.size());
  check_rank(shape.ranks[0], full_rank(shape), block_text(shape));
}

std::vector<CoreSpec> btt_cores(const WeightShape& shape) {
  const int64_t n_outer = shape.out_modes[0], n_inner = shape.out_modes[1];
  const int64_t m_outer = shape.in_modes[0], m_inner = shape.in_modes[1], rank = shape.ranks[0];
  return {{.suffix = "core.0",
           .dims = {m_outer, n_outer * rank, m_inner},
           .fan_in = m_inner,
           .fan_out = n_outer * rank},
          {.suffix = "core.1",
           .dims = {n_outer, n_inner, m_outer * rank},
           .fan_in = m_outer * rank,
           .fan_out = n_inner}};
}

int64_t parameters_a_rank(const WeightShape& shape) {
  return shape.out_modes[0] * shape.in + shape.in_modes[0] * shape.out;
}

WeightShape with_parameters(WeightShape shape, int64_t max_parameters) {
  set_default_modes(shape);
  shape.ranks = {std::clamp<int64_t>(max_parameters / parameters_a_rank(shape), 1, full_rank(shape))};
  return shape;
}

}  // namespace

const ShapeRules& btt_rules() {
  static const ShapeRules rules{
      .info = {.kind = ShapeKind::btt,
               .name = "btt",
               .summary =
                   "block tensor train: a grid of blocks of rank R each (out and in: blocks x block size)",
               .options = "rank=R[,out=AxB][,in=AxB]"},
      .keys = {"rank", "out", "in"},
      .set_options = set_options,
      .options_text = options_text,
      .check = check,
      .cores = btt_cores,
      .is_rebuilt = [](const WeightShape&) { return false; },
      .direct_macs = [](const WeightShape& s, int) { return s.ranks[0] * parameters_a_rank(s); },
      .with_parameters = with_parameters,
  };
  return rules;
}

namespace {

/// Tokens taken through both products at once, so that what lies between them stays in the cache: at 512
/// tokens of 1024 x 256 twice as fast as all at once.
constexpr int64_t kChunkRows = 64;

}  // namespace

template <class T>
BttMap<T>::BttMap(WeightShape weight_shape)
    : LinearMap<T>(std::move(weight_shape)),
      n_outer_(this->shape().out_modes[0]),
      n_inner_(this->shape().out_modes[1]),
      m_outer_(this->shape().in_modes[0]),
      m_inner_(this->shape().in_modes[1]),
      rank_(this->shape().ranks[0]),
      right_rows_(n_outer_ * rank_),
      left_cols_(m_outer_ * rank_),
      middle_(n_outer_ * left_cols_) {}

template <class T>
void BttMap<T>::prepare(const T* cores, Use use) {
  cores_ = cores;
  const bool training = use == Use::training;
  right_transposed_.resize(static_cast<size_t>(m_outer_));
  left_transposed_.resize(static_cast<size_t>(n_outer_));
  right_packed_.resize(training ? right_transposed_.size() : 0);
  left_packed_.resize(training ? left_transposed_.size() : 0);
  for (int64_t gamma = 0; gamma < m_outer_; ++gamma) {
    const ConstMatrix<T> right(cores + right_begin(gamma), right_rows_, m_inner_);
    right_transposed_[gamma].pack(right.transposed());
    if (training) right_packed_[gamma].pack(right);
  }
  for (int64_t beta = 0; beta < n_outer_; ++beta) {
    const ConstMatrix<T> left(cores + left_begin(beta), n_inner_, left_cols_);
    left_transposed_[beta].pack(left.transposed());
    if (training) left_packed_[beta].pack(left);
  }
}

/// by_output[β][row][γ, σ] = by_input[γ][row][β, σ].
template <class T>
void BttMap<T>::to_blocks(const T* by_input, T* by_output, int64_t rows) const {
  for (int64_t beta = 0; beta < n_outer_; ++beta)
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t gamma = 0; gamma < m_outer_; ++gamma) {
        const T* from = by_input + (gamma * rows + row) * right_rows_ + beta * rank_;
        for (int64_t sigma = 0; sigma < rank_; ++sigma) *by_output++ = from[sigma];
      }
}

template <class T>
void BttMap<T>::from_blocks(const T* by_output, T* by_input, int64_t rows) const {
  for (int64_t gamma = 0; gamma < m_outer_; ++gamma)
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t beta = 0; beta < n_outer_; ++beta) {
        const T* from = by_output + (beta * rows + row) * left_cols_ + gamma * rank_;
        for (int64_t sigma = 0; sigma < rank_; ++sigma) *by_input++ = from[sigma];
      }
}

template <class T>
void BttMap<T>::forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int, Arena& scratch) const {
  const ProfileScope profile("btt, forward", product_flops(x.rows, macs(this->shape()), 1));
  for (int64_t first = 0; first < x.rows; first += kChunkRows) {
    const int64_t rows = std::min(kChunkRows, x.rows - first);
    forward_chunk(x.row_block(first, rows), y.row_block(first, rows),
                  saved ? saved + first * middle_ : nullptr, scratch);
  }
}

template <class T>
void BttMap<T>::forward_chunk(ConstMatrix<T> x, Matrix<T> y, T* saved, Arena& scratch) const {
  const ArenaScope scope(scratch);
  const int64_t rows = x.rows;
  T* by_input = scratch.allocate<T>(rows * middle_);
  T* z = saved ? saved : scratch.allocate<T>(rows * middle_);
  for (int64_t gamma = 0; gamma < m_outer_; ++gamma)
    gemm(x.col_block(gamma * m_inner_, m_inner_), right_transposed_[gamma],
         Matrix<T>(by_input + gamma * rows * right_rows_, rows, right_rows_));
  to_blocks(by_input, z, rows);
  for (int64_t beta = 0; beta < n_outer_; ++beta)
    gemm(ConstMatrix<T>(z + beta * rows * left_cols_, rows, left_cols_), left_transposed_[beta],
         y.col_block(beta * n_inner_, n_inner_));
}

template <class T>
void BttMap<T>::backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx,
                         T* dfactors, int, Arena& scratch) const {
  const ProfileScope profile("btt, backward", product_flops(x.rows, macs(this->shape()), 2));
  for (int64_t first = 0; first < x.rows; first += kChunkRows) {
    const int64_t rows = std::min(kChunkRows, x.rows - first);
    backward_chunk(dy.row_block(first, rows), x.row_block(first, rows), saved + first * middle_,
                   dx.data ? dx.row_block(first, rows) : Matrix<T>(), into_dx, dfactors, scratch);
  }
}

template <class T>
void BttMap<T>::backward_chunk(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx,
                               Into into_dx, T* dfactors, Arena& scratch) const {
  const ArenaScope scope(scratch);
  const int64_t rows = x.rows;
  T* dz = scratch.allocate<T>(rows * middle_);
  T* by_input = scratch.allocate<T>(rows * middle_);
  for (int64_t beta = 0; beta < n_outer_; ++beta) {
    const ConstMatrix<T> d = dy.col_block(beta * n_inner_, n_inner_);
    gemm(d, left_packed_[beta], Matrix<T>(dz + beta * rows * left_cols_, rows, left_cols_));
    gemm(d.transposed(), ConstMatrix<T>(saved + beta * rows * left_cols_, rows, left_cols_),
         Matrix<T>(dfactors + left_begin(beta), n_inner_, left_cols_), Into::accumulate);
  }
  from_blocks(dz, by_input, rows);
  for (int64_t gamma = 0; gamma < m_outer_; ++gamma) {
    const ConstMatrix<T> d(by_input + gamma * rows * right_rows_, rows, right_rows_);
    gemm(d.transposed(), x.col_block(gamma * m_inner_, m_inner_),
         Matrix<T>(dfactors + right_begin(gamma), right_rows_, m_inner_), Into::accumulate);
    if (dx.data) gemm(d, right_packed_[gamma], dx.col_block(gamma * m_inner_, m_inner_), into_dx);
  }
}

// Row (β, α) of W is, in each input block γ, Σ_σ L[β][α, (γ, σ)]·R[γ][(β, σ), :].
template <class T>
void BttMap<T>::gather(std::span<const int32_t> rows, Matrix<T> y, T*, int, Arena&) const {
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t beta = rows[i] / n_inner_, alpha = rows[i] % n_inner_;
    const T* left = cores_ + left_begin(beta) + alpha * left_cols_;
    for (int64_t gamma = 0; gamma < m_outer_; ++gamma) {
      const T* right = cores_ + right_begin(gamma) + beta * rank_ * m_inner_;
      T* to = y.row(static_cast<int64_t>(i)) + gamma * m_inner_;
      std::fill_n(to, m_inner_, T{0});
      for (int64_t sigma = 0; sigma < rank_; ++sigma)
        kernels::axpy(m_inner_, left[gamma * rank_ + sigma], right + sigma * m_inner_, to);
    }
  }
}

template <class T>
void BttMap<T>::gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T*, T* dfactors, int,
                                Arena&) const {
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t beta = rows[i] / n_inner_, alpha = rows[i] % n_inner_;
    const int64_t left_at = left_begin(beta) + alpha * left_cols_;
    for (int64_t gamma = 0; gamma < m_outer_; ++gamma) {
      const T* d = dy.data + static_cast<int64_t>(i) * dy.row_stride + gamma * m_inner_;
      for (int64_t sigma = 0; sigma < rank_; ++sigma) {
        const int64_t l = left_at + gamma * rank_ + sigma;
        const int64_t r = right_begin(gamma) + (beta * rank_ + sigma) * m_inner_;
        dfactors[l] += kernels::dot(m_inner_, cores_ + r, d);
        kernels::axpy(m_inner_, cores_[l], d, dfactors + r);
      }
    }
  }
}

template <class T>
void BttMap<T>::pull_back(const T*, const T* dfactors, T* dcores, Arena&) const {
  std::copy_n(dfactors, factor_size(), dcores);
}

template <class T>
void BttMap<T>::to_dense(const T* cores, T* w, int, Arena&) const {
  const int64_t in = this->shape().in;
  for (int64_t beta = 0; beta < n_outer_; ++beta)
    for (int64_t gamma = 0; gamma < m_outer_; ++gamma) {
      const ConstMatrix<T> left(cores + left_begin(beta), n_inner_, left_cols_);
      const ConstMatrix<T> right(cores + right_begin(gamma), right_rows_, m_inner_);
      gemm(left.col_block(gamma * rank_, rank_), right.row_block(beta * rank_, rank_),
           Matrix<T>(w + beta * n_inner_ * in + gamma * m_inner_, n_inner_, m_inner_, in));
    }
}

template <class T>
void btt_from_dense(const WeightShape& shape, const T* w, T* cores) {
  const int64_t n_outer = shape.out_modes[0], n_inner = shape.out_modes[1];
  const int64_t m_outer = shape.in_modes[0], m_inner = shape.in_modes[1], rank = shape.ranks[0];
  std::fill_n(cores, parameters(shape), T{0});
  T* left = cores + rank * n_outer * shape.in;
  for (int64_t beta = 0; beta < n_outer; ++beta)
    for (int64_t gamma = 0; gamma < m_outer; ++gamma) {
      const ConstMatrix<T> block(w + beta * n_inner * shape.in + gamma * m_inner, n_inner, m_inner, shape.in);
      const Svd<T> svd = truncated_svd(block, {.max_rank = rank});
      const auto found = static_cast<int64_t>(svd.s.size());
      T* r = cores + (gamma * n_outer + beta) * rank * m_inner;
      for (int64_t sigma = 0; sigma < found; ++sigma) {
        const T root = std::sqrt(svd.s[sigma]);
        for (int64_t delta = 0; delta < m_inner; ++delta)
          r[sigma * m_inner + delta] = root * svd.v[sigma * m_inner + delta];
        for (int64_t alpha = 0; alpha < n_inner; ++alpha)
          left[((beta * n_inner + alpha) * m_outer + gamma) * rank + sigma] =
              root * svd.u[alpha * found + sigma];
      }
    }
}

#define QTF_INSTANTIATE(T)  \
  template class BttMap<T>; \
  template void btt_from_dense(const WeightShape&, const T*, T*);
QTF_INSTANTIATE(float)
QTF_INSTANTIATE(double)
#undef QTF_INSTANTIATE

}  // namespace qtf::tt
