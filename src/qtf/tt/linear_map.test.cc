#include "qtf/tt/linear_map.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "qtf/base/team.h"
#include "qtf/tt/train.h"

namespace qtf::tt {
namespace {

struct Case {
  int64_t out, in;
  const char* text;
  bool rebuilt = false;
};

// Every kind and execution form, odd and prime widths, several modes, levels.
const std::vector<Case> kCases{
    {7, 5, "dense"},
    {33, 20, "dense"},
    {13, 9, "chain:rank=3"},
    {17, 12, "chain:rank=1"},
    {16, 12, "chain:rank=6,levels=1x3x6"},
    {9, 11, "chain:rank=8,levels=4x8"},
    {9, 11, "chain:rank=8", true},
    {13, 9, "chain:rank=3,pivots=2x5x9"},
    {16, 12, "chain:rank=6,levels=1x3x6,pivots=7x2x12x1x2x7"},
    {9, 11, "chain:rank=8,pivots=1x2x3x4x5x6x7x11"},
    {9, 12, "chain:rank=8,out=3x3,in=2x3x2,outer=4", true},
    {24, 15, "chain:rank=4,out=4x6,in=3x5,outer=3"},
    {24, 30, "chain:rank=4,out=2x3x4,in=3x2x5,outer=3,levels=2x4"},
    {24, 30, "chain:rank=5,out=4x6"},
    {24, 30, "chain:ranks=3x5x2,out=4x6,in=6x5"},
    {24, 24, "mpo:rank=2,out=6x4,in=3x8"},
    {24, 24, "mpo:rank=9,out=6x4,in=3x8", true},
    {64, 64, "mpo:rank=2,out=4x4x4,in=4x4x4"},
    {64, 48, "mpo:ranks=2x1,out=4x4x4,in=2x4x6"},
    {30, 24, "mpo:ranks=6x4,out=5x3x2,in=2x3x4", true},
    {13, 24, "mpo:rank=1"},
    {24, 20, "btt:rank=1"},
    {24, 20, "btt:rank=3,out=3x8,in=4x5"},
    {7, 12, "btt:rank=1,in=3x4"},
    {12, 18, "btt:rank=6,out=2x6,in=3x6"},
};

template <class T>
std::vector<T> random_values(int64_t n, uint64_t stream) {
  std::vector<T> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) v[i] = static_cast<T>(Random{11, stream}.normal(i));
  return v;
}

/// A map with random cores, ready for use.
template <class T>
struct Fixture {
  explicit Fixture(const Case& c, Use use = Use::training)
      : shape(parse_shape(c.text, c.out, c.in)), map(make_linear_map<T>(shape)), cores(parameters(shape)) {
    initialise(shape, Random{5, 1}, cores.data());
    map->prepare(cores.data(), use);
  }

  std::vector<T> dense(int level) {
    std::vector<T> w(static_cast<size_t>(shape.out * shape.in));
    map->to_dense(cores.data(), w.data(), level, scratch);
    return w;
  }
  std::vector<T> forward(const std::vector<T>& x, int level, T* saved = nullptr) {
    const int64_t rows = static_cast<int64_t>(x.size()) / shape.in;
    std::vector<T> y(static_cast<size_t>(rows * shape.out), std::numeric_limits<T>::quiet_NaN());
    map->forward({x.data(), rows, shape.in}, {y.data(), rows, shape.out}, saved, level, scratch);
    return y;
  }
  std::vector<T> forward_columns(const std::vector<T>& x, int level) {
    const int64_t rows = static_cast<int64_t>(x.size()) / shape.in;
    std::vector<T> y(static_cast<size_t>(rows * shape.out), std::numeric_limits<T>::quiet_NaN());
    std::vector<T> shared(static_cast<size_t>(map->shared_size(rows)));
    TeamMember alone;
    map->forward_columns({x.data(), rows, shape.in}, {y.data(), rows, shape.out}, level, alone, shared.data(),
                         scratch);
    return y;
  }
  std::vector<T> gather(const std::vector<int32_t>& ids, int level) {
    std::vector<T> y(ids.size() * static_cast<size_t>(shape.in), std::numeric_limits<T>::quiet_NaN());
    map->gather(ids, {y.data(), static_cast<int64_t>(ids.size()), shape.in}, nullptr, level, scratch);
    return y;
  }
  /// The cores' gradient from the factors'.
  std::vector<T> pull_back(const std::vector<T>& dfactors) {
    if (map->factors_are_cores()) return dfactors;
    std::vector<T> dcores(cores.size(), std::numeric_limits<T>::quiet_NaN());
    map->pull_back(cores.data(), dfactors.data(), dcores.data(), scratch);
    return dcores;
  }

  WeightShape shape;
  std::unique_ptr<LinearMap<T>> map;
  std::vector<T> cores;
  Arena scratch;
};

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// The derivative of `loss` by every element of `values`, by central differences.
template <class Loss>
std::vector<double> differences(std::vector<double>& values, const Loss& loss) {
  std::vector<double> result;
  for (double& value : values) {
    const double before = value, step = 1e-5;
    value = before + step;
    const double above = loss();
    value = before - step;
    const double below = loss();
    value = before;
    result.push_back((above - below) / (2 * step));
  }
  return result;
}

void expect_near(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  double scale = 1;
  for (const double x : b) scale = std::max(scale, std::abs(x));
  size_t worst = 0;
  for (size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= std::abs(a[worst] - b[worst]))) worst = i;
  EXPECT_NEAR(a[worst], b[worst], tolerance * scale) << "worst at " << worst << " of " << a.size();
}

template <class T>
class LinearMapTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(LinearMapTest, Types);

TYPED_TEST(LinearMapTest, ForwardIsTheProductWithTheDenseMatrix) {
  using T = TypeParam;
  for (const Case& c : kCases)
    for (const Use use : {Use::training, Use::inference}) {
      SCOPED_TRACE(fmt::format("{} x {} {}", c.out, c.in, c.text));
      Fixture<T> f(c, use);
      EXPECT_EQ(is_rebuilt(f.shape), c.rebuilt);
      const int64_t rows = 5;
      const std::vector<T> x = random_values<T>(rows * c.in, 2);
      for (int level = 0; level <= level_count(f.shape); ++level) {
        const std::vector<T> w = f.dense(level), y = f.forward(x, level);
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t o = 0; o < c.out; ++o) {
            double sum = 0, magnitude = 1;
            for (int64_t j = 0; j < c.in; ++j) sum += static_cast<double>(x[i * c.in + j]) * w[o * c.in + j];
            EXPECT_NEAR(y[i * c.out + o], sum, 100 * std::numeric_limits<T>::epsilon() * magnitude);
          }
      }
    }
}

TYPED_TEST(LinearMapTest, ARowDependsOnThatRowOnly) {
  using T = TypeParam;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    Fixture<T> f(c);
    const int64_t rows = 131;
    const std::vector<T> x = random_values<T>(rows * c.in, 3);
    std::vector<T> saved(static_cast<size_t>(f.map->saved_size(rows)));
    for (int level = 0; level <= level_count(f.shape); ++level) {
      const std::vector<T> all = f.forward(x, level, saved.data());
      for (int64_t i = 0; i < rows; ++i) {
        const std::vector<T> one(x.begin() + i * c.in, x.begin() + (i + 1) * c.in);
        const std::vector<T> y = f.forward(one, level);
        EXPECT_TRUE(std::equal(y.begin(), y.end(), all.begin() + i * c.out)) << "row " << i;
      }
    }
  }
}

TYPED_TEST(LinearMapTest, TrainingAndInferenceAgreeBitForBit) {
  using T = TypeParam;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    Fixture<T> training(c, Use::training), inference(c, Use::inference);
    const std::vector<T> x = random_values<T>(3 * c.in, 4);
    EXPECT_EQ(training.forward(x, 0), inference.forward(x, 0));
    EXPECT_EQ(training.gather({0, 3, 1}, 0), inference.gather({0, 3, 1}, 0));
  }
}

TYPED_TEST(LinearMapTest, PrepareForgetsTheWeightsBefore) {
  using T = TypeParam;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    for (const Use before : {Use::training, Use::inference}) {
      for (const Use after : {Use::training, Use::inference}) {
        Fixture<T> used(c, before), fresh(c, after);
        for (std::vector<T>* cores : {&used.cores, &fresh.cores})
          for (T& core : *cores) core *= T{-2};
        used.map->prepare(used.cores.data(), after), fresh.map->prepare(fresh.cores.data(), after);
        const std::vector<T> x = random_values<T>(3 * c.in, 4);
        EXPECT_EQ(used.forward(x, 0), fresh.forward(x, 0));
        EXPECT_EQ(used.gather({0, 3, 1}, 0), fresh.gather({0, 3, 1}, 0));
      }
    }
  }
}

TYPED_TEST(LinearMapTest, TakesStridedRows) {
  using T = TypeParam;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    Fixture<T> f(c);
    const int64_t rows = 4, pad = 3;
    const std::vector<T> x = random_values<T>(rows * c.in, 3);
    std::vector<T> wide_x(static_cast<size_t>(rows * (c.in + pad)), T{9});
    std::vector<T> wide_y(static_cast<size_t>(rows * (c.out + pad)), T{7});
    for (int64_t i = 0; i < rows; ++i) std::copy_n(&x[i * c.in], c.in, &wide_x[i * (c.in + pad)]);
    f.map->forward({wide_x.data(), rows, c.in, c.in + pad}, {wide_y.data(), rows, c.out, c.out + pad},
                   nullptr, 0, f.scratch);
    const std::vector<T> y = f.forward(x, 0);
    for (int64_t i = 0; i < rows; ++i) {
      EXPECT_TRUE(std::equal(&y[i * c.out], &y[i * c.out] + c.out, &wide_y[i * (c.out + pad)]));
      EXPECT_EQ(wide_y[i * (c.out + pad) + c.out], T{7});
    }
  }
}

TEST(LinearMap, BackwardIsTheDerivativeOfForward) {
  const int64_t rows = 3;
  for (const Case& c : kCases) {
    Fixture<double> f(c);
    std::vector<double> x = random_values<double>(rows * c.in, 2);
    const std::vector<double> dy = random_values<double>(rows * c.out, 3);
    for (int level = 0; level <= level_count(f.shape); ++level) {
      SCOPED_TRACE(fmt::format("{} x {} {} level {}", c.out, c.in, c.text, level));
      std::vector<double> saved(static_cast<size_t>(f.map->saved_size(rows)));
      std::vector<double> dfactors(static_cast<size_t>(f.map->factor_size())), dx(x.size(), 1.0);
      f.forward(x, level, saved.data());
      f.map->backward({dy.data(), rows, c.out}, {x.data(), rows, c.in}, saved.data(), {dx.data(), rows, c.in},
                      Into::overwrite, dfactors.data(), level, f.scratch);
      const auto loss = [&] {
        f.map->prepare(f.cores.data(), Use::training);
        return dot(f.forward(x, level), dy);
      };
      expect_near(dx, differences(x, loss), 1e-8);
      const std::vector<double> numeric = differences(f.cores, loss);
      f.map->prepare(f.cores.data(), Use::training);
      expect_near(f.pull_back(dfactors), numeric, 1e-8);
    }
  }
}

TEST(LinearMap, BackwardAccumulatesWhereAsked) {
  const int64_t rows = 3;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    Fixture<double> f(c);
    const std::vector<double> x = random_values<double>(rows * c.in, 2);
    const std::vector<double> dy = random_values<double>(rows * c.out, 3);
    std::vector<double> saved(static_cast<size_t>(f.map->saved_size(rows)));
    f.forward(x, 0, saved.data());
    std::vector<double> once(static_cast<size_t>(f.map->factor_size())), twice = once;
    std::vector<double> dx(x.size()), dx_twice(x.size());
    const auto backward = [&](double* to, Into into, std::vector<double>& dfactors) {
      f.map->backward({dy.data(), rows, c.out}, {x.data(), rows, c.in}, saved.data(), {to, rows, c.in}, into,
                      dfactors.data(), 0, f.scratch);
    };
    backward(dx.data(), Into::overwrite, once);
    backward(dx_twice.data(), Into::overwrite, twice);
    backward(dx_twice.data(), Into::accumulate, twice);
    for (double& v : dx_twice) v /= 2;
    for (double& v : twice) v /= 2;
    expect_near(dx_twice, dx, 1e-14);
    expect_near(twice, once, 1e-14);
    std::fill(twice.begin(), twice.end(), 0.0);
    backward(nullptr, Into::overwrite, twice);
    EXPECT_EQ(twice, once) << "without dx";
  }
}

TEST(LinearMap, BackwardOfManyRowsIsTheSumOfTheirs) {
  const int64_t rows = 131;
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    Fixture<double> f(c);
    const std::vector<double> x = random_values<double>(rows * c.in, 2);
    const std::vector<double> dy = random_values<double>(rows * c.out, 3);
    std::vector<double> saved(static_cast<size_t>(f.map->saved_size(rows)));
    std::vector<double> together(static_cast<size_t>(f.map->factor_size())), apart = together;
    std::vector<double> dx(x.size()), dx_apart(x.size());
    const auto backward = [&](int64_t first, int64_t count, std::vector<double>& to_x,
                              std::vector<double>& dfactors) {
      const ConstMatrix<double> some_x(&x[first * c.in], count, c.in);
      std::vector<double> y(static_cast<size_t>(count * c.out));
      f.map->forward(some_x, {y.data(), count, c.out}, saved.data(), 0, f.scratch);
      f.map->backward({&dy[first * c.out], count, c.out}, some_x, saved.data(),
                      {&to_x[first * c.in], count, c.in}, Into::overwrite, dfactors.data(), 0, f.scratch);
    };
    backward(0, rows, dx, together);
    for (int64_t i = 0; i < rows; ++i) backward(i, 1, dx_apart, apart);
    EXPECT_EQ(dx, dx_apart);
    expect_near(together, apart, 1e-13);
  }
}

TYPED_TEST(LinearMapTest, GatherGivesRowsOfTheDenseMatrix) {
  using T = TypeParam;
  for (const Case& c : kCases) {
    Fixture<T> f(c);
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < c.out; ++i) ids.push_back((i * 5 + 2) % static_cast<int32_t>(c.out));
    for (int level = 0; level <= level_count(f.shape); ++level) {
      SCOPED_TRACE(fmt::format("{} level {}", c.text, level));
      const std::vector<T> w = f.dense(level), y = f.gather(ids, level);
      for (size_t i = 0; i < ids.size(); ++i)
        for (int64_t j = 0; j < c.in; ++j)
          EXPECT_NEAR(y[i * c.in + j], w[ids[i] * c.in + j], 50 * std::numeric_limits<T>::epsilon());
    }
  }
}

TEST(LinearMap, GatherBackwardIsTheDerivativeOfGather) {
  for (const Case& c : kCases) {
    Fixture<double> f(c);
    const std::vector<int32_t> ids{1, static_cast<int32_t>(c.out) - 1, 1, 0};
    const auto rows = static_cast<int64_t>(ids.size());
    const std::vector<double> dy = random_values<double>(rows * c.in, 3);
    for (int level = 0; level <= level_count(f.shape); ++level) {
      SCOPED_TRACE(fmt::format("{} x {} {} level {}", c.out, c.in, c.text, level));
      std::vector<double> dfactors(static_cast<size_t>(f.map->factor_size()));
      f.map->gather_backward(ids, {dy.data(), rows, c.in}, nullptr, dfactors.data(), level, f.scratch);
      EXPECT_EQ(f.map->gather_saved_size(rows), 0);
      const std::vector<double> numeric = differences(f.cores, [&] {
        f.map->prepare(f.cores.data(), Use::training);
        return dot(f.gather(ids, level), dy);
      });
      f.map->prepare(f.cores.data(), Use::training);
      expect_near(f.pull_back(dfactors), numeric, 1e-8);
    }
  }
}

TEST(LinearMap, MapsThatStoreTheirFactorsPullBackByCopying) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    Fixture<double> f(c);
    if (!f.map->factors_are_cores()) continue;
    EXPECT_EQ(f.map->factor_size(), parameters(f.shape));
    const std::vector<double> gradient = random_values<double>(f.map->factor_size(), 6);
    std::vector<double> result(gradient.size());
    f.map->pull_back(f.cores.data(), gradient.data(), result.data(), f.scratch);
    EXPECT_EQ(result, gradient);
  }
}

TEST(LinearMap, ScratchIsGivenBack) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.text);
    Fixture<float> f(c);
    const std::vector<float> x = random_values<float>(4 * c.in, 2);
    f.forward(x, 0);
    EXPECT_EQ(f.scratch.mark().used, 0u);
    f.dense(0);
    f.gather({0, 1}, 0);
    EXPECT_EQ(f.scratch.mark().used, 0u);
  }
}

TYPED_TEST(LinearMapTest, FromDenseIsExactAtFullRank) {
  using T = TypeParam;
  const std::vector<Case> full{{9, 11, "dense"},
                               {9, 11, "chain:rank=9"},
                               {12, 18, "chain:rank=12,out=3x4,in=3x2x3"},
                               {12, 18, "mpo:rank=12,out=3x4,in=6x3"},
                               {30, 24, "mpo:ranks=10x8,out=5x3x2,in=2x3x4"},
                               {12, 18, "btt:rank=4,out=3x4,in=3x6"}};
  for (const Case& c : full) {
    SCOPED_TRACE(c.text);
    const WeightShape shape = parse_shape(c.text, c.out, c.in);
    const std::vector<T> w = random_values<T>(c.out * c.in, 8);
    std::vector<T> values(static_cast<size_t>(parameters(shape)));
    EXPECT_LT(from_dense(shape, w.data(), values.data()), 100 * std::numeric_limits<T>::epsilon());

    const std::vector<T> zero(w.size());
    std::vector<T> rebuilt(w.size(), T{1});
    EXPECT_EQ(from_dense(shape, zero.data(), values.data()), 0);
    Arena scratch;
    make_linear_map<T>(shape)->to_dense(values.data(), rebuilt.data(), 0, scratch);
    EXPECT_EQ(rebuilt, zero);
  }
}

TEST(LinearMap, FromDenseErrorFallsWithTheRank) {
  const int64_t out = 24, in = 36;
  const std::vector<double> w = random_values<double>(out * in, 9);
  for (const std::string kind : {"chain:rank={}", "mpo:rank={},out=4x6,in=6x6", "btt:rank={},out=4x6,in=6x6",
                                 "chain:rank={},out=4x6,in=6x6,outer=4"}) {
    double last = 1;
    for (int64_t rank = 1; rank <= 6; ++rank) {
      const WeightShape shape = parse_shape(fmt::format(fmt::runtime(kind), rank), out, in);
      std::vector<double> values(static_cast<size_t>(parameters(shape)));
      const double error = from_dense(shape, w.data(), values.data());
      EXPECT_LT(error, last) << kind << " at rank " << rank;
      last = error;
    }
  }
}

TEST(LinearMap, FromDenseLevelsAreEachTheBestOfTheirRank) {
  const int64_t out = 14, in = 10;
  const std::vector<double> w = random_values<double>(out * in, 9);
  const WeightShape nested = parse_shape("chain:rank=7,levels=2x4x7", out, in);
  std::vector<double> values(static_cast<size_t>(parameters(nested))), level_w(w.size()), alone_w(w.size());
  from_dense(nested, w.data(), values.data());
  Arena scratch;
  for (int level = 1; level <= 3; ++level) {
    const WeightShape alone = parse_shape(fmt::format("chain:rank={}", level_rank(nested, level)), out, in);
    std::vector<double> alone_values(static_cast<size_t>(parameters(alone)));
    from_dense(alone, w.data(), alone_values.data());
    make_linear_map<double>(alone)->to_dense(alone_values.data(), alone_w.data(), 0, scratch);
    make_linear_map<double>(nested)->to_dense(values.data(), level_w.data(), level, scratch);
    expect_near(level_w, alone_w, 1e-13);
  }
}

TEST(LinearMap, InitialisedMapsHaveSensibleVariance) {
  // Dense weights have variance 1/in; a train of rank r, the lower the rank the less, and never more.
  for (const char* text : {"dense", "chain:rank=32", "chain:rank=64,levels=16x64", "mpo:rank=8", "btt:rank=2",
                           "chain:rank=32,out=16x16,in=8x16,outer=12"}) {
    SCOPED_TRACE(text);
    const int64_t out = 256, in = 128;
    const WeightShape shape = parse_shape(text, out, in);
    std::vector<float> values(static_cast<size_t>(parameters(shape))), w(static_cast<size_t>(out * in));
    initialise(shape, Random{1, 2}, values.data());
    Arena scratch;
    const auto map = make_linear_map<float>(shape);
    map->to_dense(values.data(), w.data(), 0, scratch);
    double sum = 0;
    for (const float value : w) sum += static_cast<double>(value) * value;
    const double relative = sum / static_cast<double>(out * in) * in;
    EXPECT_LT(relative, 1.3);
    EXPECT_GT(relative, 0.02);

    std::vector<float> again(values.size()), silent(values.size());
    initialise(shape, Random{1, 2}, again.data());
    EXPECT_EQ(again, values);
    initialise(shape, Random{1, 2}, silent.data(), 0);
    map->to_dense(silent.data(), w.data(), 0, scratch);
    for (const float value : w) EXPECT_EQ(value, 0);
    if (shape.kind != ShapeKind::dense) {
      EXPECT_TRUE(std::any_of(silent.begin(), silent.end(), [](float x) { return x != 0; }));
    }
  }
}

/// A map's cores as codes, and the numbers that these stand for.
struct CodedCores {
  CodedCores(const WeightShape& shape, const std::vector<float>& cores, const Coding& coding) {
    const std::vector<CoreSpec> specs = tt::cores(shape);
    numbers.reserve(specs.size());
    int64_t offset = 0;
    for (const CoreSpec& core : specs) {
      const int64_t cols = core_row_size(core);
      int64_t size = 1;
      for (const int64_t dim : core.dims) size *= dim;
      numbers.push_back(quantize({cores.data() + offset, size / cols, cols}, coding));
      views.cores.push_back(numbers.back().view());
      decoded.resize(static_cast<size_t>(offset + size));
      views.cores.back().decode(decoded.data() + offset);
      offset += size;
    }
    EXPECT_EQ(decoded.size(), cores.size());
  }

  std::vector<QuantizedNumbers> numbers;
  QuantizedCores views;
  std::vector<float> decoded;
};

// Whole, by a team's columns, by levels and as an embedding: what the numbers of the codes give.
TEST(LinearMap, QuantizedCoresGiveTheBitsOfTheirNumbers) {
  for (const Case& c : kCases)
    for (const Coding& coding : {Coding{CodeType::f16}, Coding{CodeType::int8},
                                 Coding{CodeType::int8, Coding::kWholeRow}, Coding{CodeType::int4, 4}}) {
      SCOPED_TRACE(fmt::format("{} x {} {} as {}", c.out, c.in, c.text, name(coding.type)));
      Fixture<float> plain(c, Use::inference), quantized(c, Use::training);
      CodedCores coded(plain.shape, plain.cores, coding);
      plain.map->prepare(coded.decoded.data(), Use::inference);
      const std::vector<float> x = random_values<float>(5 * c.in, 3);
      for (const bool gathers : {false, true}) {
        coded.views.gathers = gathers;
        quantized.map->prepare_quantized(coded.views);
        for (int level = 0; level <= level_count(plain.shape); ++level) {
          EXPECT_EQ(quantized.forward(x, level), plain.forward(x, level));
          EXPECT_EQ(quantized.forward_columns(x, level), plain.forward_columns(x, level));
          if (gathers) {
            EXPECT_EQ(quantized.gather({0, 3, 1}, level), plain.gather({0, 3, 1}, level));
          }
        }
      }
      quantized.map->prepare(plain.cores.data(), Use::training);
      Fixture<float> unquantized(c, Use::training);
      EXPECT_EQ(quantized.forward(x, 0), unquantized.forward(x, 0));
      EXPECT_EQ(quantized.gather({0, 3, 1}, 0), unquantized.gather({0, 3, 1}, 0));
    }
}

TEST(Train, BothSweepsGiveTheSame) {
  const Train train{.sizes = {3, 4, 2, 5}, .ranks = {2, 3, 6, 4, 3}};
  const std::vector<double> cores = random_values<double>(train.parameters(), 1);
  std::vector<double> left(static_cast<size_t>(train.contracted_size())), right = left;
  Arena scratch;
  contract(train, Sweep::from_left, cores.data(), left.data(), scratch);
  contract(train, Sweep::from_right, cores.data(), right.data(), scratch);
  expect_near(left, right, 1e-14);
  const std::vector<double> gradient = random_values<double>(train.contracted_size(), 2);
  std::vector<double> from_left(cores.size()), from_right(cores.size());
  contract_backward(train, Sweep::from_left, cores.data(), gradient.data(), from_left.data(), scratch);
  contract_backward(train, Sweep::from_right, cores.data(), gradient.data(), from_right.data(), scratch);
  expect_near(from_left, from_right, 1e-14);
}

}  // namespace
}  // namespace qtf::tt
