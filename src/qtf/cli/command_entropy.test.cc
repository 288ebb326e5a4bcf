#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

using nlohmann::json;

TEST(EntropyMap, HasARowATokenAndAColumnALayer) {
  const Workplace place;
  const std::string model =
      place.train("nested", {"--shape", "ffn=chain:rank=8", "--levels", "4", "--steps", "10"});
  const json plain = call_json({"entropy", model, "--text", "a\ntrain"});
  ASSERT_EQ(plain.at("tokens").size(), 7U);
  EXPECT_EQ(plain.at("tokens")[0].at("token"), "a");
  EXPECT_EQ(plain.at("tokens")[1].at("token"), ".") << "a line's end";
  for (const json& token : plain.at("tokens")) {
    ASSERT_EQ(token.at("entropy").size(), 3U);
    EXPECT_FALSE(token.contains("level"));
    for (const double entropy : token.at("entropy")) EXPECT_TRUE(entropy >= 0 && entropy <= 1);
  }
  EXPECT_EQ(plain.at("tokens")[0].at("entropy"), json({1.0, 1.0, 1.0}));
  const json ranked = call_json({"entropy", model, "--text", "a\ntrain", "--rank-policy", "fixed:2"});
  EXPECT_EQ(ranked.at("tokens")[3].at("level"), json({2, 2, 2}));
  const std::string text = call({"entropy", model, "--text", "a train", "--rank-policy", "entropy"}).out;
  EXPECT_NE(text.find("a              █ 1.00 4  █ 1.00 4  █ 1.00 4"), std::string::npos) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1 + 7);
}

TEST(EntropyMap, RefusesNoTextAndTooMuch) {
  const Workplace place;
  const std::string model = place.train("model");
  const Result empty = call({"entropy", model, "--text", ""});
  EXPECT_EQ(empty.status, 2);
  EXPECT_NE(empty.err.find("give some words"), std::string::npos) << empty.err;
  const Result long_text = call({"entropy", model, "--text", std::string(33, 'x')});
  EXPECT_EQ(long_text.status, 2);
  EXPECT_NE(long_text.err.find("longer than the model's context of 32"), std::string::npos) << long_text.err;
}

}  // namespace
}  // namespace qtf::cli
