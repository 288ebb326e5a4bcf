#include "qtf/compress/healing.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/compress/compress_test.h"
#include "qtf/model/gauge.h"

namespace qtf::compress {
namespace {

struct HealingCase {
  const char* name;
  const char* method;
  std::vector<int64_t> divisors;  ///< of the dense parameters, a level each
};

class HealingBlocks : public testing::TestWithParam<HealingCase> {
 protected:
  /// A compressed model, as training has it.
  std::unique_ptr<model::Transformer<float>> pupil(ThreadPool& pool) const {
    CompressOptions options;
    options.method = &find_method(GetParam().method);
    for (const int64_t divisor : GetParam().divisors)
      options.max_parameters.push_back(model::dense_parameter_count(model_->config()) / divisor);
    const Compressed c = compress(*model_, calibrate(*model_, text_, pool), text_, options, pool);
    auto free = model::with_free_gauge(*c.model);
    free->prepare(tt::Use::training, pool);
    return free;
  }

  ThreadPool pool_{2};
  std::unique_ptr<model::Transformer<float>> model_ = small_dense_model(model::Family::llama, true, pool_);
  Sequences text_ = random_sequences(100);
};

INSTANTIATE_TEST_SUITE_P(Methods, HealingBlocks,
                         testing::Values(HealingCase{"svd", "svd", {3}},
                                         HealingCase{"nested", "chain", {4, 2}},
                                         HealingCase{"btt", "btt", {2}}, HealingCase{"mpo", "mpo", {3}}),
                         [](const auto& param_info) { return param_info.param.name; });

TEST_P(HealingBlocks, BlocksAnswerMoreLikeTheOriginalsAndNothingElseChanges) {
  const auto model = pupil(pool_);
  const std::vector<float> before(model->parameters().begin(), model->parameters().end());
  const std::vector<HealedBlock> blocks = heal_blocks(*model_, *model, text_, {.steps = 40}, pool_);
  ASSERT_EQ(blocks.size(), model_->blocks().size());
  EXPECT_LT(blocks[0].after, blocks[0].before);
  for (const HealedBlock& block : blocks) EXPECT_LE(block.after, block.before);
  for (const model::Parameter& p : model->layout().parameters) {
    const bool same = std::equal(before.begin() + p.offset, before.begin() + p.offset + p.size,
                                 model->parameters().begin() + p.offset);
    if (p.name.find("layers.0") != std::string::npos) {
      EXPECT_FALSE(same) << p.name;
    } else if (p.name.find("layers.") == std::string::npos) {
      EXPECT_TRUE(same) << p.name;
    }
  }
}

TEST_P(HealingBlocks, TheSameStepsGiveTheSameBits) {
  const auto a = pupil(pool_), b = pupil(pool_);
  heal_blocks(*model_, *a, text_, {.steps = 5}, pool_);
  heal_blocks(*model_, *b, text_, {.steps = 5}, pool_);
  EXPECT_TRUE(std::ranges::equal(a->parameters(), b->parameters()));
}

/// Steps that lead astray are taken back, so that no block is worse than before.
TEST_P(HealingBlocks, ABlockThatGetsWorseKeepsItsWeights) {
  const auto model = pupil(pool_);
  const std::vector<float> before(model->parameters().begin(), model->parameters().end());
  const auto blocks = heal_blocks(*model_, *model, text_, {.steps = 3, .learning_rate = 9}, pool_);
  for (const HealedBlock& block : blocks) EXPECT_EQ(block.after, block.before);
  EXPECT_TRUE(std::ranges::equal(before, model->parameters()));
}

TEST_P(HealingBlocks, EndsWhenItIsTold) {
  const auto model = pupil(pool_);
  int calls = 0;
  BlockHealingOptions options{.steps = 100};
  options.progress = [&](double share, std::string_view) {
    EXPECT_LT(share, 0.1);
    return ++calls < 4;
  };
  EXPECT_EQ(heal_blocks(*model_, *model, text_, options, pool_).size(), 1u);
  EXPECT_EQ(calls, 4);
}

TEST_P(HealingBlocks, RefusesTooFewSequencesAndNoLength) {
  const auto model = pupil(pool_);
  EXPECT_THROW(heal_blocks(*model_, *model, random_sequences(7), {.steps = 1}, pool_), InputError);
  EXPECT_THROW(heal_blocks(*model_, *model, text_, {}, pool_), InputError);
  EXPECT_THROW(heal_blocks(*model_, *model, text_, {.steps = 1, .seconds = 1}, pool_), InputError);
}

}  // namespace
}  // namespace qtf::compress
