#include "qtf/model/execution_plan.h"

#include <gtest/gtest.h>

#include <set>

#include "qtf/base/error.h"
#include "qtf/model/dense_model.h"
#include "qtf/model/small_model.h"

namespace qtf::model {
namespace {

const SmallModel& small(const std::string& name) {
  for (const SmallModel& m : small_models())
    if (m.name == name) return m;
  throw std::logic_error(name);
}

std::unique_ptr<Transformer<float>> made(const std::string& name, ThreadPool& pool) {
  auto model = std::make_unique<Transformer<float>>(small_config(small(name)));
  randomise(*model);
  model->prepare(tt::Use::inference, pool);
  return model;
}

std::vector<adapt::ExecutionQuestion> timed(const Transformer<float>& model, ThreadPool& pool) {
  DenseModel dense = make_dense(model, 0);
  dense.model->prepare(tt::Use::inference, pool);
  return time_maps(model, *dense.model, pool, {.rounds = 3});
}

TEST(ExecutionPlan, EveryLevelOfEveryFactoredMapIsTimed) {
  for (const int threads : {1, 2}) {
    ThreadPool pool(threads);
    const auto model = made("llama_levels", pool);
    std::set<std::pair<std::string, int>> seen;
    for (const adapt::ExecutionQuestion& q : timed(*model, pool)) {
      EXPECT_TRUE(seen.emplace(q.map, q.level).second);
      for (size_t t = 0; t < adapt::kTimedTokens.size(); ++t) {
        EXPECT_GE(q.factors[t].median_ns, 1);
        EXPECT_GE(q.merged[t].median_ns, 1);
        EXPECT_GE(q.factors[t].spread_ns, 0);
      }
    }
    EXPECT_EQ(seen.size(), model->config().shapes.size() * 4);
    EXPECT_TRUE(seen.contains({"lm_head", 4}));
  }
}

TEST(ExecutionPlan, DenseModelsAndMapsThatAreRebuiltInAnyCaseHaveNoQuestions) {
  ThreadPool pool(1);
  EXPECT_TRUE(timed(*made("llama", pool), pool).empty());
  auto model = made("llama_mpo", pool);
  for (const adapt::ExecutionQuestion& q : timed(*model, pool))
    EXPECT_FALSE(tt::is_rebuilt(model->config().shapes.at(q.map))) << q.map;
}

adapt::ExecutionQuestion question(const std::string& map, int level, int64_t factors) {
  adapt::ExecutionQuestion q{map, "chain:rank=8", level, {}, {}};
  for (size_t t = 0; t < adapt::kTimedTokens.size(); ++t) q.factors[t] = {factors, 0}, q.merged[t] = {10, 0};
  return q;
}

TEST(ExecutionPlan, MergesTheLevelsThatAreSlowerAndRecordsAll) {
  const ExecutionPlan plan =
      plan_execution({question("a", 1, 5), question("a", 2, 11), question("a", 3, 12), question("b", 1, 10)});
  EXPECT_EQ(plan.merged, (std::map<std::string, std::vector<int>>{{"a", {2, 3}}}));
  EXPECT_EQ(plan.choices.size(), 4u);
  const std::string lines = decisions(plan).lines;
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 4);
}

TEST(ExecutionPlan, IsCheckedAndCountedByTheConfiguration) {
  ModelConfig config = small_config(small("llama_levels"));
  const int64_t before = macs_per_token(config, 0), smallest = macs_per_token(config, 0, 1);
  config.plan["lm_head"] = {4};
  validate(config);
  const tt::WeightShape& head = config.shapes.at("lm_head");
  EXPECT_EQ(macs_per_token(config, 0), before - tt::macs(head) + head.out * head.in);
  EXPECT_EQ(macs_per_token(config, 0, 1), smallest);
  for (const std::vector<int>& bad : {std::vector<int>{}, {0}, {5}, {2, 2}, {3, 1}}) {
    config.plan["lm_head"] = bad;
    EXPECT_THROW(validate(config), InputError);
  }
  config.plan = {{"model.embed_tokens", {1}}};  // dense
  EXPECT_THROW(validate(config), InputError);
  ThreadPool pool(1);
  EXPECT_THROW(made("llama_levels", pool)->set_plan(config.plan), InputError);
}

TEST(ExecutionPlan, EveryLevelGivesTheSameFunctionHoweverItRuns) {
  ThreadPool pool(1);
  const auto model = made("llama_levels", pool);
  const std::vector<int32_t> tokens = {1, 200, 37, 256, 37};
  const auto hidden = [&](int level) {
    std::vector<float> states(static_cast<size_t>(5 * model->config().width));
    Arena arena;
    model->hidden_states({tokens, {}, 1, 5}, level, {states.data(), 5, model->config().width}, arena);
    return states;
  };
  std::vector<std::vector<float>> want;
  for (int level = 0; level <= 4; ++level) want.push_back(hidden(level));
  std::map<std::string, std::vector<int>> plan;
  for (const auto& [name, shape] : model->config().shapes) plan[name] = {2, 4};
  model->set_plan(plan);
  model->prepare(tt::Use::inference, pool);
  for (int level = 0; level <= 4; ++level) {
    const std::vector<float> got = hidden(level), &expected = want[static_cast<size_t>(level)];
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-3F) << level;
    EXPECT_EQ(got == expected, level == 1 || level == 3) << level;
  }
}

}  // namespace
}  // namespace qtf::model
