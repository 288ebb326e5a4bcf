#include "qtf/model/rank_choice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/model/gauge.h"
#include "qtf/tt/gauge.h"

namespace qtf::model {
namespace {

template <class Body>
std::string error_of(const Body& body) {
  try {
    body();
  } catch (const InputError& error) {
    return error.what();
  }
  return {};
}

TEST(Ratio, IsReachedAndHardlyExceeded) {
  for (const char* preset : {"nano", "tiny", "small"}) {
    for (tt::ShapeKind kind : {tt::ShapeKind::chain, tt::ShapeKind::btt, tt::ShapeKind::mpo}) {
      // btt has few ranks: a step of the embedding's is a good part of a small model.
      const double slack = kind == tt::ShapeKind::btt ? 1.2 : 1.02;
      for (double ratio : {1.0, 1.5, 2.0, 3.0, 4.0}) {
        ModelConfig config = preset_config(preset);
        apply_ratio(config, ratio, kind);
        EXPECT_NO_THROW(validate(config));
        const double reached = static_cast<double>(dense_parameter_count(config)) /
                               static_cast<double>(stored_parameter_count(config));
        EXPECT_GE(reached, ratio);
        EXPECT_LT(reached, slack * ratio) << preset << " " << static_cast<int>(kind);
      }
    }
  }
}

TEST(Ratio, RefusesWhatCannotBeReached) {
  for (tt::ShapeKind kind : {tt::ShapeKind::chain, tt::ShapeKind::btt, tt::ShapeKind::mpo}) {
    ModelConfig config = preset_config("nano");
    const std::string error = error_of([&] { apply_ratio(config, 10000, kind); });
    const std::string_view before_most = "the largest for this model is ";
    const size_t at = error.find(before_most);
    ASSERT_NE(at, std::string::npos) << error;
    const double most = std::stod(error.substr(at + before_most.size()));
    EXPECT_TRUE(config.shapes.empty()) << "untouched";
    EXPECT_NO_THROW(apply_ratio(config, most, kind)) << "what is named can be reached";
    EXPECT_THROW(apply_ratio(config, most + 0.02, kind), InputError);
  }
  for (double ratio : {0.0, 0.99, -2.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    ModelConfig config = preset_config("nano");
    EXPECT_NE(error_of([&] { apply_ratio(config, ratio); }).find("at least 1"), std::string::npos) << ratio;
  }
}

TEST(RankChoice, ReplaysFromItsRecordAndCountsRight) {
  ModelConfig config = preset_config("tiny");
  const RankChoice choice = apply_ratio(config, 2.5);
  EXPECT_EQ(choose_ranks(choice.question), choice);
  EXPECT_EQ(choice.parameters, stored_parameter_count(config));
  EXPECT_LE(choice.parameters, choice.question.max_parameters);
  const auto json = to_json(choice);
  EXPECT_EQ(json.at("maps").size(), linear_maps(config).size());
  EXPECT_EQ(json.at("total_parameters"), std::to_string(choice.parameters));
}

TEST(RankChoice, SpendsWhatAFixedGaugeSaves) {
  for (int levels : {1, 2, 4}) {
    ModelConfig config = preset_config("tiny");
    const RankChoice choice = apply_ratio(config, 2, tt::ShapeKind::chain, {}, levels);
    EXPECT_EQ(level_count(config), levels);
    EXPECT_EQ(choice.parameters, stored_parameter_count(config));
    EXPECT_LT(choice.parameters, parameter_count(config)) << "training has the gauge's numbers too";
    const double step = 4096 + 128;  // a rank of the embedding
    EXPECT_NEAR(static_cast<double>(choice.parameters), dense_parameter_count(config) / 2.0, step);
    RankQuestion free = choice.question;
    free.fixed_gauge = false;
    EXPECT_EQ(choose_ranks(free).question.fixed_gauge, false);
    EXPECT_NE(choose_ranks(free).rows, choice.rows) << "ranks are lower where the gauge is stored";
  }
}

TEST(RankChoice, KeepsSomePartsRicher) {
  const auto share = [](const ModelConfig& config, MapPart part) {
    double kept = 0, dense = 0;
    for (const MapSpec& map : linear_maps(config)) {
      if (map.part != part) continue;
      const tt::WeightShape shape = shape_of(config, map);
      kept += static_cast<double>(tt::parameters(shape) - tt::gauge_size(shape));
      dense += static_cast<double>(map.out * map.in);
    }
    return kept / dense;
  };
  ModelConfig plain = preset_config("small"), rich = plain, poor = plain;
  apply_ratio(plain, 3);
  const RankChoice choice = apply_ratio(rich, 3, tt::ShapeKind::chain,
                                        parse_richness(rich, {"embedding=1.5,attention=1.2", "ffn=1"}));
  EXPECT_EQ(choose_ranks(choice.question), choice);
  EXPECT_EQ(to_json(choice).at("maps")[0].at("richness_ppm"), "1500000");
  const double base = share(rich, MapPart::feed_forward);
  EXPECT_NEAR(share(rich, MapPart::embedding), 1.5 * base, 0.02);
  EXPECT_NEAR(share(rich, MapPart::attention), 1.2 * base, 0.02);
  EXPECT_LT(base, share(plain, MapPart::feed_forward));
  EXPECT_LE(stored_parameter_count(rich), dense_parameter_count(rich) / 3);
  EXPECT_GT(stored_parameter_count(rich), dense_parameter_count(rich) / 3.05);

  // All equally rich is the plain question; a part that stays whole leaves the rest for the others.
  const Richness twice = parse_richness(poor, {"embedding=2", "attention=2", "ffn=2"});
  apply_ratio(poor, 3, tt::ShapeKind::chain, twice);
  EXPECT_EQ(poor.shapes, plain.shapes);
  apply_ratio(poor, 1.5, tt::ShapeKind::chain, parse_richness(poor, {"embedding=100"}));
  EXPECT_EQ(share(poor, MapPart::embedding), 1);
  EXPECT_NEAR(
      static_cast<double>(dense_parameter_count(poor)) / static_cast<double>(stored_parameter_count(poor)),
      1.5, 0.02);
  // Even a part that may keep a hundredth only is whole at ratio 1.
  apply_ratio(poor, 1, tt::ShapeKind::chain, parse_richness(poor, {"ffn=0.01"}));
  EXPECT_TRUE(poor.shapes.empty());
}

TEST(Richness, IsReadAsShapesAre) {
  const ModelConfig config = preset_config("nano");
  const Richness richness = parse_richness(config, {"ffn=0.5,up_proj=2", "model.layers.1.mlp.up_proj=3"});
  EXPECT_EQ(richness.size(), 9U);
  EXPECT_EQ(richness.at("model.layers.0.mlp.up_proj"), 2'000'000);
  EXPECT_EQ(richness.at("model.layers.1.mlp.up_proj"), 3'000'000);
  EXPECT_EQ(richness.at("model.layers.1.mlp.down_proj"), 500'000);
  for (const char* wrong : {"ffn", "ffn=", "ffn=0", "ffn=-1", "ffn=101", "ffn=nan", "ffn=2x", "=2"})
    EXPECT_NE(error_of([&] { parse_richness(config, {wrong}); }), "") << wrong;
  EXPECT_NE(error_of([&] { parse_richness(config, {"embeding=2"}); }).find("did you mean embedding?"),
            std::string::npos);
}

TEST(RankChoice, AMovedBudgetFlipsTheChoice) {
  ModelConfig config = preset_config("nano");
  const RankChoice choice = apply_ratio(config, 2);
  RankQuestion tighter = choice.question;
  tighter.max_parameters = choice.parameters - 1;
  EXPECT_NE(choose_ranks(tighter).rows, choice.rows);
  RankQuestion same = choice.question;
  same.max_parameters = choice.parameters;
  EXPECT_EQ(choose_ranks(same).parameters, choice.parameters);
  tighter.max_parameters = 1;
  EXPECT_NE(error_of([&] { choose_ranks(tighter); }).find("the smallest count is"), std::string::npos);
}

}  // namespace
}  // namespace qtf::model
