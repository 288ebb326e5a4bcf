#include "qtf/tt/merged.h"

#include <gtest/gtest.h>

#include "qtf/base/team.h"

namespace qtf::tt {
namespace {

constexpr int64_t kOut = 33, kIn = 20, kRows = 5;

std::vector<float> random_values(int64_t n, uint64_t stream) {
  std::vector<float> values(static_cast<size_t>(n));
  const Random random{3, stream};
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.normal(i));
  return values;
}

struct Merged {
  explicit Merged(std::string_view text, const std::vector<int>& levels, Use use = Use::inference)
      : shape(parse_shape(text, kOut, kIn)),
        map(make_linear_map<float>(shape, levels)),
        plain(make_linear_map<float>(shape)),
        cores(random_values(parameters(shape), 1)) {
    map->prepare(cores.data(), use), plain->prepare(cores.data(), use);
  }

  std::vector<float> forward(const LinearMap<float>& m, int level) {
    const std::vector<float> x = random_values(kRows * kIn, 2);
    std::vector<float> y(static_cast<size_t>(kRows * kOut));
    m.forward({x.data(), kRows, kIn}, {y.data(), kRows, kOut}, nullptr, level, scratch);
    return y;
  }

  std::vector<float> forward_columns(int level) {
    const std::vector<float> x = random_values(kRows * kIn, 2);
    std::vector<float> y(static_cast<size_t>(kRows * kOut));
    std::vector<float> shared(static_cast<size_t>(map->shared_size(kRows)));
    TeamMember alone;
    map->forward_columns({x.data(), kRows, kIn}, {y.data(), kRows, kOut}, level, alone, shared.data(),
                         scratch);
    return y;
  }

  /// x·Wᵀ by the dense kernel.
  std::vector<float> dense(int level) {
    std::vector<float> w(static_cast<size_t>(kOut * kIn));
    plain->to_dense(cores.data(), w.data(), level, scratch);
    const auto matrix = make_linear_map<float>(parse_shape("dense", kOut, kIn));
    matrix->prepare(w.data(), Use::inference);
    return forward(*matrix, 0);
  }

  WeightShape shape;
  std::unique_ptr<LinearMap<float>> map, plain;
  std::vector<float> cores;
  Arena scratch;
};

TEST(MergedMap, AMergedLevelHasTheDenseMatrixsBits) {
  for (const char* text : {"chain:rank=4", "chain:rank=4,pivots=1x5x6x20", "mpo:rank=2,out=3x11,in=4x5",
                           "btt:rank=2,out=3x11,in=4x5"}) {
    Merged m(text, {1});
    EXPECT_EQ(m.forward(*m.map, 0), m.dense(0)) << text;
    EXPECT_EQ(m.forward_columns(0), m.dense(0)) << text;
  }
}

TEST(MergedMap, OtherLevelsAreTheInnerMaps) {
  Merged m("chain:rank=6,levels=2x4x6,pivots=3x7x1x9x2x5", {2, 3});
  EXPECT_EQ(m.forward(*m.map, 1), m.forward(*m.plain, 1));
  for (const int level : {0, 2, 3}) {
    EXPECT_EQ(m.forward(*m.map, level), m.dense(level)) << level;
    EXPECT_EQ(m.forward_columns(level), m.dense(level)) << level;
    EXPECT_NE(m.forward(*m.map, level), m.forward(*m.plain, level)) << level;
  }
}

TEST(MergedMap, RowsOfAMergedEmbeddingAreTheMatrixs) {
  Merged m("chain:rank=4,pivots=1x5x6x20", {1});
  std::vector<float> w(static_cast<size_t>(kOut * kIn)), y(2 * kIn);
  m.plain->to_dense(m.cores.data(), w.data(), 0, m.scratch);
  const std::vector<int32_t> rows = {32, 4};
  m.map->gather(rows, {y.data(), 2, kIn}, nullptr, 0, m.scratch);
  EXPECT_TRUE(std::equal(y.begin(), y.begin() + kIn, w.begin() + 32 * kIn));
  EXPECT_TRUE(std::equal(y.begin() + kIn, y.end(), w.begin() + 4 * kIn));
}

TEST(MergedMap, TrainingIsTheInnerMaps) {
  Merged m("chain:rank=4", {1}, Use::training);
  EXPECT_EQ(m.forward(*m.map, 0), m.forward(*m.plain, 0));
  EXPECT_EQ(m.map->factor_size(), m.plain->factor_size());
  EXPECT_EQ(m.map->saved_size(7), m.plain->saved_size(7));
}

TEST(MergedMap, ADenseMapHasNothingToMerge) {
  Merged m("dense", {1});
  EXPECT_EQ(dynamic_cast<MergedMap<float>*>(m.map.get()), nullptr);
}

}  // namespace
}  // namespace qtf::tt
