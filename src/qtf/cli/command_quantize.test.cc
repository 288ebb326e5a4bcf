
#include "qtf/base/json.h"
#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

namespace fs = std::filesystem;

class Quantize : public testing::Test {
 protected:
  Result quantize(const std::string& model, const std::string& out,
                  std::vector<std::string> more = {}) const {
    std::vector<std::string> args = {"quantize", model, "--out", out};
    args.insert(args.end(), more.begin(), more.end());
    return call(args);
  }

  double loss(const std::string& model) const {
    return call_json({"eval", model, "--text", place_.book()}).at("nats_per_token");
  }

  const Workplace place_;
};

TEST_F(Quantize, FewerBitsAreSmallerAndLoseMore) {
  const std::string model = place_.train("chain", {"--ratio", "1.5", "--levels", "2", "--steps", "30"});
  const double before = loss(model);
  int64_t bytes = call_json({"info", model}).at("bytes");
  double least = -1;
  for (const char* dtype : {"f16", "int8", "int4"}) {
    const std::string out = place_ / dtype;
    const Result result = quantize(model, out, {"--dtype", dtype, "--text", place_.book()});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("bits/byte"), std::string::npos) << result.out;
    const auto info = call_json({"info", out});
    EXPECT_TRUE(info.at("weights").get<std::string>().starts_with(dtype)) << info.dump();
    EXPECT_LT(info.at("bytes").get<int64_t>(), bytes);
    bytes = info.at("bytes");
    const double lost = std::abs(loss(out) - before);
    EXPECT_GT(lost, least) << dtype;
    EXPECT_LT(lost, 0.05) << dtype;
    least = lost;
    EXPECT_EQ(call({"audit", "verify", out}).status, 0);
    EXPECT_NE(read_file(fs::path(out) / "README.md").find("`qtf quantize`"), std::string::npos);
  }
}

TEST_F(Quantize, ChainsOf4BitsGetSmallerBlocks) {
  const std::string chain = place_.train("chain", {"--ratio", "1.5", "--steps", "2"}),
                    dense = place_.train("dense", {"--steps", "1"});
  const auto weights = [&](const std::string& model, const std::vector<std::string>& more) {
    const std::string out = place_ / "codes";
    EXPECT_EQ(quantize(model, out, more).status, 0);
    const std::string said = call_json({"info", out}).at("weights");
    fs::remove_all(out);
    return said;
  };
  EXPECT_EQ(weights(chain, {"--dtype", "int4"}), "int4, blocks of 16");
  EXPECT_EQ(weights(chain, {"--dtype", "int4", "--block", "32"}), "int4, blocks of 32");
  EXPECT_EQ(weights(chain, {"--dtype", "int8"}), "int8, blocks of 32");
  EXPECT_EQ(weights(dense, {"--dtype", "int4"}), "int4, blocks of 32");
}

TEST_F(Quantize, CalibrationHalvesWhatFewBitsLose) {
  const std::string model = place_.train("chain", {"--ratio", "1.5", "--levels", "2", "--steps", "60"});
  const auto divergence = [&](const std::string& name, const std::vector<std::string>& more) {
    std::vector<std::string> args = {"--dtype", "int4"};
    args.insert(args.end(), more.begin(), more.end());
    const Result result = quantize(model, place_ / name, args);
    EXPECT_EQ(result.status, 0) << result.err;
    return call_json({"eval", place_ / name, "--text", place_.book(), "--against", model})
        .at("kl_divergence")
        .get<double>();
  };
  const double nearest = divergence("nearest", {});
  EXPECT_GT(nearest, 0);
  EXPECT_LT(divergence("calibrated", {"--calibrate", place_.book()}), 0.7 * nearest);
}

TEST_F(Quantize, AQuantizedModelRunsEverywhere) {
  const std::string model = place_.train("chain", {"--ratio", "1.5", "--levels", "2", "--steps", "30"});
  const std::string out = place_ / "int8", floats = place_ / "floats";
  ASSERT_EQ(quantize(model, out).status, 0);
  ASSERT_EQ(call({"convert", out, floats}).status, 0);
  EXPECT_EQ(call_json({"info", floats}).at("weights"), "floats");
  EXPECT_EQ(loss(floats), loss(out)) << "the same numbers, the same bits";
  for (const char* level : {"1", "2"}) {
    const auto text = [&](const std::string& of) {
      return call({"generate", of, "--prompt", "The", "--tokens", "12", "--seed", "3", "--level", level}).out;
    };
    EXPECT_EQ(text(out), text(floats));
  }
  const std::string tuned = place_ / "tuned";
  const Result result =
      call({"train", "--from", out, "--train", place_.book(), "--out", tuned, "--steps", "2", "--quiet"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(call_json({"info", tuned}).at("weights"), "floats");
}

TEST_F(Quantize, RefusesWhatDoesNotFit) {
  const std::string model = place_.train("model", {"--steps", "1"});
  ASSERT_EQ(quantize(model, place_ / "int8").status, 0);
  const struct {
    std::string model;
    std::vector<std::string> more;
    std::string said;
  } rows[] = {
      {model, {"--block", "33"}, "a block is an even number of weights"},
      {model, {"--block", "rows"}, "--block"},
      {model, {"--dtype", "int3"}, "--dtype"},
      {place_ / "int8",
       {},
       "is quantized already (int8, blocks of 32); give the model that it was made from"},
      {place_ / "nothing", {}, "nothing"},
      {model, {"--text", place_ / "no.txt"}, "no.txt"},
      {model, {"--calibrate", place_ / "no.txt"}, "no.txt"},
  };
  for (const auto& row : rows) {
    const auto before = place_.snapshot();
    const Result result = quantize(row.model, place_ / "new", row.more);
    EXPECT_EQ(result.status, 2) << row.said;
    EXPECT_NE(result.err.find(row.said), std::string::npos) << "expected: " << row.said << "\n" << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_TRUE(place_.snapshot() == before) << "something was written or lost";
  }
  EXPECT_NE(quantize(model, place_ / "int8").err.find("exists already"), std::string::npos);
}

}  // namespace
}  // namespace qtf::cli
