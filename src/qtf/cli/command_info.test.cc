#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

using nlohmann::json;

TEST(Info, CountsAWholeModel) {
  const Workplace place;
  const std::string model = place.train("model", {"--ratio", "2"});
  const json info = call_json({"info", model});
  int64_t parameters = 0, dense = 0, macs = 0;
  for (const json& map : info.at("layers")) {
    parameters += map.at("parameters").get<int64_t>(), dense += map.at("dense_parameters").get<int64_t>();
    macs += map.at("macs").get<int64_t>();
    EXPECT_EQ(map.at("dense_parameters").get<int64_t>(),
              map.at("out").get<int64_t>() * map.at("in").get<int64_t>());
    EXPECT_TRUE(map.at("shape").is_string() && map.at("part").is_string());
  }
  constexpr int64_t kNorms = 7 * 32;  // two a block and the last
  EXPECT_EQ(info.at("parameters"), parameters + kNorms);
  EXPECT_EQ(info.at("dense_parameters"), dense + kNorms);
  EXPECT_NEAR(info.at("ratio"),
              static_cast<double>(dense + kNorms) / static_cast<double>(parameters + kNorms), 1e-12);
  EXPECT_GE(info.at("ratio"), 2);
  EXPECT_EQ(info.at("layers").size(), 1U + 3 * 7);
  EXPECT_EQ(info.at("bytes"), std::filesystem::file_size(model + "/model.safetensors"));
  EXPECT_GT(info.at("bytes"), 4 * info.at("parameters").get<int64_t>());
  // Attention reads 16 of 32 positions, keys and values, in three blocks.
  EXPECT_EQ(info.at("macs_per_token"), macs + 3 * 2 * 16 * 32);

  const json& architecture = info.at("architecture");
  EXPECT_EQ(architecture.at("family"), "llama");
  EXPECT_EQ(architecture.at("vocabulary"), 257);
  EXPECT_EQ(architecture.at("width"), 32);
  EXPECT_EQ(architecture.at("context"), 32);

  const std::string text = call({"info", model}).out;
  for (const char* said :
       {"llama family", "vocabulary 257", "of the whole model", "MACs a token", "mlp.up_proj", "factors"})
    EXPECT_NE(text.find(said), std::string::npos) << text;
}

TEST(Info, ADenseModelHasRatioOne) {
  const Workplace place;
  const json info = call_json({"info", place.train("model", {"--family", "gpt2"})});
  EXPECT_EQ(info.at("ratio"), 1);
  EXPECT_EQ(info.at("parameters"), info.at("dense_parameters"));
  EXPECT_EQ(info.at("architecture").at("family"), "gpt2");
}

}  // namespace
}  // namespace qtf::cli
