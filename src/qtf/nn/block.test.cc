#include "qtf/nn/block.h"

#include <gtest/gtest.h>

#include "qtf/nn/nn_test.h"

namespace qtf::nn {
namespace {

constexpr int64_t kWidth = 12, kHidden = 10, kContext = 20;

/// A block of either family with random weights, all in one vector.
template <class T>
struct Fixture {
  explicit Fixture(bool llama, const std::string& ffn = "dense") {
    const NormKind kind = llama ? NormKind::rms : NormKind::layer;
    spec.heads = 2, spec.kv_heads = llama ? 1 : 2, spec.head_dim = 6;
    spec.activation = llama ? Activation::swiglu : Activation::gelu;
    if (llama) make_rope_tables();
    weights.reserve(5000);  // layers point into it
    add_norm(block.attention_norm, kind);
    if (llama) {
      for (int64_t out : {12, 6, 6}) add_linear(block.qkv.emplace_back(), out, kWidth, "dense", false);
    } else {
      add_linear(block.qkv.emplace_back(), 36, kWidth, "dense", true);
    }
    add_linear(block.attention_out, kWidth, kWidth, "dense", !llama);
    add_norm(block.feed_forward_norm, kind);
    for (int i = 0; i < (llama ? 2 : 1); ++i)
      add_linear(block.up.emplace_back(), kHidden, kWidth, ffn, !llama);
    add_linear(block.down, kWidth, kHidden, ffn, !llama);
    prepare();
  }

  int64_t add_weights(int64_t n) {
    const auto at = static_cast<int64_t>(weights.size());
    const auto more = random_values<T>(n, static_cast<uint64_t>(100 + at), 0.4);
    weights.insert(weights.end(), more.begin(), more.end());
    return at;
  }
  void add_norm(Norm<T>& norm, NormKind kind) {
    norm.kind = kind;
    norm.weight_gradient = add_weights(kWidth);
    norm.weight = weights.data() + norm.weight_gradient;
    if (kind == NormKind::rms) return;
    norm.bias_gradient = add_weights(kWidth);
    norm.bias = weights.data() + norm.bias_gradient;
  }
  void add_linear(Linear<T>& linear, int64_t out, int64_t in, const std::string& shape, bool bias) {
    linear.map = tt::make_linear_map<T>(tt::parse_shape(shape, out, in));
    ASSERT_TRUE(linear.map->factors_are_cores());
    linear.map_gradient = add_weights(linear.map->factor_size());
    if (!bias) return;
    linear.bias_gradient = add_weights(out);
    linear.bias = weights.data() + linear.bias_gradient;
  }
  void make_rope_tables() {
    for (int64_t i = 0; i < kContext * 3; ++i) {
      const double angle = static_cast<double>(i / 3) / std::pow(10.0, static_cast<double>(i % 3));
      cosines.push_back(static_cast<T>(std::cos(angle))), sines.push_back(static_cast<T>(std::sin(angle)));
    }
    spec.cosines = cosines, spec.sines = sines;
  }
  void prepare() {
    const auto prepare_one = [&](const Linear<T>& linear) {
      linear.map->prepare(weights.data() + linear.map_gradient, tt::Use::training);
    };
    for (const auto& linear : block.qkv) prepare_one(linear);
    for (const auto& linear : block.up) prepare_one(linear);
    prepare_one(block.attention_out);
    prepare_one(block.down);
  }

  std::vector<T> forward(const std::vector<T>& x, std::span<const Segment<T>> segments, Dropout dropout,
                         BlockSaved<T>* saved = nullptr, int level = 0, LevelChooser<T>* chooser = nullptr) {
    const auto rows = static_cast<int64_t>(x.size()) / kWidth;
    std::vector<T> y(x.size());
    Pass<T> pass{segments, rows, level, dropout};
    pass.chooser = chooser;
    block_forward<T>(block, spec, pass, kLayer, {x.data(), rows, kWidth}, {y.data(), rows, kWidth}, saved,
                     arena);
    return y;
  }
  KvCache<T> make_cache() const { return {kLayer + 1, spec.kv_heads, spec.head_dim, kContext}; }

  static constexpr int64_t kLayer = 2;  // its number in the model: picks dropout sites and the cache's layer
  Block<T> block;
  BlockSpec<T> spec;
  std::vector<T> weights, cosines, sines;
  Arena arena;
};

struct Case {
  const char* name;
  bool llama;
  const char* ffn;
  double dropout;
};

const std::vector<Case> kCases = {{"llama", true, "dense", 0},
                                  {"llama chain with dropout", true, "chain:rank=4", 0.4},
                                  {"gpt2", false, "dense", 0},
                                  {"gpt2 btt with dropout", false, "btt:rank=1", 0.4}};

TEST(Block, GradientsEqualCentralDifferences) {
  for (const Case& c : kCases) {
    Fixture<double> f(c.llama, c.ffn);
    auto x = random_values<double>(9 * kWidth, 1);
    const auto dy = random_values<double>(9 * kWidth, 2);
    const std::vector<Segment<double>> segments = {{0, 4, 0, nullptr}, {4, 5, 0, nullptr}};
    const Dropout dropout{c.dropout, 5, 11};
    const auto loss = [&] {
      f.prepare();
      return inner_product(f.forward(x, segments, dropout), dy);
    };
    BlockSaved<double> saved;
    EXPECT_EQ(f.forward(x, segments, dropout, &saved), f.forward(x, segments, dropout)) << c.name;
    auto dx = dy;
    std::vector<double> gradients(f.weights.size(), 3);
    block_backward<double>(f.block, f.spec, {segments, 9, 0, dropout}, f.kLayer, saved,
                           {dx.data(), 9, kWidth}, gradients.data(), f.arena);
    for (double& g : gradients) g -= 3;
    EXPECT_LT(gradient_error(x, dx, loss), 1e-7) << c.name;
    EXPECT_LT(gradient_error(f.weights, gradients, loss, 150), 1e-7) << c.name;
  }
}

/// Levels as a list says, whatever the entropies are.
template <class T>
struct ListedLevels final : LevelChooser<T> {
  explicit ListedLevels(std::vector<uint8_t> list) : levels(std::move(list)) {}
  bool governs(int64_t layer) const override { return layer == Fixture<T>::kLayer; }
  void choose(const Pass<T>& pass, int64_t, const T* entropy, ConstMatrix<T> x, uint8_t* out,
              Arena&) override {
    EXPECT_EQ(x.rows, pass.rows);
    for (int64_t i = 0; i < pass.rows; ++i) EXPECT_TRUE(entropy[i] >= 0 && entropy[i] <= 1);
    std::copy(levels.begin(), levels.end(), out);
  }
  std::vector<uint8_t> levels;
};

const std::vector<Segment<double>> kFourAndFive = {{0, 4, 0, nullptr}, {4, 5, 0, nullptr}};

TEST(Block, ARowAtALevelIsWhatAllAtThatLevelGive) {
  for (const bool llama : {true, false}) {
    Fixture<double> f(llama, "chain:rank=6,levels=1x3x4x6");
    const auto x = random_values<double>(9 * kWidth, 1);
    for (const std::vector<uint8_t>& levels : {std::vector<uint8_t>{4, 1, 3, 1, 2, 4, 4, 1, 3},
                                               std::vector<uint8_t>(9, 2), std::vector<uint8_t>(9, 4)}) {
      ListedLevels<double> chooser(levels);
      const auto mixed = f.forward(x, kFourAndFive, {}, nullptr, 0, &chooser);
      for (size_t row = 0; row < levels.size(); ++row) {
        const auto all = f.forward(x, kFourAndFive, {}, nullptr, levels[row]);
        const auto at = static_cast<std::ptrdiff_t>(row * kWidth);
        EXPECT_TRUE(std::equal(mixed.begin() + at, mixed.begin() + at + kWidth, all.begin() + at)) << row;
      }
    }
  }
}

// With the levels fixed: no gradient goes where a row's level does not reach.
TEST(Block, GradientsOfRowsAtSeveralLevelsEqualCentralDifferences) {
  for (const bool llama : {true, false}) {
    for (const double rate : {0.0, 0.4}) {
      Fixture<double> f(llama, "chain:rank=6,levels=1x3x4x6");
      ListedLevels<double> chooser({3, 1, 2, 1, 2, 3, 3, 1, 2});
      auto x = random_values<double>(9 * kWidth, 1);
      const auto dy = random_values<double>(9 * kWidth, 2);
      const Dropout dropout{rate, 5, 11};
      const auto loss = [&] {
        f.prepare();
        return inner_product(f.forward(x, kFourAndFive, dropout, nullptr, 0, &chooser), dy);
      };
      BlockSaved<double> saved;
      EXPECT_EQ(f.forward(x, kFourAndFive, dropout, &saved, 0, &chooser),
                f.forward(x, kFourAndFive, dropout, nullptr, 0, &chooser));
      auto dx = dy;
      std::vector<double> gradients(f.weights.size());
      Pass<double> pass{kFourAndFive, 9, 0, dropout};
      pass.chooser = &chooser;
      block_backward<double>(f.block, f.spec, pass, f.kLayer, saved, {dx.data(), 9, kWidth}, gradients.data(),
                             f.arena);
      EXPECT_LT(gradient_error(x, dx, loss), 1e-7) << llama << " " << rate;
      EXPECT_LT(gradient_error(f.weights, gradients, loss, 150), 1e-7) << llama << " " << rate;
      // V's rows 4 and 5 of the last map, of rank 6, belong to level 4, which no row took.
      const double* v = gradients.data() + f.block.down.map_gradient + kWidth * 6;
      EXPECT_TRUE(std::all_of(v + 4 * kHidden, v + 6 * kHidden, [](double g) { return g == 0; }));
      EXPECT_TRUE(std::any_of(v, v + 4 * kHidden, [](double g) { return g != 0; }));
    }
  }
}

TEST(Block, SequencesOfABatchDoNotSeeEachOther) {
  Fixture<float> f(true);
  const auto x = random_values<float>(9 * kWidth, 1);
  const std::vector<Segment<float>> both = {{0, 4, 0, nullptr}, {4, 5, 0, nullptr}};
  const auto together = f.forward(x, both, {});
  const std::vector<Segment<float>> alone = {{0, 5, 0, nullptr}};
  const auto second = f.forward({x.begin() + 4 * kWidth, x.end()}, alone, {});
  EXPECT_TRUE(std::equal(second.begin(), second.end(), together.begin() + 4 * kWidth));
}

TEST(Block, WithACacheEqualsWithoutBitForBit) {
  for (const Case& c : kCases) {
    Fixture<float> f(c.llama, c.ffn);
    const auto x = random_values<float>(kContext * kWidth, 1);
    const std::vector<Segment<float>> whole = {{0, kContext, 0, nullptr}};
    const auto expected = f.forward(x, whole, {});
    for (const std::vector<int64_t>& pieces :
         {std::vector<int64_t>{kContext}, {1, 7, 12}, std::vector<int64_t>(kContext, 1)}) {
      KvCache<float> cache = f.make_cache();
      std::vector<float> y;
      int64_t position = 0;
      for (int64_t rows : pieces) {
        const std::vector<Segment<float>> piece = {{0, rows, position, &cache}};
        const auto part =
            f.forward({x.begin() + position * kWidth, x.begin() + (position + rows) * kWidth}, piece, {});
        y.insert(y.end(), part.begin(), part.end());
        position += rows;
      }
      EXPECT_EQ(y, expected) << c.name << " in " << pieces.size() << " pieces";
    }
  }
}

TEST(Block, InferenceLeavesNothingInTheArena) {
  Fixture<float> f(true);
  const std::vector<Segment<float>> whole = {{0, 3, 0, nullptr}};
  const auto x = random_values<float>(3 * kWidth, 1);
  const auto before = f.arena.mark();
  f.forward(x, whole, {});
  EXPECT_EQ(f.arena.mark().used, before.used);
  EXPECT_EQ(f.arena.mark().chunk, before.chunk);
  BlockSaved<float> saved;
  f.forward(x, whole, {}, &saved);
  EXPECT_GT(f.arena.mark().used, before.used);
}

/// What dropout leaves of `rows` × kWidth ones.
std::vector<float> dropped_ones(const Dropout& dropout, int64_t site, int64_t rows) {
  std::vector<float> x(static_cast<size_t>(rows * kWidth), 1.0f);
  apply_dropout<float>(dropout, site, {x.data(), rows, kWidth});
  return x;
}

TEST(Dropout, DropsTheAskedShareAndKeepsTheMean) {
  const int64_t rows = 2000;
  const auto x = dropped_ones({0.25, 9, 0}, 3, rows);
  int64_t dropped = 0;
  for (float value : x) {
    dropped += value == 0;
    EXPECT_TRUE(value == 0 || value == 1 / 0.75f) << value;
  }
  const auto n = static_cast<double>(x.size());
  // Five standard deviations of a share of n independent draws.
  EXPECT_NEAR(static_cast<double>(dropped) / n, 0.25, 5 * std::sqrt(0.25 * 0.75 / n));
  EXPECT_EQ(dropped_ones({0, 9, 0}, 3, 2), std::vector<float>(2 * kWidth, 1.0f)) << "rate 0 drops nothing";
}

TEST(Dropout, RunsOfTokensDropWhatTheyDropAmongAll) {
  const Dropout dropout{0.5, 9, 100};
  const auto all = dropped_ones(dropout, 4, 40);
  Dropout runs = dropout;
  runs.first_token = 105, runs.run_rows = 5, runs.run_step = 10;  // tokens 105 to 109, 115 to 119, 125 to 128
  const auto some = dropped_ones(runs, 4, 14);
  for (int64_t row = 0; row < 14; ++row) {
    const int64_t from = 5 + row / 5 * 10 + row % 5;
    EXPECT_TRUE(std::equal(some.begin() + row * kWidth, some.begin() + (row + 1) * kWidth,
                           all.begin() + from * kWidth))
        << "row " << row;
  }
}

TEST(Dropout, IsAFunctionOfKeySiteAndToken) {
  const Dropout dropout{0.5, 9, 100};
  const auto x = dropped_ones(dropout, 4, 40);
  EXPECT_EQ(x, dropped_ones(dropout, 4, 40));
  EXPECT_NE(x, dropped_ones({0.5, 10, 100}, 4, 40)) << "another key";
  EXPECT_NE(x, dropped_ones({0.5, 9, 101}, 4, 40)) << "another token";
  // A batch split over two workers drops what it drops whole.
  auto split = dropped_ones(dropout, 4, 13);
  const auto rest = dropped_ones({0.5, 9, 113}, 4, 27);
  split.insert(split.end(), rest.begin(), rest.end());
  EXPECT_EQ(x, split);
}

TEST(Dropout, SitesAreIndependent) {
  const int64_t rows = 2000;
  std::vector<std::vector<float>> masks;
  for (int64_t site : {-1, 0, 1, 2, 27}) masks.push_back(dropped_ones({0.5, 9, 0}, site, rows));
  for (size_t a = 0; a < masks.size(); ++a) {
    for (size_t b = 0; b < a; ++b) {
      int64_t both = 0;
      for (size_t i = 0; i < masks[a].size(); ++i) both += masks[a][i] == 0 && masks[b][i] == 0;
      const auto n = static_cast<double>(masks[a].size());
      EXPECT_NEAR(static_cast<double>(both) / n, 0.25, 5 * std::sqrt(0.25 * 0.75 / n)) << a << " and " << b;
    }
  }
}

}  // namespace
}  // namespace qtf::nn
