#include "qtf/train/rank_training.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "qtf/base/error.h"
#include "qtf/base/random.h"
#include "qtf/train/train_test.h"

namespace qtf::train {
namespace {

model::ModelConfig nested_config() {
  model::ModelConfig config = small_config();
  model::apply_shape_requests(config, {"ffn=chain:rank=8"});
  model::apply_levels(config, 4);
  return config;
}

TEST(RankTraining, FollowsTheEntropiesAndForgetsTheFirst) {
  const model::ModelConfig config = nested_config();
  RankTraining ranks(config, adapt::kUnit / 2);
  model::RankSamples samples(static_cast<size_t>(config.layers), std::vector<float>{0.25F, 0.5F, 0.75F});
  ranks.move(1, samples);
  for (const auto& quantiles : ranks.quantiles()) {
    EXPECT_EQ(quantiles.front(), 250'000'000);
    EXPECT_EQ(quantiles.back(), 750'000'000);
  }
  for (auto& layer : samples) layer = {0.5F, std::numeric_limits<float>::quiet_NaN(), 0.5F};
  for (int64_t step = 2; step < 400; ++step) ranks.move(step, samples);
  for (const auto& quantiles : ranks.quantiles())
    EXPECT_NEAR(static_cast<double>(quantiles.front()), 5e8, 100);
  EXPECT_EQ(ranks.scheduler().standing(model::RankedToken<float>{.layer = 0, .position = 1, .entropy = 0.4}),
            0);
  EXPECT_EQ(ranks.scheduler().standing(model::RankedToken<float>{.layer = 0, .position = 1, .entropy = 0.6}),
            adapt::kUnit);
}

TEST(RankTraining, DoesNotDependOnTheOrderAndGoesOnFromItsQuantiles) {
  const model::ModelConfig config = nested_config();
  RankTraining a(config, adapt::kUnit / 2), b(config, adapt::kUnit / 2);
  const Random random{4, 4};
  model::RankSamples samples(static_cast<size_t>(config.layers));
  for (auto& layer : samples)
    for (uint64_t i = 0; i < 100; ++i) layer.push_back(static_cast<float>(random.uniform(i)));
  a.move(1, samples);
  b.set_quantiles(a.quantiles());
  a.move(2, samples);
  for (auto& layer : samples) std::reverse(layer.begin(), layer.end());
  b.move(2, samples);
  EXPECT_EQ(a.quantiles(), b.quantiles());
}

TEST(RankTraining, NeedsLevels) {
  EXPECT_THROW(RankTraining(small_config(), adapt::kUnit / 2), InputError);
}

}  // namespace
}  // namespace qtf::train
