#include "qtf/tt/guided.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace qtf::tt {
namespace {

struct Case {
  int64_t out, in;
  const char* text;
};

const Case kCases[] = {{13, 9, "chain:rank=3"},
                       {16, 12, "chain:rank=6,levels=1x3x6"},
                       {9, 11, "chain:rank=8"},
                       {24, 15, "chain:rank=4,out=4x6,in=3x5,outer=3"},
                       {24, 24, "mpo:rank=2,out=6x4,in=3x8"},
                       {24, 20, "btt:rank=3,out=3x8,in=4x5"}};
constexpr int64_t kRows = 3, kGap = 5;

std::vector<double> random_values(int64_t n, uint64_t stream) {
  std::vector<double> v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); ++i) v[i] = Random{13, stream}.normal(i);
  return v;
}

/// A guided map, its inner one alone and its guide alone.
struct Fixture {
  Fixture(const Case& c, double share)
      : shape(parse_shape(c.text, c.out, c.in)),
        map(make_linear_map<double>(shape)),
        alone(make_linear_map<double>(shape)),
        dense(parse_shape("dense", c.out, c.in)),
        cores(random_values(parameters(shape), 1)),
        guide(random_values(c.out * c.in, 2)),
        x(random_values(kRows * c.in, 3)),
        dy(random_values(kRows * c.out, 4)) {
    map.set_guide(guide.data(), share, map.factor_size() + kGap);
    prepare();
    alone->prepare(cores.data(), Use::training);
    dense.prepare(guide.data(), Use::training);
  }
  void prepare(Use use = Use::training) { map.prepare(cores.data(), use); }

  std::vector<double> forward(const LinearMap<double>& m, int level, double* saved = nullptr) {
    std::vector<double> y(static_cast<size_t>(kRows * shape.out), 77);
    m.forward({x.data(), kRows, shape.in}, {y.data(), kRows, shape.out}, saved, level, scratch);
    return y;
  }
  std::vector<double> gather(const LinearMap<double>& m, int level) {
    std::vector<double> y(static_cast<size_t>(kRows * shape.in), 77);
    m.gather(ids, {y.data(), kRows, shape.in}, nullptr, level, scratch);
    return y;
  }
  /// Holds the gradients of all numbers against central differences of `loss`.
  void expect_gradients(std::vector<double>& dfactors, const std::function<double()>& loss) {
    std::vector<double> dcores(cores.size());
    if (map.factors_are_cores()) {
      std::copy_n(dfactors.begin(), dcores.size(), dcores.begin());
    } else {
      map.pull_back(cores.data(), dfactors.data(), dcores.data(), scratch);
    }
    expect_gradient(cores, dcores.data(), loss, "cores");
    expect_gradient(guide, dfactors.data() + map.factor_size() + kGap, loss, "guide");
  }
  static void expect_gradient(std::vector<double>& values, const double* gradient,
                              const std::function<double()>& loss, const char* what) {
    for (size_t i = 0; i < values.size(); i += 1 + values.size() / 40) {
      const double before = values[i], step = 1e-5;
      values[i] = before + step;
      const double above = loss();
      values[i] = before - step;
      const double below = loss();
      values[i] = before;
      // Second-order errors of a map of third degree at most, and rounding of sums of some hundreds.
      EXPECT_NEAR(gradient[i], (above - below) / (2 * step), 1e-6) << what << " " << i;
    }
  }

  WeightShape shape;
  GuidedMap<double> map;
  std::unique_ptr<LinearMap<double>> alone;
  DenseMap<double> dense;
  std::vector<double> cores, guide, x, dy;
  std::vector<int32_t> ids = {1, 0, 1};
  Arena scratch;
};

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

TEST(GuidedMap, MixesAMatrixWithTheShape) {
  for (const Case& c : kCases) {
    for (double share : {1.0, 0.3, 0.0}) {
      Fixture f(c, share);
      for (int level = 0; level <= level_count(f.shape); ++level) {
        const auto y = f.forward(f.map, level), own = f.forward(*f.alone, level),
                   guided = f.forward(f.dense, 0);
        for (size_t i = 0; i < y.size(); ++i)
          EXPECT_NEAR(y[i], share * guided[i] + (1 - share) * own[i], 1e-13) << c.text;
        const auto rows = f.gather(f.map, level), own_rows = f.gather(*f.alone, level),
                   guided_rows = f.gather(f.dense, 0);
        for (size_t i = 0; i < rows.size(); ++i)
          EXPECT_NEAR(rows[i], share * guided_rows[i] + (1 - share) * own_rows[i], 1e-13) << c.text;
      }
    }
  }
}

TEST(GuidedMap, IsTheShapeAloneInInferenceAndInSizes) {
  for (const Case& c : kCases) {
    Fixture f(c, 0.6);
    EXPECT_EQ(f.map.shape(), f.shape);
    EXPECT_EQ(f.map.factor_size(), f.alone->factor_size());
    EXPECT_EQ(f.map.factors_are_cores(), f.alone->factors_are_cores());
    f.prepare(Use::inference);
    EXPECT_EQ(f.forward(f.map, 0), f.forward(*f.alone, 0)) << c.text;
    EXPECT_EQ(f.gather(f.map, 0), f.gather(*f.alone, 0)) << c.text;
    f.prepare();
    EXPECT_NE(f.forward(f.map, 0), f.forward(*f.alone, 0)) << c.text;
    const auto inner = f.map.release();
    inner->prepare(f.cores.data(), Use::training);
    EXPECT_EQ(f.forward(*inner, 0), f.forward(*f.alone, 0)) << c.text;
  }
}

TEST(GuidedMap, BackwardIsTheDerivativeOfForward) {
  for (const Case& c : kCases) {
    for (double share : {1.0, 0.3, 0.0}) {
      Fixture f(c, share);
      for (int level = 0; level <= level_count(f.shape); ++level) {
        SCOPED_TRACE(testing::Message() << c.text << " share " << share << " level " << level);
        std::vector<double> saved(static_cast<size_t>(f.map.saved_size(kRows)));
        std::vector<double> dfactors(static_cast<size_t>(f.map.factor_size() + kGap) + f.guide.size());
        std::vector<double> dx(f.x.size(), 5), more(f.x.size(), 5);
        f.forward(f.map, level, saved.data());
        const auto backward = [&](double* to, Into into) {
          f.map.backward({f.dy.data(), kRows, c.out}, {f.x.data(), kRows, c.in}, saved.data(),
                         {to, kRows, c.in}, into, dfactors.data(), level, f.scratch);
        };
        backward(dx.data(), Into::overwrite);
        const std::vector<double> once = dfactors;
        backward(more.data(), Into::accumulate);
        backward(nullptr, Into::overwrite);
        for (size_t i = 0; i < dx.size(); ++i) EXPECT_NEAR(more[i], dx[i] + 5, 1e-12);
        for (size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(dfactors[i], 3 * once[i], 1e-11);
        dfactors = once;
        const auto loss = [&] {
          f.prepare();
          return dot(f.forward(f.map, level), f.dy);
        };
        Fixture::expect_gradient(f.x, dx.data(), loss, "x");
        f.expect_gradients(dfactors, loss);
        f.prepare();
      }
    }
  }
}

TEST(GuidedMap, GatherBackwardIsTheDerivativeOfGather) {
  for (const Case& c : kCases) {
    Fixture f(c, 0.3);
    SCOPED_TRACE(c.text);
    const std::vector<double> dy = random_values(kRows * c.in, 6);
    std::vector<double> dfactors(static_cast<size_t>(f.map.factor_size() + kGap) + f.guide.size());
    f.map.gather_backward(f.ids, {dy.data(), kRows, c.in}, nullptr, dfactors.data(), 0, f.scratch);
    f.expect_gradients(dfactors, [&] {
      f.prepare();
      return dot(f.gather(f.map, 0), dy);
    });
  }
}

}  // namespace
}  // namespace qtf::tt
