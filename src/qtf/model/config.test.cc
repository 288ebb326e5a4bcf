#include "qtf/model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "qtf/base/error.h"
#include "qtf/model/parameters.h"

namespace qtf::model {
namespace {

/// The text of the InputError that `act` throws.
std::string refusal_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Presets, HaveTheDocumentedSizes) {
  const std::map<std::string_view, std::pair<double, double>> expected = {
      // parameters and the half unit of the last documented digit
      {"nano", {51e3, 0.5e3}},      {"tiny", {1.25e6, 5e3}},     {"small", {4.7e6, 0.05e6}},
      {"medium", {11.7e6, 0.05e6}}, {"large", {48.8e6, 0.05e6}},
  };
  EXPECT_EQ(presets().size(), expected.size());
  for (const Preset& preset : presets()) {
    const ModelConfig config = preset_config(preset.name);
    EXPECT_NO_THROW(validate(config)) << preset.name;
    const auto [count, half_digit] = expected.at(preset.name);
    EXPECT_NEAR(static_cast<double>(parameter_count(config)), count, half_digit) << preset.name;
    EXPECT_EQ(parameter_count(config), dense_parameter_count(config));
    EXPECT_EQ(parameter_count(config), make_layout(config).size) << preset.name;
  }
}

TEST(Presets, UnknownNamesAreAnsweredWithTheKnown) {
  const std::string error = refusal_of([] { preset_config("tinny"); });
  EXPECT_NE(error.find("did you mean tiny?"), std::string::npos) << error;
  EXPECT_NE(error.find("nano, tiny, small, medium, large"), std::string::npos) << error;
}

TEST(Config, RefusesWhatDoesNotFitAndNamesTheNearest) {
  struct Row {
    std::function<void(ModelConfig&)> change;
    const char* expected;
  };
  const std::vector<Row> rows = {
      {[](ModelConfig& c) { c.vocabulary = 0; }, "vocabulary must be 1 to 16777216, got 0"},
      {[](ModelConfig& c) { c.width = -4; }, "width must be 1 to 65536, got -4"},
      {[](ModelConfig& c) { c.layers = 0; }, "layers must be 1 to 1024, got 0"},
      {[](ModelConfig& c) { c.heads = 0; }, "heads must be 1 to 1024, got 0"},
      {[](ModelConfig& c) { c.kv_heads = 0; }, "kv-heads must be 1 to 1024, got 0"},
      {[](ModelConfig& c) { c.feed_forward = 0; }, "feed-forward width must be 1 to 1048576, got 0"},
      {[](ModelConfig& c) { c.context = 0; }, "context must be 1 to 1048576, got 0"},
      {[](ModelConfig& c) { c.width = 1024, c.heads = c.kv_heads = 1, c.context = 1 << 20; },
       "a context of 1048576 with heads of width 1024 is not supported; the longest is 131072"},
      {[](ModelConfig& c) { c.width = 130, c.heads = 4; }, "the nearest that fit are width 132 or 5 heads"},
      {[](ModelConfig& c) { c.width = 129, c.heads = 3; }, "the nearest width that fits is 132"},
      {[](ModelConfig& c) { c.heads = 8, c.kv_heads = 3; }, "the nearest that fit are 2 kv-heads"},
      {[](ModelConfig& c) { c.family = Family::gpt2; }, "as many kv-heads as heads (4), got 2"},
      {[](ModelConfig& c) { c.norm_epsilon = 0; }, "norm epsilon and rope theta must be positive"},
      {[](ModelConfig& c) { c.rope_theta = std::nan(""); }, "norm epsilon and rope theta must be positive"},
      {[](ModelConfig& c) { c.shapes["lm_head"] = tt::parse_shape("chain:rank=2", 4096, 128); },
       "a shape is given for lm_head, which this model lacks"},
      {[](ModelConfig& c) {
         apply_shape_requests(c, {"embedding=chain:rank=2"});
         c.vocabulary = 4000;
       },
       "model.embed_tokens is 4000 x 128, but its shape is for 4096 x 128"},
      {[](ModelConfig& c) {
         apply_shape_requests(c, {"up_proj=chain:rank=4,levels=2x4", "down_proj=chain:rank=4,levels=1x2x4"});
       },
       "give all the same number"},
      {[](ModelConfig& c) {
         apply_shape_requests(c, {"embedding=chain:rank=2"});
         c.shapes.begin()->second.ranks = {0};
       },
       "rank 0 of bond 1"},
  };
  for (const Row& row : rows) {
    ModelConfig config = preset_config("tiny");
    row.change(config);
    const std::string error = refusal_of([&] { validate(config); });
    EXPECT_NE(error.find(row.expected), std::string::npos) << error << "\nexpected: " << row.expected;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
}

TEST(Config, ListsEveryMapOnce) {
  for (Family family : {Family::llama, Family::gpt2}) {
    for (bool tied : {true, false}) {
      ModelConfig config = preset_config("nano");
      config.family = family, config.tied = tied;
      config.kv_heads = family == Family::llama ? 2 : 4;
      std::map<std::string, int> seen;
      int residual = 0;
      for (const MapSpec& map : linear_maps(config)) {
        ++seen[map.name];
        residual += map.residual_output;
        EXPECT_EQ(map.bias, family == Family::gpt2 && map.layer >= 0) << map.name;
      }
      const int64_t each = family == Family::llama ? 7 : 4;
      EXPECT_EQ(static_cast<int64_t>(seen.size()), 1 + each * config.layers + !tied);
      EXPECT_EQ(residual, 2 * config.layers);
      EXPECT_EQ(seen.count("lm_head"), tied ? 0u : 1u);
    }
  }
}

/// How many maps have a shape of this kind.
int64_t count_of(const ModelConfig& config, tt::ShapeKind kind) {
  int64_t count = 0;
  for (const MapSpec& map : linear_maps(config)) count += shape_of(config, map).kind == kind;
  return count;
}

TEST(ShapeRequests, NamePartsAndMaps) {
  struct Row {
    std::vector<std::string> requests;
    int64_t chains, btts;
  };
  const std::vector<Row> rows = {
      {{}, 0, 0},
      {{"ffn=chain:rank=4"}, 9, 0},
      {{"attention=chain:rank=4"}, 12, 0},
      {{"embedding=chain:rank=4"}, 1, 0},
      {{"up_proj=btt:rank=1"}, 0, 3},
      {{"mlp.up_proj=btt:rank=1"}, 0, 3},
      {{"model.layers.1.mlp.up_proj=chain:rank=4"}, 1, 0},
      {{"layers.1.mlp.up_proj=chain:rank=4"}, 1, 0},
      {{"ffn=chain:rank=4", "up_proj=btt:rank=1"}, 6, 3},
      {{"up_proj=btt:rank=1", "ffn=chain:rank=4"}, 9, 0},
      {{"ffn=chain:rank=4", "model.layers.2.mlp.down_proj=dense"}, 8, 0},
  };
  for (const Row& row : rows) {
    ModelConfig config = preset_config("nano");
    apply_shape_requests(config, row.requests);
    EXPECT_NO_THROW(validate(config));
    EXPECT_EQ(count_of(config, tt::ShapeKind::chain), row.chains) << testing::PrintToString(row.requests);
    EXPECT_EQ(count_of(config, tt::ShapeKind::btt), row.btts) << testing::PrintToString(row.requests);
  }
  ModelConfig untied = preset_config("nano");
  untied.tied = false;
  apply_shape_requests(untied, {"head=chain:rank=4"});
  EXPECT_EQ(shape_of(untied, linear_maps(untied).back()).kind, tt::ShapeKind::chain);
  EXPECT_EQ(shape_of(untied, linear_maps(untied).front()).kind, tt::ShapeKind::dense);
}

TEST(ShapeRequests, RefuseWhatMatchesNothing) {
  const std::vector<std::pair<std::string, const char*>> rows = {
      {"up_projj=dense", "did you mean up_proj?"},
      {"attn=dense", "choose one of embedding, attention, ffn, embed_tokens, q_proj"},
      {"proj=dense", "nothing in this model is called 'proj'"},  // no end of a name at a dot
      {"head=dense", "the head is tied to the embedding"},
      {"ffn", "expected PART=SHAPE"},
      {"=dense", "expected PART=SHAPE"},
      {"", "expected PART=SHAPE"},
      {"ffn=chains:rank=4", "did you mean chain?"},
      {"ffn=chain:rank=40", "the nearest that fits is 32"},
  };
  for (const auto& [request, expected] : rows) {
    ModelConfig config = preset_config("nano");
    const std::string error = refusal_of([&, &r = request] { apply_shape_requests(config, {r}); });
    EXPECT_NE(error.find(expected), std::string::npos) << error;
  }
}

TEST(Levels, AreEqualStepsOfEveryChainsRank) {
  ModelConfig config = preset_config("nano");
  EXPECT_EQ(level_count(config), 1);
  apply_shape_requests(config, {"ffn=chain:rank=10", "attention=btt:rank=1"});
  apply_levels(config, 4);
  EXPECT_EQ(level_count(config), 4);
  EXPECT_NO_THROW(validate(config));
  for (const auto& [name, shape] : config.shapes) {
    const bool chain = shape.kind == tt::ShapeKind::chain;
    EXPECT_EQ(shape.levels, chain ? (std::vector<int64_t>{2, 5, 7, 10}) : std::vector<int64_t>{}) << name;
  }
  apply_levels(config, 1);
  EXPECT_EQ(level_count(config), 1);
}

TEST(Levels, RefuseWhatDoesNotFit) {
  ModelConfig config = preset_config("nano");
  EXPECT_NE(refusal_of([&] { apply_levels(config, 2); }).find("no map is a chain"), std::string::npos);
  EXPECT_NO_THROW(apply_levels(config, 1));
  for (int levels : {0, 5, -1}) {
    EXPECT_NE(refusal_of([&] { apply_levels(config, levels); }).find("1 to 4"), std::string::npos);
  }
  apply_shape_requests(config, {"ffn=chain:rank=3"});
  EXPECT_NE(refusal_of([&] { apply_levels(config, 4); }).find("too small for 4 levels"), std::string::npos);
}

TEST(Macs, AreTheProductsAndTheAttention) {
  ModelConfig config = preset_config("tiny");
  int64_t products = 0;
  for (const MapSpec& map : linear_maps(config)) products += map.out * map.in;
  EXPECT_EQ(macs_per_token(config, 0), products + config.layers * 2 * config.width);
  EXPECT_EQ(macs_per_token(config, 99) - macs_per_token(config, 0), 99 * config.layers * 2 * config.width);
  const int64_t tied = macs_per_token(config, 0);
  config.tied = false;
  EXPECT_EQ(macs_per_token(config, 0), tied) << "looking up an embedding multiplies nothing";

  apply_shape_requests(config, {"ffn=chain:rank=32"});
  apply_levels(config, 4);
  const int64_t per_rank = 3 * config.layers * (config.width + config.feed_forward);
  EXPECT_EQ(macs_per_token(config, 0), macs_per_token(config, 0, 4));
  EXPECT_EQ(macs_per_token(config, 0, 4) - macs_per_token(config, 0, 1), 24 * per_rank);
}

}  // namespace
}  // namespace qtf::model
