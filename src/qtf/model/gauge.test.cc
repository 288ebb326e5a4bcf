#include "qtf/model/gauge.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qtf/base/temporary_folder.h"
#include "qtf/model/model_folder.h"
#include "qtf/model/small_model.h"
#include "qtf/text/byte_tokenizer.h"
#include "qtf/tt/gauge.h"

namespace qtf::model {
namespace {

std::vector<float> logits(Transformer<float>& model, int level, ThreadPool& pool) {
  model.prepare(tt::Use::inference, pool);
  const std::vector<int32_t> tokens{1, 5, 9, 200, 17, 3};
  const auto rows = static_cast<int64_t>(tokens.size()), width = model.config().width;
  std::vector<float> hidden(static_cast<size_t>(rows * width));
  std::vector<float> result(static_cast<size_t>(rows * model.config().vocabulary));
  Arena arena;
  const Matrix<float> h(hidden.data(), rows, width);
  model.hidden_states({tokens, {}, 1, rows}, level, h, arena);
  model.logits(h, level, {result.data(), rows, model.config().vocabulary}, arena);
  return result;
}

class GaugedModels : public testing::TestWithParam<SmallModel> {
 protected:
  GaugedModels() { randomise(model_); }
  ThreadPool pool_{2};
  Transformer<float> model_{small_config(GetParam())};
};

INSTANTIATE_TEST_SUITE_P(SmallModels, GaugedModels, testing::ValuesIn(small_models()),
                         [](const auto& test) { return test.param.name; });

/// Sum over maps and levels of the squares that fixing saves.
int64_t saving(const ModelConfig& config) {
  int64_t squares = 0;
  for (const auto& [name, shape] : config.shapes) {
    if (!tt::can_fix_gauge(shape)) continue;
    for (const auto& [begin, end] : tt::bond_blocks(shape)) squares += (end - begin) * (end - begin);
  }
  return squares;
}

TEST_P(GaugedModels, KeepEveryLevelsLogitsWithFewerParameters) {
  const auto fixed = with_fixed_gauge(model_);
  EXPECT_EQ(fixed->layout().size, model_.layout().size - saving(model_.config()));
  EXPECT_EQ(has_fixed_gauge(fixed->config()), saving(model_.config()) > 0);
  for (int level = 0; level < level_count(model_.config()); ++level) {
    const std::vector<float> before = logits(model_, level, pool_), after = logits(*fixed, level, pool_);
    float largest = 0;
    for (const float x : before) largest = std::max(largest, std::abs(x));
    for (size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(before[i], after[i], 1e-4f * largest);
  }
}

TEST_P(GaugedModels, AreFreedAgain) {
  const auto fixed = with_fixed_gauge(model_), free = with_free_gauge(*fixed);
  EXPECT_EQ(free->config().shapes, model_.config().shapes);
  const std::vector<float> before = logits(*fixed, 0, pool_), after = logits(*free, 0, pool_);
  float largest = 0;
  for (const float x : before) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(before[i], after[i], 1e-4f * largest);
}

TEST_P(GaugedModels, AreStoredAndLoaded) {
  const TemporaryFolder folder;
  const auto fixed = with_fixed_gauge(model_);
  save_description(folder.path(), fixed->config(), *text::make_byte_tokenizer());
  save_weights(folder.path(), fixed->layout(), fixed->parameters());
  const LoadedModel loaded = load_model(folder.path());
  EXPECT_EQ(loaded.model->config().shapes, fixed->config().shapes);
  EXPECT_TRUE(std::ranges::equal(loaded.model->parameters(), fixed->parameters()));
}

}  // namespace
}  // namespace qtf::model
