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

TEST(MergedMap, QuantizedCoresAreNotMerged) {
  Merged m("chain:rank=4", {1});
  const auto u = quantize({m.cores.data(), kOut, 4}, {}),
             v = quantize({m.cores.data() + kOut * 4, 4, kIn}, {});
  const QuantizedCores cores{{u.view(), v.view()}};
  m.map->prepare_quantized(cores), m.plain->prepare_quantized(cores);
  EXPECT_EQ(m.forward(*m.map, 0), m.forward(*m.plain, 0));
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

// Rows at several levels, by blocks of the bond or by merged matrices, on any number of members: the bits of
// each row alone at its level.
TEST(LevelColumns, EveryRowHasTheBitsOfItsLevelAlone) {
  // 32 ranks: levels within and across the columns that a member takes.
  constexpr int64_t kTall = 70, kWide = 60;
  const std::vector<LevelGroup> groups{{3, 0, 2}, {2, 2, 1}, {1, 3, 4}};
  std::string pivots = "1";
  for (int i = 2; i <= 5; ++i) pivots += "x" + std::to_string(i);
  for (int i = 10; i < 31; ++i) pivots += "x" + std::to_string(i);
  for (int i = 1; i <= 6; ++i) pivots += "x" + std::to_string(i);
  for (const std::string& text :
       {std::string("chain:rank=32,levels=5x26x32"), "chain:rank=32,levels=5x26x32,pivots=" + pivots,
        std::string("btt:rank=2")}) {
    const WeightShape shape = parse_shape(text, kTall, kWide);
    const bool has_levels = !shape.levels.empty();
    const std::vector<float> cores = random_values(parameters(shape), 1), x = random_values(7 * kWide, 2);
    for (const std::vector<int>& merged : {std::vector<int>{}, std::vector<int>{2}, std::vector<int>{1, 3}}) {
      const auto map = make_linear_map<float>(shape, has_levels ? merged : std::vector<int>{});
      map->prepare(cores.data(), Use::inference);
      for (const int members : {1, 2, 3}) {
        std::vector<float> y(7 * kTall), shared(static_cast<size_t>(map->shared_size(7)));
        ThreadPool pool(members);
        Team team(pool);
        std::vector<Arena> arenas(static_cast<size_t>(members));
        std::vector<LevelGroup> own = groups;
        for (LevelGroup& group : own) group.level = has_levels ? group.level : 0;
        team.run([&](TeamMember& member) {
          map->forward_level_columns({x.data(), 7, kWide}, {y.data(), 7, kTall}, own, member, shared.data(),
                                     arenas[static_cast<size_t>(member.index())]);
        });
        Arena scratch;
        for (const LevelGroup& group : own) {
          for (int64_t row = group.first; row < group.first + group.rows; ++row) {
            std::vector<float> alone(kTall);
            map->forward({x.data() + row * kWide, 1, kWide}, {alone.data(), 1, kTall}, nullptr, group.level,
                         scratch);
            EXPECT_EQ(std::vector<float>(y.begin() + row * kTall, y.begin() + (row + 1) * kTall), alone)
                << text << ", " << members << " members, row " << row;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace qtf::tt
