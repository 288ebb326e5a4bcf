#include "qtf/tensor/quantized_matrix.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/random.h"
#include "qtf/tensor/gemm.h"
#include "qtf/tensor/gemm_columns.h"

namespace qtf {
namespace {

std::vector<float> normal_numbers(int64_t n, uint64_t stream) {
  std::vector<float> values(static_cast<size_t>(n));
  const Random random{3, stream};
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.normal(i));
  return values;
}

const Coding kCodings[] = {{CodeType::f16, 32},  {CodeType::int8, 32}, {CodeType::int8, Coding::kWholeRow},
                           {CodeType::int4, 32}, {CodeType::int4, 8},  {CodeType::int4, Coding::kWholeRow}};

double relative_error(const std::vector<float>& w, const Coding& coding, int64_t rows, int64_t cols,
                      std::span<const float> importance = {}) {
  const QuantizedNumbers numbers = quantize(ConstMatrix<float>(w.data(), rows, cols), coding, importance);
  std::vector<float> decoded(w.size());
  numbers.view().decode(decoded.data());
  double error = 0, whole = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const double weight = importance.empty() ? 1 : importance[i % static_cast<size_t>(cols)];
    error += weight * std::pow(w[i] - decoded[i], 2), whole += weight * std::pow(w[i], 2);
  }
  return std::sqrt(error / whole);
}

TEST(QuantizedMatrix, ErrorsAreThoseOfTheBits) {
  const auto w = normal_numbers(64 * 100, 1);
  EXPECT_LT(relative_error(w, {CodeType::f16, 32}, 64, 100), 3e-4);
  EXPECT_LT(relative_error(w, {CodeType::int8, 32}, 64, 100), 6e-3);
  EXPECT_LT(relative_error(w, {CodeType::int8, Coding::kWholeRow}, 64, 100), 8e-3);
  EXPECT_LT(relative_error(w, {CodeType::int4, 32}, 64, 100), 0.09);
}

TEST(QuantizedMatrix, ImportantColumnsAreMissedLess) {
  const auto w = normal_numbers(64 * 96, 2);
  std::vector<float> importance(96, 1);
  for (size_t j = 0; j < importance.size(); j += 7) importance[j] = 100;
  const Coding coding{CodeType::int4, 32};
  std::vector<float> all(w.size()), weighted(w.size());
  quantize(ConstMatrix<float>(w.data(), 64, 96), coding).view().decode(all.data());
  quantize(ConstMatrix<float>(w.data(), 64, 96), coding, importance).view().decode(weighted.data());
  double before = 0, after = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    before += importance[i % 96] * std::pow(w[i] - all[i], 2);
    after += importance[i % 96] * std::pow(w[i] - weighted[i], 2);
  }
  EXPECT_LT(after, 0.9 * before);
}

TEST(QuantizedMatrix, ZerosAndSingleNumbersStay) {
  for (const Coding& coding : kCodings) {
    const std::vector<float> w{0, 0, 0, 0, 0, 0.5f};
    std::vector<float> decoded(6);
    quantize(ConstMatrix<float>(w.data(), 2, 3), coding).view().decode(decoded.data());
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(decoded[i], 0);
    EXPECT_NEAR(decoded[5], 0.5f, 2e-4f);
  }
}

TEST(QuantizedMatrix, RefusesNumbersThatHalvesCannotHold) {
  const std::vector<float> w{1, 1e6f};
  EXPECT_THROW(quantize(ConstMatrix<float>(w.data(), 1, 2), {}), InputError);
  const std::vector<float> nan{1, NAN};
  EXPECT_THROW(quantize(ConstMatrix<float>(nan.data(), 1, 2), {}), InputError);
}

TEST(QuantizedMatrix, NamesComeBack) {
  for (const CodeType type : {CodeType::f16, CodeType::int8, CodeType::int4})
    EXPECT_EQ(code_type_named(name(type)), type);
  EXPECT_FALSE(code_type_named("int3"));
}

/// Products of any number of rows, prefixes of the depth and of the columns, and parts of both.
TEST(QuantizedGemm, HasTheBitsOfTheDecodedNumbers) {
  constexpr int64_t kIn = 600, kOut = 150;
  const auto w = normal_numbers(kIn * kOut, 3);
  for (const Coding& coding : kCodings) {
    const QuantizedNumbers numbers = quantize(ConstMatrix<float>(w.data(), kOut, kIn), coding);
    const QuantizedMatrix view = numbers.view();
    std::vector<float> decoded(w.size());
    view.decode(decoded.data());
    const PackedMatrix<float> floats(ConstMatrix<float>(decoded.data(), kOut, kIn).transposed());
    PackedMatrix<float> codes;
    codes.pack_transposed(view);
    ASSERT_TRUE(codes.quantized());
    for (const int64_t m : {1, 16, 17, 100}) {
      for (const int64_t k : {kIn, int64_t{77}}) {
        for (const int64_t n : {kOut, int64_t{33}}) {
          const auto a = normal_numbers(m * k, 4), before = normal_numbers(m * n, 5);
          const ConstMatrix<float> left(a.data(), m, k);
          std::vector<float> x = before, y = before, z = before;
          gemm(left, floats, Matrix<float>(x.data(), m, n), Into::accumulate);
          gemm(left, codes, Matrix<float>(y.data(), m, n), Into::accumulate);
          EXPECT_EQ(x, y) << m << " " << k << " " << n;
          gemm_columns<float>(left, codes, Matrix<float>(z.data(), m, n), {0, 16}, Into::accumulate);
          gemm_columns<float>(left, codes, Matrix<float>(z.data(), m, n), {16, n}, Into::accumulate);
          EXPECT_EQ(x, z);
        }
      }
    }
    const auto a = normal_numbers(2 * 500, 6);
    const ConstMatrix<float> left(a.data(), 2, 500);
    std::vector<float> x(2 * kOut), y(2 * kOut);
    gemm_columns<float>(left, floats, Matrix<float>(x.data(), 2, kOut), {0, kOut}, Into::overwrite, 99);
    gemm_columns<float>(left, codes, Matrix<float>(y.data(), 2, kOut), {0, kOut}, Into::overwrite, 99);
    EXPECT_EQ(x, y);
  }
}

}  // namespace
}  // namespace qtf
