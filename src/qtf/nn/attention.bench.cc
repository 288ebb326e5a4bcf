// What attention entropies cost: a block of the preset `small`, with and without them.
#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include "qtf/base/random.h"
#include "qtf/nn/block.h"

namespace qtf::nn {
namespace {

/// A block with D = 256, 8 heads (4 key heads), F = 684 and random weights.
struct SmallBlock {
  SmallBlock() {
    spec.heads = 8, spec.kv_heads = 4, spec.head_dim = 32;
    ones.assign(256, 1.F);
    block.attention_norm.weight = block.feed_forward_norm.weight = ones.data();
    for (int64_t out : {256, 128, 128}) add(block.qkv.emplace_back(), out, 256);
    add(block.attention_out, 256, 256);
    for (int i = 0; i < 2; ++i) add(block.up.emplace_back(), 684, 256);
    add(block.down, 256, 684);
  }
  void add(Linear<float>& linear, int64_t out, int64_t in) {
    weights.push_back(normal(out * in, 1 / std::sqrt(static_cast<double>(in))));
    linear.map = tt::make_linear_map<float>(tt::parse_shape("dense", out, in));
    linear.map->prepare(weights.back().data(), tt::Use::inference);
  }
  std::vector<float> normal(int64_t n, double deviation) const {
    const Random random{1, weights.size()};
    std::vector<float> values;
    for (int64_t i = 0; i < n; ++i)
      values.push_back(static_cast<float>(deviation * random.normal(static_cast<uint64_t>(i))));
    return values;
  }

  Block<float> block;
  BlockSpec<float> spec;
  std::vector<float> ones;
  std::vector<std::vector<float>> weights;
};

/// Whole sequences of range(0) tokens; range(1): with entropies.
void block_forward_whole(benchmark::State& state) {
  const SmallBlock small;
  const int64_t rows = state.range(0);
  const auto x = small.normal(rows * 256, 1);
  std::vector<float> y(x.size()), entropy(static_cast<size_t>(rows));
  float* const row = state.range(1) ? entropy.data() : nullptr;
  const std::vector<Segment<float>> segments = {{0, rows, 0, nullptr}};
  Arena arena;
  for (auto _ : state) {
    block_forward<float>(small.block, small.spec, {segments, rows, 0, {}, nullptr, {&row, 1}}, 0,
                         {x.data(), rows, 256}, {y.data(), rows, 256}, nullptr, arena);
    benchmark::DoNotOptimize(y.data());
  }
  state.SetItemsProcessed(state.iterations() * rows);
}
BENCHMARK(block_forward_whole)->ArgNames({"tokens", "entropy"})->ArgsProduct({{128, 512}, {0, 1}});

}  // namespace
}  // namespace qtf::nn
