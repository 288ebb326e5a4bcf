#include "qtf/compress/quantize.h"

#include <gtest/gtest.h>

#include "qtf/base/random.h"
#include "qtf/compress/compress_test.h"
#include "qtf/model/gauge.h"

namespace qtf::compress {
namespace {

std::vector<float> normal_numbers(int64_t n, uint64_t stream) {
  std::vector<float> values(static_cast<size_t>(n));
  const Random random{13, stream};
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.normal(i));
  return values;
}

/// A moment whose inputs go along with each other.
std::vector<double> correlated_moment(int64_t n) {
  std::vector<double> moment(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      moment[static_cast<size_t>(i * n + j)] = std::pow(0.9, std::abs(static_cast<double>(i - j)));
  return moment;
}

/// tr(ΔW·M·ΔWᵀ) of the first `cols` columns.
double cost_of(const QuantizedNumbers& numbers, const std::vector<float>& w,
               const std::vector<double>& moment, int64_t cols) {
  const int64_t rows = numbers.rows, all = numbers.cols;
  std::vector<float> decoded(w.size());
  numbers.view().decode(decoded.data());
  double cost = 0;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j)
      for (int64_t k = 0; k < cols; ++k)
        cost += static_cast<double>(decoded[i * all + j] - w[i * all + j]) * moment[j * all + k] *
                static_cast<double>(decoded[i * all + k] - w[i * all + k]);
  return cost;
}

TEST(QuantizeWithFeedback, OtherColumnsMakeUpForWhatOneMisses) {
  constexpr int64_t kRows = 30, kCols = 70;
  const std::vector<float> w = normal_numbers(kRows * kCols, 1);
  const std::vector<double> moment = correlated_moment(kCols);
  const ConstMatrix<float> matrix(w.data(), kRows, kCols);
  for (const Coding& coding : {Coding{CodeType::int4, 32}, Coding{CodeType::int4, Coding::kWholeRow},
                               Coding{CodeType::int8, 32}, Coding{CodeType::int4, 8}}) {
    const QuantizedNumbers nearest = qtf::quantize(matrix, coding);
    const QuantizedNumbers fed_back = quantize_with_feedback(matrix, {moment.data(), kCols, kCols}, coding);
    EXPECT_LT(cost_of(fed_back, w, moment, kCols), 0.6 * cost_of(nearest, w, moment, kCols));
    EXPECT_LT(cost_of(fed_back, w, moment, 40), 0.7 * cost_of(nearest, w, moment, 40)) << "a prefix";
  }
}

TEST(QuantizeWithFeedback, IndependentInputsGetTheNearestCodes) {
  constexpr int64_t kRows = 5, kCols = 40;
  const std::vector<float> w = normal_numbers(kRows * kCols, 2);
  std::vector<double> moment(kCols * kCols);
  for (int64_t i = 0; i < kCols; ++i) moment[static_cast<size_t>(i * kCols + i)] = 3;
  const ConstMatrix<float> matrix(w.data(), kRows, kCols);
  const QuantizedNumbers fed_back = quantize_with_feedback(matrix, {moment.data(), kCols, kCols}, {});
  EXPECT_EQ(fed_back.codes, qtf::quantize(matrix, {}).codes);
  EXPECT_EQ(fed_back.scales, qtf::quantize(matrix, {}).scales);
  const Coding halves{CodeType::f16};
  EXPECT_EQ(quantize_with_feedback(matrix, {moment.data(), kCols, kCols}, halves).codes,
            qtf::quantize(matrix, halves).codes);
}

}  // namespace
}  // namespace qtf::compress
