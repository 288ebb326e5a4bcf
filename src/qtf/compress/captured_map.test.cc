#include "qtf/compress/captured_map.h"

#include <gtest/gtest.h>

#include "qtf/compress/compress_test.h"

namespace qtf::compress {
namespace {

using BlockPart = testing::TestWithParam<model::Family>;

/// Its attention, then its feed-forward layer: the same bits as the whole block.
TEST_P(BlockPart, TwoHalvesMakeABlock) {
  ThreadPool pool(1);
  const auto model = small_dense_model(GetParam(), true, pool);
  const nn::Block<float>& block = model->blocks()[1];
  const int64_t rows = 11, width = model->config().width;
  std::vector<float> x(static_cast<size_t>(rows * width)), whole(x.size()), middle(x.size()), end(x.size());
  const Random random{4, 2};
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random.normal(i));
  const std::vector<nn::Segment<float>> segments{{0, 7, 0, nullptr}, {7, 4, 0, nullptr}};
  const nn::Pass<float> pass{segments, rows, 0, {}};
  nn::BlockSpec<float> no_heads = model->block_spec();
  no_heads.heads = no_heads.kv_heads = 0;
  Arena arena;
  const auto forward = [&](const nn::Block<float>& part, const nn::BlockSpec<float>& spec,
                           const std::vector<float>& from, std::vector<float>& to) {
    nn::block_forward<float>(part, spec, pass, 1, {from.data(), rows, width}, {to.data(), rows, width},
                             nullptr, arena);
  };
  forward(block, model->block_spec(), x, whole);
  forward(part_of(block, Site::qkv, Site::attention_out), model->block_spec(), x, middle);
  forward(part_of(block, Site::up, Site::down), no_heads, middle, end);
  EXPECT_EQ(end, whole);
  EXPECT_NE(middle, x);

  // Maps that are left out add nothing.
  forward(part_of(block, Site::qkv, Site::qkv), model->block_spec(), x, end);
  EXPECT_EQ(end, x);
  forward(part_of(block, Site::up, Site::up), no_heads, x, end);
  EXPECT_EQ(end, x);
}

INSTANTIATE_TEST_SUITE_P(Families, BlockPart, testing::Values(model::Family::llama, model::Family::gpt2));

}  // namespace
}  // namespace qtf::compress
