#include "qtf/compress/chain_fit.h"

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/tensor/gemm.h"
#include "qtf/tt/gauge.h"

namespace qtf::compress {

namespace {

/// Terms [from, from + count) of a decomposition become terms [to, to + count) of the chain.
void store_terms(const WeightedSvd& svd, int64_t from, int64_t to, int64_t count,
                 const tt::WeightShape& shape, float* cores) {
  const int64_t rank = tt::level_rank(shape, 0);
  const Matrix<float> u(cores, shape.out, rank), v(cores + shape.out * rank, rank, shape.in);
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t i = 0; i < shape.out; ++i) u(i, to + r) = static_cast<float>(svd.u[i * svd.rank + from + r]);
    for (int64_t j = 0; j < shape.in; ++j)
      v(to + r, j) = static_cast<float>(svd.v[(from + r) * shape.in + j]);
  }
}

/// sum += factor·x.
void add(AlignedVector<double>& sum, double factor, const AlignedVector<double>& x) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += factor * x[i];
}

/// The levels of one chain, their terms in blocks: block j is what level j adds.
class LevelFit {
 public:
  LevelFit(const tt::WeightShape& shape, std::span<const LevelTarget> targets,
           std::span<const double> importance, const Metric& rows, float* cores)
      : shape_(shape),
        rows_(rows),
        cores_(cores),
        blocks_(tt::bond_blocks(shape)),
        products_(blocks_.size()),
        moments_(blocks_.size()),
        answers_(blocks_.size()) {
    const auto numbers = static_cast<size_t>(shape.out * shape.in);
    AlignedVector<double> moment(static_cast<size_t>(shape.in * shape.in), 0.0), answer(numbers, 0.0);
    for (size_t j = blocks_.size(); j-- > 0;) {
      add(moment, importance[j], targets[j].inputs);
      AlignedVector<double> own(numbers);
      gemm(weight(targets[j].weight), square(targets[j].inputs),
           Matrix<double>(own.data(), shape.out, shape.in));
      add(answer, importance[j], own);
      moments_[j] = moment, answers_[j] = answer;
      products_[j].assign(numbers, 0.0);
    }
    for (const auto& m : moments_) metrics_.push_back(Metric::from_matrix(square(m), 0));
  }

  void sweep() {
    for (size_t j = 0; j < blocks_.size(); ++j) fit_block(j);
  }

  ErrorsByTerms errors_by_terms(std::span<const LevelTarget> targets) const {
    ErrorsByTerms errors;
    AlignedVector<double> before(products_[0].size(), 0.0);
    for (size_t j = 0; j < blocks_.size(); ++j) {
      AlignedVector<double> lack = targets[j].weight;
      add(lack, -1, before);
      const Metric columns = Metric::from_matrix(square(targets[j].inputs), 0);
      const AlignedVector<double> losses = weighted_losses(weight(lack), rows_, columns);
      std::vector<double>& sums = errors.emplace_back(losses.size() + 1, 0.0);
      for (size_t r = losses.size(); r-- > 0;) sums[r] = sums[r + 1] + losses[r];
      add(before, 1, products_[j]);
    }
    return errors;
  }

 private:
  ConstMatrix<double> weight(const AlignedVector<double>& w) const {
    return {w.data(), shape_.out, shape_.in};
  }
  ConstMatrix<double> square(const AlignedVector<double>& m) const {
    return {m.data(), shape_.in, shape_.in};
  }

  /// The errors' sum by block j alone is, but for a constant, that of one target in the metric of all levels
  /// that use the block.
  void fit_block(size_t j) {
    AlignedVector<double> target = answers_[j], part(target.size());
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (i == j) continue;
      gemm(weight(products_[i]), square(moments_[std::max(i, j)]),
           Matrix<double>(part.data(), shape_.out, shape_.in));
      add(target, -1, part);
    }
    metrics_[j].divide_right({target.data(), shape_.out, shape_.in});
    const WeightedSvd svd = weighted_svd(weight(target), rows_, metrics_[j]);
    const auto [begin, end] = blocks_[j];
    store_terms(svd, 0, begin, end - begin, shape_, cores_);
    gemm(ConstMatrix<double>(svd.u.data(), shape_.out, end - begin, svd.rank),
         ConstMatrix<double>(svd.v.data(), end - begin, shape_.in),
         Matrix<double>(products_[j].data(), shape_.out, shape_.in));
  }

  const tt::WeightShape& shape_;
  const Metric& rows_;
  float* cores_;
  std::vector<std::pair<int64_t, int64_t>> blocks_;
  std::vector<AlignedVector<double>> products_;  ///< of a block's terms
  // Of the levels from j on, each times its importance: sums of their moments, and of target·moment.
  std::vector<AlignedVector<double>> moments_, answers_;
  std::vector<Metric> metrics_;
};

}  // namespace

void fit_chain(const tt::WeightShape& shape, ConstMatrix<double> target, const Metric& rows,
               const Metric& columns, float* cores) {
  store_terms(weighted_svd(target, rows, columns), 0, 0, tt::level_rank(shape, 0), shape, cores);
}

void fit_levels(const tt::WeightShape& shape, std::span<const LevelTarget> targets,
                std::span<const double> importance, const Metric& rows, int sweeps, float* cores,
                ErrorsByTerms* errors) {
  QTF_ASSERT(targets.size() == tt::bond_blocks(shape).size() && importance.size() == targets.size());
  LevelFit fit(shape, targets, importance, rows, cores);
  for (int i = 0; i < sweeps; ++i) fit.sweep();
  if (errors) *errors = fit.errors_by_terms(targets);
}

}  // namespace qtf::compress
