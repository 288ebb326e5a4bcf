#include "qtf/tt/weight_shape.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "qtf/base/error.h"

namespace qtf::tt {
namespace {

struct Good {
  int64_t out, in;
  const char* text;
  int64_t parameters;
  int64_t macs;
};

const std::vector<Good> kGood{
    {2048, 512, "dense", 2048 * 512, 2048 * 512},
    {2048, 512, "chain:rank=48", 48 * 2560, 48 * 2560},
    {2048, 512, "chain:rank=48,levels=12x24x48", 48 * 2560, 48 * 2560},
    {2048, 512, "chain:rank=500", 500 * 2560, 2048 * 512},
    {512, 256, "chain:rank=3,pivots=7x8x200", 3 * 512 + 3 * 253, 3 * 768 - 9},
    {512, 256, "chain:rank=3,levels=1x3,pivots=7x7x8", 3 * 512 + 255 + 2 * 254, 3 * 768 - 5},
    {512, 256, "chain:rank=48,out=16x32,in=16x16", 16 * 16 + 16 * 32 * 48 + 48 * 16 * 16 + 16 * 16, 48 * 768},
    {512, 256, "chain:rank=48,outer=12,out=16x32,in=16x16", 16 * 12 + 12 * 32 * 48 + 48 * 16 * 12 + 12 * 16,
     48 * 768},
    {512, 256, "chain:ranks=8x48x6,out=16x32,in=16x16", 16 * 8 + 8 * 32 * 48 + 48 * 16 * 6 + 6 * 16,
     48 * 768},
    {2048, 512, "mpo:rank=16,out=64x32,in=16x32", 16 * 2048, 16 * (512 * 32 + 2048 * 16)},
    {2048, 512, "mpo:rank=32,out=64x32,in=16x32", 32 * 2048, 2048 * 512},
    {64, 64, "mpo:ranks=3x2,out=4x4x4,in=4x4x4", 16 * 3 + 16 * 6 + 16 * 2, 256 * 3 + 256 * 6 + 256 * 2},
    {2048, 512, "btt:rank=2,out=32x64,in=16x32", 2 * (32 * 512 + 16 * 2048), 2 * (32 * 512 + 16 * 2048)},
};

TEST(WeightShape, TextFormsRoundTripWithTheirCounts) {
  for (const Good& good : kGood) {
    SCOPED_TRACE(good.text);
    const WeightShape shape = parse_shape(good.text, good.out, good.in);
    EXPECT_EQ(to_string(shape), good.text);
    EXPECT_EQ(parse_shape(to_string(shape), good.out, good.in), shape);
    EXPECT_EQ(parameters(shape), good.parameters);
    EXPECT_EQ(macs(shape), good.macs);
    EXPECT_EQ(is_rebuilt(shape), good.macs == good.out * good.in && shape.kind != ShapeKind::dense);
    EXPECT_NO_THROW(validate(shape));
  }
}

TEST(WeightShape, DefaultModesAreBalanced) {
  EXPECT_EQ(to_string(parse_shape("mpo:rank=4", 2048, 512)), "mpo:rank=4,out=64x32,in=16x32");
  EXPECT_EQ(to_string(parse_shape("mpo:rank=4,out=16x16x8", 2048, 512)), "mpo:rank=4,out=16x16x8,in=8x8x8");
  EXPECT_EQ(to_string(parse_shape("btt:rank=2", 2048, 512)), "btt:rank=2,out=32x64,in=16x32");
  EXPECT_EQ(balanced_modes(64, 3), (std::vector<int64_t>{4, 4, 4}));
  EXPECT_EQ(balanced_modes(24, 3), (std::vector<int64_t>{2, 3, 4}));
  EXPECT_EQ(balanced_modes(13, 2), (std::vector<int64_t>{1, 13}));
}

TEST(WeightShape, LevelsArePrefixesOfTheCentreBond) {
  const WeightShape nested = parse_shape("chain:rank=40,levels=10x20x40", 128, 96);
  EXPECT_EQ(level_count(nested), 3);
  EXPECT_EQ(level_rank(nested, 0), 40);
  EXPECT_EQ(level_rank(nested, 1), 10);
  EXPECT_EQ(level_rank(nested, 3), 40);
  EXPECT_EQ(macs(nested, 2), 20 * (128 + 96));
  const WeightShape plain = parse_shape("chain:rank=40", 128, 96);
  EXPECT_EQ(level_count(plain), 1);
  EXPECT_EQ(level_rank(plain, 1), 40);
  EXPECT_EQ(level_rank(parse_shape("dense", 4, 4), 0), 0);
}

TEST(WeightShape, CoresSumToTheParametersAndNameTheirFans) {
  for (const Good& good : kGood) {
    const WeightShape shape = parse_shape(good.text, good.out, good.in);
    for (const CoreSpec& core : cores(shape)) {
      EXPECT_GT(core.fan_in, 0) << good.text;
      EXPECT_GT(core.fan_out, 0) << good.text;
    }
  }
  const auto chain = cores(parse_shape("chain:rank=8", 32, 16));
  ASSERT_EQ(chain.size(), 2u);
  EXPECT_EQ(chain[0].suffix, "core.0");
  EXPECT_EQ(chain[0].dims, (std::vector<int64_t>{1, 32, 8}));
  EXPECT_EQ(chain[0].fan_in, 8);
  EXPECT_EQ(chain[1].dims, (std::vector<int64_t>{8, 16, 1}));
  EXPECT_EQ(chain[1].fan_in, 16);
  EXPECT_EQ(cores(parse_shape("dense", 32, 16))[0].suffix, "weight");
}

TEST(WeightShape, LearningRatesFollowTheFanIn) {
  const WeightShape dense = parse_shape("dense", 32, 16), chain = parse_shape("chain:rank=4", 32, 16);
  EXPECT_EQ(learning_rate_scale(dense, cores(dense)[0]), 1);
  EXPECT_EQ(learning_rate_scale(chain, cores(chain)[0]), 16.0 / 4 / 2);
  EXPECT_EQ(learning_rate_scale(chain, cores(chain)[1]), 0.5);
}

TEST(WeightShape, ParameterBudgetsAreMetByTheLargestRank) {
  for (const ShapeKindInfo& kind : shape_kinds()) {
    if (kind.kind == ShapeKind::dense) continue;
    for (const int64_t budget : {20000, 50000, 100000, 1}) {
      const WeightShape shape = shape_with_parameters(kind.kind, 512, 384, budget);
      SCOPED_TRACE(to_string(shape));
      EXPECT_NO_THROW(validate(shape));
      EXPECT_TRUE(parameters(shape) <= budget || shape.ranks[0] == 1);
      WeightShape larger = shape;
      ++larger.ranks[0];
      EXPECT_GT(parameters(larger), budget);
    }
    EXPECT_NO_THROW(validate(shape_with_parameters(kind.kind, 512, 384, INT64_C(1) << 40)));
  }
  EXPECT_EQ(parameters(shape_with_parameters(ShapeKind::dense, 8, 4, 1)), 32);
}

TEST(WeightShape, TheTableDescribesEveryKind) {
  for (size_t i = 0; i < shape_kinds().size(); ++i) {
    EXPECT_EQ(static_cast<size_t>(shape_kinds()[i].kind), i);
    EXPECT_FALSE(shape_kinds()[i].name.empty());
    EXPECT_FALSE(shape_kinds()[i].summary.empty());
  }
}

struct Bad {
  const char* text;
  const char* says;  ///< part of the message
};

// For a map of 512 x 256.
const std::vector<Bad> kBad{
    {"chian:rank=4", "chain"},
    {"", "no weight shape"},
    {"chain", "rank=R"},
    {"chain:", "rank=R"},
    {"chain:rnak=4", "rank"},
    {"chain:rank", "needs a value"},
    {"chain:rank=", "rank"},
    {"chain:rank=four", "rank"},
    {"chain:rank=0", "1 or more"},
    {"chain:rank=4,rank=5", "twice"},
    {"chain:rank=4x5", "one number"},
    {"chain:rank=300", "nearest that fits is 256"},
    {"chain:rank=4,ranks=4", "either"},
    {"chain:rank=4,outer=4", "outer"},
    {"chain:rank=4,out=16x30", "out=16x32"},
    {"chain:rank=4,in=7x9", "in=16x16"},
    {"chain:rank=48,out=16x32,outer=1", "use 1 to 32"},
    {"chain:ranks=4x4,out=16x32,in=16x16", "need 3 ranks"},
    {"chain:ranks=17x48x4,out=16x32,in=16x16", "use 1 to 16"},
    {"chain:rank=8,levels=2x4", "levels must increase"},
    {"chain:rank=2,pivots=4", "as many as the rank 2"},
    {"chain:rank=2,pivots=4x4", "must increase within a level"},
    {"chain:rank=2,pivots=9x4", "must increase within a level"},
    {"chain:rank=2,pivots=9x257", "1 to 256"},
    {"chain:rank=2,pivots=9x20,out=16x32", "one mode a side"},
    {"chain:rank=8,levels=4x4x8", "levels must increase"},
    {"dense:rank=4", "none"},
    {"mpo:out=16x32", "rank=R"},
    {"mpo:rank=9999", "nearest that fits is 256"},
    {"mpo:rank=4,out=8x8x8,in=16x16", "as many out modes"},
    {"mpo:rank=4,out=512,in=256", "as many out modes"},
    {"mpo:rank=4,levels=4", "no option"},
    {"btt:out=16x32", "rank=R"},
    {"btt:rank=99", "nearest that fits is 16"},
    {"btt:rank=1,out=8x8x8", "two out and two in"},
};

TEST(WeightShape, BadTextsSayWhatFits) {
  for (const Bad& bad : kBad) {
    SCOPED_TRACE(bad.text);
    try {
      parse_shape(bad.text, 512, 256);
      ADD_FAILURE() << "no error";
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(bad.says), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    }
  }
  EXPECT_THROW(parse_shape("dense", 0, 4), InputError);
  EXPECT_THROW(parse_shape("dense", 4, INT64_C(1) << 40), InputError);
  EXPECT_THROW(shape_with_parameters(ShapeKind::chain, 0, 4, 10), InputError);
}

TEST(WeightShape, ShapesFromFilesAreValidated) {
  using Modes = std::vector<int64_t>;
  const auto make = [](ShapeKind kind, Modes out, Modes in, Modes ranks, Modes levels = {}) {
    return WeightShape{kind, 12, 8, std::move(out), std::move(in), std::move(ranks), std::move(levels)};
  };
  const std::vector<WeightShape> bad{
      make(ShapeKind::dense, {12}, {}, {}),
      make(ShapeKind::dense, {}, {}, {3}),
      make(ShapeKind::dense, {}, {}, {}, {1}),
      make(ShapeKind::chain, {}, {}, {3}),
      make(ShapeKind::chain, {12}, {8}, {}),
      make(ShapeKind::chain, {12}, {8}, {0}),
      make(ShapeKind::chain, {12}, {8}, {9}),
      make(ShapeKind::chain, {12}, {8}, {INT64_MAX}),
      make(ShapeKind::chain, {-3, -4}, {8}, {4, 4}),
      make(ShapeKind::chain, {12}, {8}, {4}, {0, 4}),
      make(ShapeKind::chain, {4, 3}, {8}, {INT64_MAX, INT64_MAX}),
      make(ShapeKind::mpo, {4, 3}, {2, 4}, {}),
      make(ShapeKind::mpo, {4, 3}, {2, 4}, {2}, {1, 2}),
      make(ShapeKind::mpo, {4, 3}, {2, 4}, {-1}),
      make(ShapeKind::btt, {4, 3}, {2, 4}, {4}),
      make(ShapeKind::btt, {4, 3}, {2, 4}, {1, 1}),
      make(ShapeKind::btt, {12}, {8}, {1}),
  };
  for (size_t i = 0; i < bad.size(); ++i) EXPECT_THROW(validate(bad[i]), InputError) << i;
  EXPECT_NO_THROW(validate(make(ShapeKind::mpo, {4, 3}, {2, 4}, {8})));
  EXPECT_NO_THROW(validate(make(ShapeKind::btt, {4, 3}, {2, 4}, {3})));
}

}  // namespace
}  // namespace qtf::tt
