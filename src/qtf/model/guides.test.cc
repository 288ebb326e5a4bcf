#include "qtf/model/guides.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qtf/model/reshape.h"
#include "qtf/model/small_model.h"

namespace qtf::model {
namespace {

ModelConfig guided_config(const std::vector<std::string>& shapes, int levels = 1) {
  ModelConfig config = tiny_config(Family::llama);
  apply_shape_requests(config, shapes);
  apply_levels(config, levels);
  return config;
}

const std::vector<int32_t> kInputs = {1, 5, 3, 23, 0, 9, 9, 2}, kTargets = {5, 3, 23, 0, 9, 9, 2, 4};

template <class T>
void fill_randomly(std::span<T> values, uint64_t stream) {
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(0.3 * Random{6, stream}.normal(i));
}

double loss(const Transformer<double>& model, std::vector<double>& gradients, const StepOptions& options) {
  Arena arena;
  gradients.assign(static_cast<size_t>(model.gradient_size()), 0);
  return model.forward_backward({kInputs, kTargets, 2, 4}, options, gradients.data(), arena);
}

TEST(GuideLayout, HasAMatrixForEveryTrain) {
  const ModelConfig config = guided_config({"ffn=chain:rank=3", "embedding=btt:rank=1"});
  const ParameterLayout guides = make_guide_layout(config);
  EXPECT_EQ(guides.maps.size(), 7U);
  EXPECT_EQ(guides.size, 24 * 16 + 6 * 20 * 16);
  EXPECT_EQ(guides.parameters[0].name, "model.embed_tokens.guide");
  for (const Parameter& p : guides.parameters) EXPECT_TRUE(p.decay && p.rate_scale == 1) << p.name;
  EXPECT_EQ(make_guide_layout(guided_config({})).size, 0);
}

TEST(GuideShare, FallsFromOneToZero) {
  EXPECT_EQ(guide_share(0, 0.4), 1);
  EXPECT_NEAR(guide_share(0.2, 0.4), 0.5, 1e-15);
  EXPECT_GT(guide_share(0.399, 0.4), 0);
  EXPECT_EQ(guide_share(0.4, 0.4), 0);
  EXPECT_EQ(guide_share(1, 0.4), 0);
  EXPECT_EQ(guide_share(0, 0), 0);
}

TEST(Guides, GradientsEqualCentralDifferences) {
  for (int levels : {1, 2}) {
    ThreadPool pool(1);
    Transformer<double> model(
        guided_config({"ffn=chain:rank=6", "attention=mpo:rank=8", "embedding=btt:rank=2"}, levels));
    fill_randomly(model.parameters(), 1);
    std::vector<double> values(static_cast<size_t>(make_guide_layout(model.config()).size));
    fill_randomly<double>(values, 2);
    model.add_guides(values);
    model.set_guide_share(0.4);
    std::vector<double> gradients, unused;
    StepOptions options;
    options.gradient_scale = 0.1;
    model.prepare(tt::Use::training, pool);
    loss(model, gradients, options);
    model.pull_back(gradients.data(), pool);
    const auto check = [&](std::span<double> numbers, int64_t offset) {
      for (size_t i = 0; i < numbers.size(); i += numbers.size() / 60) {
        const double before = numbers[i], step = 1e-5;
        const auto at = [&](double value) {
          numbers[i] = value;
          model.prepare(tt::Use::training, pool);
          return options.gradient_scale * loss(model, unused, options);
        };
        const double slope = (at(before + step) - at(before - step)) / (2 * step);
        numbers[i] = before;
        EXPECT_NEAR(gradients[static_cast<size_t>(offset) + i], slope, 1e-7) << i;
      }
    };
    check(model.parameters(), 0);
    check(model.guides(), model.guide_gradient());
  }
}

TEST(Guides, AloneAreTheirParentAndThenGo) {
  ThreadPool pool(1);
  Transformer<float> parent(guided_config({"q_proj=chain:rank=5"}));
  fill_randomly(parent.parameters(), 1);
  const ModelConfig config =
      guided_config({"ffn=chain:rank=2", "embedding=chain:rank=3", "q_proj=mpo:rank=2"});
  const Reshaped child = reshape(parent, config);
  Transformer<float>& model = *child.model;
  const int64_t gradient_size = model.gradient_size();
  std::vector<float> gradients;
  const auto train_loss = [&](Transformer<float>& m) {
    Arena arena;
    m.prepare(tt::Use::training, pool);
    gradients.assign(static_cast<size_t>(m.gradient_size()), 0);
    return m.forward_backward({kInputs, kTargets, 2, 4}, {}, gradients.data(), arena);
  };
  const auto inference_loss = [&] {
    Arena arena;
    model.prepare(tt::Use::inference, pool);
    return model.loss({kInputs, kTargets, 2, 4}, 0, nullptr, arena);
  };
  const double alone = train_loss(model), inferred = inference_loss();
  model.add_guides(guides_from(parent, make_guide_layout(config)));
  EXPECT_TRUE(model.guided());
  EXPECT_EQ(model.gradient_size(), gradient_size + model.guide_layout().size);
  EXPECT_NEAR(train_loss(model), train_loss(parent), 1e-4) << "a = 1";
  EXPECT_EQ(inference_loss(), inferred) << "inference leaves them out";
  model.set_guide_share(0.5);
  EXPECT_NE(train_loss(model), alone);
  model.remove_guides();
  EXPECT_FALSE(model.guided());
  EXPECT_EQ(model.gradient_size(), gradient_size);
  EXPECT_EQ(train_loss(model), alone);
  EXPECT_EQ(inference_loss(), inferred);
}

}  // namespace
}  // namespace qtf::model
