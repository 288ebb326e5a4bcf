#include "qtf/model/rank_policy.h"

#include <gtest/gtest.h>

#include <functional>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/model/config_file.h"
#include "qtf/model/small_model.h"

namespace qtf::model {
namespace {

using nlohmann::ordered_json;

ModelConfig calibrated_config() {
  ModelConfig config = small_config(small_models()[5]);  // two blocks of four levels
  RankPolicy policy;
  policy.signal = adapt::RankSignal::entropy;
  policy.mean = 400'000'000, policy.alpha = 300'000'000, policy.hysteresis = 10'000'000;
  policy.layers = {{{-5, 500'000'000, 2'000'000'000}, {0, 7, 1'000'000'000}}, {{1, 1, 1}, {3, 4}}};
  config.rank_policy = policy;
  return config;
}

TEST(RankPolicyFile, ComesBackFromTheConfiguration) {
  const ModelConfig config = calibrated_config();
  EXPECT_EQ(config_from_json(config_to_json(config, ""), "config").config.rank_policy, config.rank_policy);
  EXPECT_FALSE(config_from_json(config_to_json(small_config(small_models()[5]), ""), "config")
                   .config.rank_policy.has_value());
}

TEST(RankPolicyFile, KeepsAGateAndACircuitsDistribution) {
  ModelConfig config = calibrated_config();
  config.rank_policy->signal = adapt::RankSignal::gate;
  for (RankPolicy::Layer& layer : config.rank_policy->layers) {
    layer.gate.assign(18, -7);
    layer.circuit = {1, 2, 3};
    layer.entropy = {4, 5};
  }
  EXPECT_EQ(config_from_json(config_to_json(config, ""), "config").config.rank_policy, config.rank_policy);
}

TEST(RankPolicyFile, EveryCalibratedModelHasTheAttentionsEntropy) {
  RankPolicy policy;
  policy.signal = adapt::RankSignal::gate;
  policy.layers = {{{}, {1, 2}, {}, {}, {4, 5}}};
  EXPECT_EQ(quantiles_for(policy, 0, adapt::RankSignal::gate), &policy.layers[0].quantiles);
  EXPECT_EQ(quantiles_for(policy, 0, adapt::RankSignal::entropy), &policy.layers[0].entropy);
  EXPECT_EQ(quantiles_for(policy, 0, adapt::RankSignal::output), nullptr);
}

TEST(RankPolicyFile, IsDroppedWithTheShapesItWasMeasuredFor) {
  const ModelConfig config = calibrated_config();
  EXPECT_FALSE(level_config(config, 2).rank_policy.has_value());
  EXPECT_TRUE(level_config(config, 0).rank_policy.has_value());
  for (const std::function<void(ModelConfig&)>& change :
       {std::function<void(ModelConfig&)>([](ModelConfig& c) { clear_shapes(c); }),
        std::function<void(ModelConfig&)>([](ModelConfig& c) { apply_levels(c, 2); }),
        std::function<void(ModelConfig&)>([](ModelConfig& c) { apply_shape_requests(c, {"ffn=dense"}); })}) {
    ModelConfig changed = config;
    change(changed);
    EXPECT_FALSE(changed.rank_policy.has_value());
  }
}

TEST(RankPolicyFile, WhatDoesNotFitIsRefused) {
  const std::string good = config_to_json(calibrated_config(), "");
  const auto refused = [&](const std::function<void(ordered_json&)>& change) {
    ordered_json json = ordered_json::parse(good);
    change(json["qtf"]["rank_policy"]);
    try {
      config_from_json(json.dump(), "folder/config.json");
    } catch (const std::runtime_error& error) {
      EXPECT_NE(std::string(error.what()).find("folder/config.json"), std::string::npos) << error.what();
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const struct {
    std::function<void(ordered_json&)> change;
    const char* reason;
  } cases[] = {
      {[](ordered_json& p) { p = 3; }, "\"signal\" is missing"},
      {[](ordered_json& p) { p.erase("layers"); }, "\"layers\" is missing"},
      {[](ordered_json& p) { p["layers"] = 1; }, "must be a list"},
      {[](ordered_json& p) { p["layers"].erase(0); }, "it has 1 layers, the model 2"},
      {[](ordered_json& p) { p["layers"][0] = 1; }, "\"thresholds\" is missing"},
      {[](ordered_json& p) { p["signal"] = "moon"; }, "use a newer qtf"},
      {[](ordered_json& p) { p["signal"] = "random"; }, "use a newer qtf"},
      {[](ordered_json& p) { p["signal"] = 1; }, "\"signal\" must be a text"},
      {[](ordered_json& p) { p["mean_rank"] = "x"; }, "\"mean_rank\" must be a whole number"},
      {[](ordered_json& p) { p["mean_rank"] = 0; }, "\"mean_rank\" must be between"},
      {[](ordered_json& p) { p["alpha"] = -1; }, "\"alpha\" must be 0 to"},
      {[](ordered_json& p) { p["hysteresis"] = -1; }, "\"hysteresis\" must be 0 to"},
      {[](ordered_json& p) { p["layers"][1]["thresholds"] = "1 2"; }, "layer 1 needs 3 thresholds"},
      {[](ordered_json& p) { p["layers"][1]["thresholds"] = "3 2 1"; }, "layer 1 needs 3 thresholds"},
      {[](ordered_json& p) { p["layers"][1]["thresholds"] = "1 2,3"; }, "with blanks between"},
      {[](ordered_json& p) { p["layers"][1]["thresholds"] = "1 2 9999999999999999999"; },
       "with blanks between"},
      {[](ordered_json& p) { p["layers"][0]["gate"] = "1 2"; }, "needs a gate of 0 numbers, it has 2"},
      {[](ordered_json& p) { p["signal"] = "gate"; }, "needs a gate of 18 numbers, it has 0"},
      {[](ordered_json& p) { p["layers"][0]["circuit"] = "5 4"; }, "two quantiles of the circuit"},
      {[](ordered_json& p) { p["layers"][1]["entropy"] = "4 5"; }, "in every layer or in none"},
      {[](ordered_json& p) { p["layers"][0]["entropy"] = "4"; }, "two quantiles of the entropy"},
      {[](ordered_json& p) { p["layers"][0]["circuit"] = "x"; }, "with blanks between"},
      {[](ordered_json& p) { p["layers"][0]["quantiles"] = "5"; }, "two quantiles or more"},
      {[](ordered_json& p) { p["layers"][0]["quantiles"] = "5 4"; }, "two quantiles or more"},
      {[](ordered_json& p) { p["layers"][0]["quantiles"] = "0 1000000001"; }, "two quantiles or more"},
  };
  for (const auto& c : cases) {
    const std::string message = refused(c.change);
    EXPECT_NE(message.find(c.reason), std::string::npos) << c.reason << ": " << message;
  }
}

}  // namespace
}  // namespace qtf::model
