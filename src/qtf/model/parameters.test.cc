#include "qtf/model/parameters.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "qtf/base/error.h"
#include "qtf/model/small_model.h"
#include "qtf/tt/linear_map.h"

namespace qtf::model {
namespace {

TEST(Layout, NamesEveryNumberOnce) {
  for (const SmallModel& small : small_models()) {
    const ModelConfig config = small_config(small);
    const ParameterLayout layout = make_layout(config);
    EXPECT_EQ(layout.size, parameter_count(config)) << small.name;
    std::set<std::string> names;
    int64_t offset = 0;
    for (const Parameter& p : layout.parameters) {
      EXPECT_TRUE(names.insert(p.name).second) << p.name;
      EXPECT_EQ(p.offset, offset) << p.name;
      int64_t size = 1;
      for (int64_t d : p.dims) size *= d;
      EXPECT_EQ(p.size, size) << p.name;
      EXPECT_EQ(p.decay, p.dims.size() > 1) << p.name;
      EXPECT_GT(p.rate_scale, 0) << p.name;
      EXPECT_EQ(&layout.find(p.name), &p);
      offset += p.size;
    }
    EXPECT_EQ(offset, layout.size);
    EXPECT_THROW(layout.find("model.nothing.weight"), InputError);
  }
}

TEST(Layout, MapsHoldTheirCoresEndToEnd) {
  for (const SmallModel& small : small_models()) {
    const ModelConfig config = small_config(small);
    const ParameterLayout layout = make_layout(config);
    const auto specs = linear_maps(config);
    ASSERT_EQ(layout.maps.size(), specs.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      const MapParameters& map = layout.maps[i];
      EXPECT_EQ(map.spec.name, specs[i].name);
      EXPECT_EQ(map.size, tt::parameters(map.shape));
      int64_t offset = map.offset;
      for (const tt::CoreSpec& core : tt::cores(map.shape)) {
        const Parameter& p = layout.find(map.spec.name + "." + core.suffix);
        EXPECT_EQ(p.offset, offset) << p.name;
        offset += p.size;
      }
      EXPECT_EQ(offset, map.offset + map.size);
      const int64_t bias = map.spec.bias ? layout.find(map.spec.name + ".bias").offset : -1;
      EXPECT_EQ(map.bias, bias);
    }
  }
}

TEST(Layout, HasHuggingFacesNames) {
  ModelConfig llama = small_config(small_models().front());
  llama.layers = 1;
  std::vector<std::string> names;
  for (const Parameter& p : make_layout(llama).parameters) names.push_back(p.name);
  const std::vector<std::string> expected = {"model.embed_tokens.weight",
                                             "model.layers.0.input_layernorm.weight",
                                             "model.layers.0.post_attention_layernorm.weight",
                                             "model.layers.0.self_attn.q_proj.weight",
                                             "model.layers.0.self_attn.k_proj.weight",
                                             "model.layers.0.self_attn.v_proj.weight",
                                             "model.layers.0.self_attn.o_proj.weight",
                                             "model.layers.0.mlp.gate_proj.weight",
                                             "model.layers.0.mlp.up_proj.weight",
                                             "model.layers.0.mlp.down_proj.weight",
                                             "model.norm.weight"};
  EXPECT_EQ(names, expected);

  ModelConfig gpt2 = small_config({"gpt2", Family::gpt2, {}});
  const ParameterLayout layout = make_layout(gpt2);
  const Parameter& c_fc = layout.find("transformer.h.1.mlp.c_fc.weight");
  EXPECT_TRUE(c_fc.transposed);
  EXPECT_EQ(c_fc.dims, (std::vector<int64_t>{16, 20})) << "Conv1D: [in, out]";
  EXPECT_EQ(layout.find("transformer.wpe.weight").dims, (std::vector<int64_t>{24, 16}));
}

TEST(InitialParameters, AreAFunctionOfTheSeed) {
  for (const SmallModel& small : small_models()) {
    const ParameterLayout layout = make_layout(small_config(small));
    const auto values = initial_parameters<float>(layout, 3);
    EXPECT_EQ(values, initial_parameters<float>(layout, 3)) << small.name;
    EXPECT_NE(values, initial_parameters<float>(layout, 4)) << small.name;
  }
}

TEST(InitialParameters, ResidualOutputsAreZeroAndNormsOne) {
  for (const SmallModel& small : small_models()) {
    const ParameterLayout layout = make_layout(small_config(small));
    const auto values = initial_parameters<double>(layout, 3);
    Arena scratch;
    for (const MapParameters& map : layout.maps) {
      std::vector<double> w(static_cast<size_t>(map.spec.out * map.spec.in));
      tt::make_linear_map<double>(map.shape)->to_dense(values.data() + map.offset, w.data(), 0, scratch);
      const bool zero = std::all_of(w.begin(), w.end(), [](double x) { return x == 0; });
      EXPECT_EQ(zero, map.spec.residual_output) << small.name << ": " << map.spec.name;
    }
    for (const Parameter& p : layout.parameters) {
      if (p.dims.size() != 1 || p.name.find(".quantum.") != std::string::npos) continue;
      const double expected = p.name.ends_with(".bias") ? 0 : 1;
      for (int64_t i = 0; i < p.size; ++i)
        EXPECT_EQ(values[static_cast<size_t>(p.offset + i)], expected) << p.name;
    }
  }
}

TEST(InitialParameters, EmbeddingsHaveTheDeviationOfGpt2) {
  for (const SmallModel& small : small_models()) {
    const ParameterLayout layout = make_layout(small_config(small));
    const auto values = initial_parameters<double>(layout, 3);
    const MapParameters& map = layout.maps.front();
    std::vector<double> w(static_cast<size_t>(map.spec.out * map.spec.in));
    Arena scratch;
    tt::make_linear_map<double>(map.shape)->to_dense(values.data() + map.offset, w.data(), 0, scratch);
    double square = 0;
    for (double x : w) square += x * x;
    const double deviation = std::sqrt(square / static_cast<double>(w.size()));
    if (map.shape.kind == tt::ShapeKind::dense) {
      EXPECT_NEAR(deviation, 0.02, 0.001) << small.name;
    } else {
      EXPECT_LT(deviation, 0.04) << small.name << ": small, so that training begins near uniform";
      EXPECT_GT(deviation, 0.002) << small.name;
    }
  }
}

}  // namespace
}  // namespace qtf::model
