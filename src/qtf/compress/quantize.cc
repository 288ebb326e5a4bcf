#include "qtf/compress/quantize.h"

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/compress/metric.h"
#include "qtf/tensor/gemm.h"
#include "qtf/tensor/svd.h"
#include "qtf/tt/gauge.h"

namespace qtf::compress {

namespace {

// Of the moment's mean eigenvalue: directions that the calibration text hardly has are not given up.
constexpr double kShrinkage = 0.01;

/// F, upper triangular, with FᵀF = (M + shrinkage)⁻¹: what column j misses by e, column k > j makes up for by
/// e·F[j, k]/F[j, j].
AlignedVector<double> feedback_factor(ConstMatrix<double> moment) {
  const int64_t n = moment.rows;
  AlignedVector<double> inverse(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i) inverse[static_cast<size_t>(i * n + i)] = 1;
  Metric::from_matrix(moment, kShrinkage).divide_right(Matrix<double>(inverse.data(), n, n));
  const auto lower = cholesky(ConstMatrix<double>(inverse.data(), n, n));
  QTF_ASSERT(lower);
  AlignedVector<double> upper(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = i; j < n; ++j)
      upper[static_cast<size_t>(i * n + j)] = lower->lower[static_cast<size_t>(j * n + i)];
  return upper;
}

}  // namespace

QuantizedNumbers quantize_with_feedback(ConstMatrix<float> w, ConstMatrix<double> moment,
                                        const Coding& coding) {
  if (!coding.scaled()) return qtf::quantize(w, coding);
  check_codes_hold(w);
  const int64_t rows = w.rows, cols = w.cols, block = coding.block_of(cols);
  const AlignedVector<double> factor = feedback_factor(moment);
  const ConstMatrix<double> f(factor.data(), cols, cols);
  // What an error costs that the columns after it make up for.
  std::vector<float> importance;
  for (int64_t j = 0; j < cols; ++j) importance.push_back(static_cast<float>(1 / (f(j, j) * f(j, j))));
  // Transposed: a column's errors go to all rows of the later ones.
  AlignedVector<float> numbers(static_cast<size_t>(rows * cols));
  const Matrix<float> columns(numbers.data(), cols, rows);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) columns(j, i) = w(i, j);

  CodeWriter writer(coding, rows, cols);
  std::vector<float> part, errors(static_cast<size_t>(rows));
  for (int64_t begin = 0; begin < cols; begin += block) {
    const int64_t end = std::min(cols, begin + block);
    for (int64_t i = 0; i < rows; ++i) {
      part.clear();
      for (int64_t j = begin; j < end; ++j) part.push_back(columns(j, i));
      writer.fit_scale(i, begin / block, part,
                       std::span(importance).subspan(static_cast<size_t>(begin), part.size()));
    }
    for (int64_t j = begin; j < end; ++j) {
      for (int64_t i = 0; i < rows; ++i)
        errors[static_cast<size_t>(i)] = columns(j, i) - writer.put(i, j, columns(j, i));
      for (int64_t k = j + 1; k < cols; ++k) {
        const auto share = static_cast<float>(f(j, k) / f(j, j));
        float* column = columns.row(k);
        for (int64_t i = 0; i < rows; ++i) column[i] -= share * errors[static_cast<size_t>(i)];
      }
    }
  }
  return writer.take();
}

namespace {

/// What an error of a map's rows costs: E[x·xᵀ] of its inputs. A row of the embedding is met as often as its
/// token, and costs by E[g·gᵀ] of the embedding's output; a row of the head costs as often as its token is
/// expected, by E[h·hᵀ]: where they are one map, the sum.
AlignedVector<double> row_moment(const model::Transformer<float>& model, const Calibration& calibration,
                                 size_t m) {
  const model::MapSpec& map = model.layout().maps[m].spec;
  if (map.part == model::MapPart::head) return calibration.hidden.matrix();
  if (map.part == model::MapPart::embedding) {
    AlignedVector<double> moment = calibration.embedding_gradients.matrix();
    const AlignedVector<double> hidden = calibration.hidden.matrix();
    for (size_t i = 0; model.config().tied && i < moment.size(); ++i) moment[i] += hidden[i];
    return moment;
  }
  const BlockMoments<MeanMoment>& block = calibration.blocks[static_cast<size_t>(map.layer)];
  const size_t in_block = (m - 1) % block.gradients.size();
  const Site site = site_of(model.config().family, static_cast<int64_t>(in_block));
  return block.inputs[static_cast<size_t>(site)].matrix();
}

/// a·b·aᵀ.
AlignedVector<double> congruence(ConstMatrix<double> a, ConstMatrix<double> b) {
  AlignedVector<double> ab(static_cast<size_t>(a.rows * a.cols)), aba(static_cast<size_t>(a.rows * a.rows));
  gemm<double>(a, b, Matrix<double>(ab.data(), a.rows, a.cols));
  gemm<double>(ConstMatrix<double>(ab.data(), a.rows, a.cols), a.transposed(),
               Matrix<double>(aba.data(), a.rows, a.rows));
  return aba;
}

AlignedVector<double> widened(const float* numbers, int64_t count) {
  return AlignedVector<double>(numbers, numbers + count);
}

/// A chain's factors: V coded, then U for it.
std::vector<QuantizedNumbers> quantize_chain(const tt::WeightShape& shape, const float* cores,
                                             ConstMatrix<double> moment, const Coding& coding) {
  const int64_t out = shape.out, in = shape.in, rank = tt::level_rank(shape, 0);
  const float* v = cores + out * rank;
  QuantizedNumbers v_codes = quantize_with_feedback({v, rank, in}, moment, coding);
  AlignedVector<float> decoded(static_cast<size_t>(rank * in));
  v_codes.view().decode(decoded.data());

  // Level after level: what the parts before and the codes of V leave of the whole is what U has to give.
  const AlignedVector<double> old_u = widened(cores, out * rank), old_v = widened(v, rank * in),
                              new_v = widened(decoded.data(), rank * in);
  AlignedVector<double> fitted(static_cast<size_t>(out * rank)), rest(static_cast<size_t>(out * in));
  const Matrix<double> u(fitted.data(), out, rank), left(rest.data(), out, in);
  for (const auto& [begin, end] : tt::bond_blocks(shape)) {
    const int64_t size = end - begin;
    const ConstMatrix<double> from_u = ConstMatrix<double>(old_u.data(), out, rank).col_block(begin, size);
    const ConstMatrix<double> from_v(old_v.data() + begin * in, size, in),
        to_v(new_v.data() + begin * in, size, in);
    gemm<double>(from_u, from_v, left, Into::accumulate);
    AlignedVector<double> weighted(static_cast<size_t>(in * size)), part(static_cast<size_t>(out * size));
    gemm<double>(moment, to_v.transposed(), Matrix<double>(weighted.data(), in, size));
    const Matrix<double> block(part.data(), out, size);
    gemm<double>(left, ConstMatrix<double>(weighted.data(), in, size), block);
    const AlignedVector<double> gram = congruence(to_v, moment);
    Metric::from_matrix(ConstMatrix<double>(gram.data(), size, size), kShrinkage / 100).divide_right(block);
    for (int64_t i = 0; i < out; ++i) std::copy_n(block.row(i), size, &u(i, begin));
    for (double& x : part) x = -x;
    gemm<double>(block, to_v, left, Into::accumulate);
  }
  AlignedVector<float> narrow(fitted.begin(), fitted.end());
  const AlignedVector<double> gram = congruence(ConstMatrix<double>(new_v.data(), rank, in), moment);
  std::vector<QuantizedNumbers> codes;
  codes.push_back(quantize_with_feedback({narrow.data(), out, rank},
                                         ConstMatrix<double>(gram.data(), rank, rank), coding));
  codes.push_back(std::move(v_codes));
  return codes;
}

std::vector<QuantizedNumbers> quantize_map(const model::MapParameters& map, const float* parameters,
                                           ConstMatrix<double> moment, const Coding& coding) {
  const tt::WeightShape& shape = map.shape;
  const bool plain_chain = shape.kind == tt::ShapeKind::chain && shape.out_modes.size() == 1 &&
                           shape.in_modes.size() == 1 && shape.pivots.empty();
  if (plain_chain) return quantize_chain(shape, parameters + map.offset, moment, coding);
  std::vector<QuantizedNumbers> codes;
  for (const model::CorePlace& core : model::core_places(map)) {
    const ConstMatrix<float> w(parameters + core.offset, core.rows, core.cols);
    codes.push_back(shape.kind == tt::ShapeKind::dense ? quantize_with_feedback(w, moment, coding)
                                                       : qtf::quantize(w, coding));
  }
  return codes;
}

}  // namespace

model::QuantizedWeights quantize(const model::Transformer<float>& model, const Calibration& calibration,
                                 const Coding& coding, ThreadPool& pool) {
  const std::vector<model::MapParameters>& maps = model.layout().maps;
  const float* parameters = model.parameters().data();
  const auto numbers = std::make_shared<std::vector<std::vector<QuantizedNumbers>>>(maps.size());
  pool.run([&](int worker) {
    for (size_t m = static_cast<size_t>(worker); m < maps.size(); m += static_cast<size_t>(pool.size())) {
      const AlignedVector<double> moment = row_moment(model, calibration, m);
      const int64_t in = maps[m].spec.in;
      (*numbers)[m] = quantize_map(maps[m], parameters, ConstMatrix<double>(moment.data(), in, in), coding);
    }
  });
  return model::with_codes(model.layout(), coding, numbers);
}

}  // namespace qtf::compress
