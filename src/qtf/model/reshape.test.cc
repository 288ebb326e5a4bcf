#include "qtf/model/reshape.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "qtf/base/random.h"
#include "qtf/model/small_model.h"
#include "qtf/tt/linear_map.h"

namespace qtf::model {
namespace {

ModelConfig with_shapes(ModelConfig config, const std::vector<std::string>& shapes, int levels = 1) {
  config.shapes.clear();
  apply_shape_requests(config, shapes);
  apply_levels(config, levels);
  return config;
}

double loss(Transformer<float>& model, int level = 0) {
  ThreadPool pool(1);
  Arena arena;
  model.prepare(tt::Use::inference, pool);
  const std::vector<int32_t> inputs = {1, 5, 3, 23, 0, 9, 9, 2}, targets = {5, 3, 23, 0, 9, 9, 2, 4};
  return model.loss({inputs, targets, 2, 4}, level, nullptr, arena);
}

TEST(Reshape, AtFullRankThereAndBackKeepsTheFunction) {
  const struct {
    Family family;
    std::vector<std::string> shapes;
    size_t maps;
  } cases[] = {
      {Family::llama, {"ffn=chain:rank=16", "embedding=chain:rank=16"}, 7},
      {Family::llama, {"q_proj=mpo:rank=16,out=4x4,in=4x4", "k_proj=chain:rank=8"}, 4},
      {Family::llama, {"up_proj=btt:rank=4,out=4x5,in=4x4"}, 2},
      {Family::gpt2, {"ffn=chain:rank=16", "c_attn=chain:rank=16"}, 6},
  };
  for (const auto& c : cases) {
    Transformer<float> dense(tiny_config(c.family));
    randomise(dense);
    const double before = loss(dense), rounding = 1e-4 * before;
    const ModelConfig config = with_shapes(dense.config(), c.shapes);
    const Reshaped there = reshape(dense, config);
    EXPECT_EQ(there.model->config().shapes, config.shapes);
    ASSERT_EQ(there.maps.size(), c.maps) << c.shapes[0];
    for (const ReshapedMap& map : there.maps) EXPECT_LT(map.error, 1e-5) << map.name;
    EXPECT_NEAR(loss(*there.model), before, rounding) << c.shapes[0];
    const Reshaped back = reshape(*there.model, dense.config());
    EXPECT_EQ(back.maps.size(), c.maps);
    EXPECT_NEAR(loss(*back.model), before, rounding) << c.shapes[0];
  }
}

TEST(Reshape, ChangesOnlyWhatHasAnotherShape) {
  Transformer<float> dense(tiny_config(Family::gpt2));
  randomise(dense);
  const Reshaped reshaped = reshape(dense, with_shapes(dense.config(), {"ffn=chain:rank=4"}));
  size_t copied = 0;
  for (const Parameter& p : reshaped.model->layout().parameters) {
    if (p.name.find(".core.") != std::string::npos) continue;
    const Parameter& original = dense.layout().find(p.name);
    EXPECT_TRUE(std::equal(reshaped.model->parameters().begin() + p.offset,
                           reshaped.model->parameters().begin() + p.offset + p.size,
                           dense.parameters().begin() + original.offset))
        << p.name;
    ++copied;
  }
  EXPECT_EQ(copied + 4, dense.layout().parameters.size()) << "but the four feed-forward matrices";
  for (const ReshapedMap& map : reshaped.maps) {
    EXPECT_GT(map.error, 0.1) << map.name;
    EXPECT_LT(map.error, 1) << map.name;
  }
}

TEST(Reshape, OrdersNestedLevelsByImportance) {
  Transformer<float> dense(tiny_config(Family::llama));
  randomise(dense);
  ModelConfig shuffled = with_shapes(dense.config(), {"up_proj=chain:rank=16"});
  Transformer<float> chain(shuffled);
  randomise(chain);
  apply_levels(shuffled, 4);
  const Reshaped ordered = reshape(chain, shuffled);
  // The largest level is the same function; the singular values of the first quarter outweigh the last's.
  EXPECT_NEAR(loss(*ordered.model), loss(chain), 1e-4 * loss(chain));
  const MapParameters& map = ordered.model->layout().maps[6];
  ASSERT_TRUE(map.spec.name.ends_with("up_proj"));
  std::vector<float> whole(static_cast<size_t>(map.spec.out * map.spec.in)), quarter(whole.size());
  Arena scratch;
  const auto linear_map = tt::make_linear_map<float>(map.shape);
  const float* cores = ordered.model->parameters().data() + map.offset;
  linear_map->to_dense(cores, whole.data(), 0, scratch);
  linear_map->to_dense(cores, quarter.data(), 1, scratch);
  double kept = 0, all = 0;
  for (size_t i = 0; i < whole.size(); ++i) kept += quarter[i] * quarter[i], all += whole[i] * whole[i];
  EXPECT_GT(kept, 0.35 * all);
}

}  // namespace
}  // namespace qtf::model
