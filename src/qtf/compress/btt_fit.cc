#include "qtf/compress/btt_fit.h"

#include "qtf/compress/metric.h"
#include "qtf/tensor/gemm.h"

namespace qtf::compress {

namespace {

// Of a system's mean eigenvalue: blocks of less than full rank leave it singular.
constexpr double kRidge = 1e-10;

/// An owned matrix.
struct Dense {
  int64_t rows, cols;
  AlignedVector<double> data;

  Dense(int64_t m, int64_t n) : rows(m), cols(n), data(static_cast<size_t>(m * n), 0.0) {}
  Matrix<double> view() { return {data.data(), rows, cols}; }
  ConstMatrix<double> view() const { return {data.data(), rows, cols}; }
};

Dense product(ConstMatrix<double> a, ConstMatrix<double> b) {
  Dense c(a.rows, b.cols);
  gemm(a, b, c.view());
  return c;
}

/// x·M⁻¹ in place; nothing where M is zero, as there is nothing to solve for then.
void solve_right(Dense& x, const Dense& m) {
  double trace = 0;
  for (int64_t i = 0; i < m.rows; ++i) trace += m.view()(i, i);
  if (trace > 0) Metric::from_matrix(m.view(), kRidge).divide_right(x.view());
}

/// The rows of one output block β: W_β = L·R, L [n_inner, m_outer·r], and R [m_outer·r, in] zero but for a
/// block R_γ [r, m_inner] each input block.
class BlockRow {
 public:
  BlockRow(const tt::WeightShape& shape, ConstMatrix<double> target, ConstMatrix<double> inputs, int64_t beta,
           float* cores)
      : rank_(shape.ranks[0]),
        blocks_(shape.in_modes[0]),
        width_(shape.in_modes[1]),
        n_outer_(shape.out_modes[0]),
        beta_(beta),
        inputs_(inputs),
        answers_(product(target.row_block(beta * shape.out_modes[1], shape.out_modes[1]), inputs)),
        left_(shape.out_modes[1], blocks_ * rank_),
        right_(blocks_ * rank_, shape.in) {
    visit(cores, [](float& stored, double& value) { value = static_cast<double>(stored); });
  }

  void sweep() {
    const Dense seen = product(right_.view(), inputs_);
    left_ = product(answers_.view(), right_.view().transposed());
    solve_right(left_, product(seen.view(), right_.view().transposed()));
    for (int64_t gamma = 0; gamma < blocks_; ++gamma) fit_right(gamma);
  }

  void store(float* cores) {
    visit(cores, [](float& stored, double& value) { stored = static_cast<float>(value); });
  }

 private:
  Matrix<double> right_block(int64_t gamma) {
    return right_.view().row_block(gamma * rank_, rank_).col_block(gamma * width_, width_);
  }

  /// R_γ for L and the other blocks as they are: (LᵧᵀLᵧ)·R_γ·G_γγ = Lᵧᵀ·(rest·G)_γ.
  void fit_right(int64_t gamma) {
    const ConstMatrix<double> left = left_.view().col_block(gamma * rank_, rank_);
    const ConstMatrix<double> column = inputs_.col_block(gamma * width_, width_);
    const Matrix<double> own = right_block(gamma);
    for (int64_t r = 0; r < own.rows; ++r)
      for (int64_t j = 0; j < own.cols; ++j) own(r, j) = 0;
    const Dense others = product(left_.view(), product(right_.view(), column).view());
    Dense rest = others;
    const ConstMatrix<double> answers = answers_.view().col_block(gamma * width_, width_);
    for (int64_t i = 0; i < rest.rows; ++i)
      for (int64_t j = 0; j < rest.cols; ++j) rest.view()(i, j) = answers(i, j) - others.view()(i, j);
    Dense block = product(left.transposed(), rest.view());
    Dense moment(width_, width_);
    for (int64_t i = 0; i < width_; ++i)
      for (int64_t j = 0; j < width_; ++j) moment.view()(i, j) = column(gamma * width_ + i, j);
    solve_right(block, moment);
    Dense turned(width_, rank_);
    for (int64_t r = 0; r < rank_; ++r)
      for (int64_t j = 0; j < width_; ++j) turned.view()(j, r) = block.view()(r, j);
    solve_right(turned, product(left.transposed(), left));
    for (int64_t r = 0; r < rank_; ++r)
      for (int64_t j = 0; j < width_; ++j) own(r, j) = turned.view()(j, r);
  }

  /// The numbers of L and R beside their places in the cores.
  template <class Visit>
  void visit(float* cores, const Visit& visit) {
    float* left = cores + rank_ * n_outer_ * right_.cols + beta_ * left_.rows * left_.cols;
    for (size_t i = 0; i < left_.data.size(); ++i) visit(left[i], left_.data[i]);
    for (int64_t gamma = 0; gamma < blocks_; ++gamma) {
      const Matrix<double> own = right_block(gamma);
      float* right = cores + (gamma * n_outer_ + beta_) * rank_ * width_;
      for (int64_t r = 0; r < rank_; ++r)
        for (int64_t j = 0; j < width_; ++j) visit(right[r * width_ + j], own(r, j));
    }
  }

  int64_t rank_, blocks_, width_, n_outer_, beta_;
  ConstMatrix<double> inputs_;
  Dense answers_;  ///< target·inputs
  Dense left_, right_;
};

}  // namespace

void refit_btt(const tt::WeightShape& shape, ConstMatrix<double> target, ConstMatrix<double> inputs,
               int sweeps, float* cores) {
  for (int64_t beta = 0; beta < shape.out_modes[0]; ++beta) {
    BlockRow row(shape, target, inputs, beta, cores);
    for (int i = 0; i < sweeps; ++i) row.sweep();
    row.store(cores);
  }
}

}  // namespace qtf::compress
