#include "qtf/kernels/quantized.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "qtf/base/float16.h"
#include "qtf/kernels/gemm.h"
#include "qtf/kernels/gemm_columns.h"
#include "qtf/kernels/kernel_test.h"

namespace qtf::kernels {
namespace {

template <class Code>
class QuantizedKernel : public testing::Test {};
using Codes = testing::Types<Float16, Int8, Int4>;
TYPED_TEST_SUITE(QuantizedKernel, Codes);

/// Columns of B as the file holds them, and the floats that they are.
struct Stored {
  std::vector<uint8_t> codes, scales;
  std::vector<float> b;  ///< [k, n]
};

uint16_t half_of(double value) {
  return half_from_float(static_cast<float>(value));
}

template <class Code>
Stored stored_matrix(int64_t k, int64_t n, int64_t block) {
  const Random random{5, static_cast<uint64_t>(k * 1000 + n)};
  const int64_t code_bytes = (k + Code::kRows - 1) / Code::kRows * Code::kRows * Code::kBits / 8;
  const int64_t blocks = (k + block - 1) / block;
  Stored s{std::vector<uint8_t>(static_cast<size_t>(n * code_bytes)),
           std::vector<uint8_t>(static_cast<size_t>(2 * n * blocks)),
           std::vector<float>(static_cast<size_t>(k * n))};
  for (int64_t i = 0; i < n * blocks; ++i) {
    const uint16_t bits = half_of(0.01 * random.normal(static_cast<uint64_t>(i)));
    std::memcpy(&s.scales[static_cast<size_t>(2 * i)], &bits, 2);
  }
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t p = 0; p < k; ++p) {
      const auto draw = static_cast<uint64_t>(1'000'000 + j * k + p);
      uint8_t* code =
          &s.codes[static_cast<size_t>(j * code_bytes + p / Code::kRows * Code::kRows * Code::kBits / 8)];
      float& value = s.b[static_cast<size_t>(p * n + j)];
      if constexpr (Code::kBits == 16) {
        const uint16_t bits = half_of(random.normal(draw));
        std::memcpy(code, &bits, 2);
        value = float_from_half(bits);
        continue;
      }
      uint16_t bits;
      std::memcpy(&bits, &s.scales[static_cast<size_t>(2 * (j * blocks + p / block))], 2);
      const int levels = Code::kBits == 8 ? 255 : 16;
      const int q = static_cast<int>(random.uniform(draw) * levels) - levels / 2;
      if constexpr (Code::kBits == 8) *code = static_cast<uint8_t>(q);
      if constexpr (Code::kBits == 4) *code = static_cast<uint8_t>(*code | (p % 2 ? q << 4 : q & 0xF));
      value = static_cast<float>(q) * float_from_half(bits);
    }
  }
  return s;
}

/// The product by codes in parts that begin at multiples of `step`, and by floats, of the rows [first, first
/// + k).
template <class Code>
void expect_bits_of_floats(int64_t m, int64_t n, int64_t packed_k, int64_t block, int64_t first, int64_t k,
                           int64_t step, bool accumulate) {
  const Stored s = stored_matrix<Code>(packed_k, n, block);
  const GuardedArray<uint8_t> panels(quantized_size<Code>(packed_k, n, block));
  quantized_pack<Code>(packed_k, n, block, s.codes.data(), s.scales.data(), panels.data());
  const GuardedArray<float> a(normal_values<float>(m * k, 1)), floats(gemm_packed_size<float>(k, n));
  gemm_pack<float>(k, n, s.b.data() + first * n, n, 1, floats.data());
  const int64_t ldc = n + 3;
  const GuardedArray<float> expected(normal_values<float>((m - 1) * ldc + n, 3)), c(expected.values());
  gemm_packed<float>(m, n, k, a.data(), k, floats.data(), k, expected.data(), ldc, accumulate);
  const QuantizedPanels b{panels.data(), packed_k, block, first};
  for (int64_t begin = 0; begin < n; begin += step)
    quantized_columns<Code>(m, begin, std::min(n, begin + step), k, a.data(), k, b, c.data(), ldc,
                            accumulate);
  EXPECT_EQ(expected.values(), c.values())
      << m << " x " << n << " x " << k << " from " << first << " of " << packed_k << ", block " << block;

  const GuardedArray<float> decoded(gemm_packed_size<float>(k, n));
  const int64_t width = gemm_panel_width<float>();
  quantized_unpack<Code>(0, (n + width - 1) / width, k, b, decoded.data());
  EXPECT_EQ(floats.values(), decoded.values());
}

TYPED_TEST(QuantizedKernel, ProductsHaveTheBitsOfTheDecodedNumbers) {
  for_each_instruction_set([] {
    for (const int64_t m : {1, 2, 3, 4, 5, 6, 7, 13, 17}) {
      for (const int64_t n : {1, 15, 16, 40, 64, 65, 150}) {
        expect_bits_of_floats<TypeParam>(m, n, 70, 32, 0, 70, 48, m % 2 == 0);
        expect_bits_of_floats<TypeParam>(m, n, 7, 8, 0, 7, 160, m % 2 == 1);
      }
    }
  });
}

TYPED_TEST(QuantizedKernel, AnyPartOfTheDepthIsTaken) {
  for_each_instruction_set([] {
    for (const int64_t first : {0, 1, 2, 31, 32, 33, 50})
      for (const int64_t k : {0, 1, 2, 3, 31, 50})
        expect_bits_of_floats<TypeParam>(3, 70, 100, 32, first, k, 32, first % 2 == 0);
    expect_bits_of_floats<TypeParam>(5, 70, 1101, 1102, 3, 1000, 80, false);  // one scale a column
  });
}

TYPED_TEST(QuantizedKernel, PanelsOfAFixedWidthAreReadByEveryInstructionSet) {
  constexpr int64_t kM = 5, kN = 70, kK = 45, kBlock = 16;
  const Stored s = stored_matrix<TypeParam>(kK, kN, kBlock);
  const GuardedArray<uint8_t> panels(quantized_size<TypeParam>(kK, kN, kBlock, kColumnGrain));
  quantized_pack<TypeParam>(kK, kN, kBlock, s.codes.data(), s.scales.data(), panels.data(), kColumnGrain);
  const GuardedArray<float> a(normal_values<float>(kM * kK, 1));
  for_each_instruction_set([&] {
    const QuantizedPanels b{panels.data(), kK, kBlock, 0, kColumnGrain};
    const GuardedArray<float> expected(kM * kN), c(kM * kN),
        panels_of_floats(gemm_packed_size<float>(kK, kN));
    gemm_pack<float>(kK, kN, s.b.data(), kN, 1, panels_of_floats.data());
    gemm_packed<float>(kM, kN, kK, a.data(), kK, panels_of_floats.data(), kK, expected.data(), kN, false);
    quantized_columns<TypeParam>(kM, 0, kN, kK, a.data(), kK, b, c.data(), kN, false);
    EXPECT_EQ(expected.values(), c.values());
  });
}

TYPED_TEST(QuantizedKernel, AColumnIsReadAsItsNumbers) {
  constexpr int64_t kN = 37, kK = 45, kBlock = 16;
  const Stored s = stored_matrix<TypeParam>(kK, kN, kBlock);
  for (const int64_t width : {kColumnGrain, int64_t{64}}) {
    const GuardedArray<uint8_t> panels(quantized_size<TypeParam>(kK, kN, kBlock, width));
    quantized_pack<TypeParam>(kK, kN, kBlock, s.codes.data(), s.scales.data(), panels.data(), width);
    for (const int64_t column : {0, 15, 16, 36}) {
      for (const int64_t first : {0, 1, 17}) {
        const int64_t count = kK - first - 1;
        const GuardedArray<float> numbers(count);
        quantized_column<TypeParam>(column, count, {panels.data(), kK, kBlock, first, width}, numbers.data());
        for (int64_t p = 0; p < count; ++p)
          ASSERT_EQ(numbers[p], s.b[static_cast<size_t>((first + p) * kN + column)])
              << column << ", " << first + p;
      }
    }
  }
}

/// The numbers of a packed B[k, n].
template <class Code>
std::vector<float> numbers_of(int64_t k, int64_t n, const QuantizedPanels& b) {
  std::vector<float> numbers;
  for (int64_t j = 0; j < n; ++j) {
    const GuardedArray<float> column(k);
    quantized_column<Code>(j, k, b, column.data());
    for (int64_t p = 0; p < k; ++p) numbers.push_back(column[p]);
  }
  return numbers;
}

/// Half of what lies between two codes where the largest number is `largest`, and a half float's rounding.
template <class Code>
double half_step(double largest) {
  return Code::kBits == 16 ? 0x1p-11 * largest : (0.5 / (Code::kBits == 8 ? 127 : 7) + 0x1p-10) * largest;
}

TYPED_TEST(QuantizedKernel, PutColumnsAreTheNearestCodes) {
  constexpr int64_t kN = 40, kK = 45, kBlock = 16;
  for (const int64_t width : {kColumnGrain, int64_t{64}}) {
    const GuardedArray<uint8_t> panels(quantized_size<TypeParam>(kK, kN, kBlock, width));
    const QuantizedPanels b{panels.data(), kK, kBlock, 0, width};
    const std::vector<float> wanted = normal_values<float>(kN * kK, 4);
    for (int64_t j = 0; j < kN; ++j) {
      quantized_put_column<TypeParam>(j, kK, normal_values<float>(kK, 99).data(), b, panels.data());
      quantized_put_column<TypeParam>(j, kK, &wanted[static_cast<size_t>(j * kK)], b, panels.data());
    }
    const std::vector<float> numbers = numbers_of<TypeParam>(kK, kN, b);
    for (int64_t begin = 0; begin < kN * kK; begin += begin % kK + kBlock < kK ? kBlock : kK - begin % kK) {
      const int64_t end = begin + std::min(kBlock, kK - begin % kK);
      double largest = 0;
      for (int64_t i = begin; i < end; ++i)
        largest = std::max<double>(largest, std::fabs(wanted[static_cast<size_t>(i)]));
      for (int64_t i = begin; i < end; ++i)
        ASSERT_NEAR(numbers[static_cast<size_t>(i)], wanted[static_cast<size_t>(i)],
                    half_step<TypeParam>(largest))
            << i << " of panels of " << width;
    }
  }
}

TYPED_TEST(QuantizedKernel, PutRowsAreTheNearestCodesInAnyOrder) {
  constexpr int64_t kN = 40, kK = 46;
  const GuardedArray<uint8_t> panels(quantized_size<TypeParam>(kK, kN, kK));
  const QuantizedPanels b{panels.data(), kK, kK};
  const std::vector<float> wanted = normal_values<float>(kN * kK, 4);
  std::vector<float> scales(kK);
  for (int64_t turn = 0; turn < 2 * kK; ++turn) {
    const int64_t p = turn * 17 % kK;  // every row twice
    scales[static_cast<size_t>(p)] =
        quantized_put_row<TypeParam>(p, kN, &wanted[static_cast<size_t>(p * kN)], b, panels.data());
  }
  const std::vector<float> numbers = numbers_of<TypeParam>(kK, kN, b);
  for (int64_t p = 0; p < kK; ++p) {
    double largest = 0;
    for (int64_t j = 0; j < kN; ++j)
      largest = std::max<double>(largest, std::fabs(wanted[static_cast<size_t>(p * kN + j)]));
    for (int64_t j = 0; j < kN; ++j)
      ASSERT_NEAR(scales[static_cast<size_t>(p)] * numbers[static_cast<size_t>(j * kK + p)],
                  wanted[static_cast<size_t>(p * kN + j)], half_step<TypeParam>(largest))
          << p << ", " << j;
  }
}

TYPED_TEST(QuantizedKernel, NumbersBeyondHalvesStayNumbers) {
  constexpr int64_t kK = 8;
  const float infinity = std::numeric_limits<float>::infinity();
  const float wild[kK] = {1e30F, -infinity, std::nanf(""), 0, -1, 1e-40F, 65504, -1e9F};
  const GuardedArray<uint8_t> panels(quantized_size<TypeParam>(kK, 1, kK));
  const QuantizedPanels b{panels.data(), kK, kK};
  quantized_put_row<TypeParam>(0, 1, wild, b, panels.data());
  quantized_put_row<TypeParam>(1, 1, &wild[5], b, panels.data());
  quantized_put_column<TypeParam>(0, kK, wild, b, panels.data());
  for (const float number : numbers_of<TypeParam>(kK, 1, b))
    EXPECT_TRUE(TypeParam::kBits == 16 || std::isfinite(number)) << number;
}

}  // namespace
}  // namespace qtf::kernels
