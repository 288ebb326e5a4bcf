#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

using nlohmann::json;

class Calibrate : public testing::Test {
 protected:
  json policy() const { return call_json({"info", model_}).at("rank_policy"); }

  const Workplace place_;
  const std::string model_ =
      place_.train("nested", {"--shape", "ffn=chain:rank=8", "--levels", "4", "--steps", "10"});
};

TEST_F(Calibrate, StoresThePolicyAndNothingElse) {
  const std::string config = model_ + "/config.json";
  json before = json::parse(read_file(config));
  EXPECT_EQ(before.at("qtf").at("rank_policy").at("mean_rank"), 500000000) << "training calibrated it";
  before.at("qtf").erase("rank_policy");
  before["somebody_elses"] = {{"key", 1}};
  place_.write("nested/config.json", before.dump());
  EXPECT_FALSE(call_json({"info", model_}).contains("rank_policy"));

  const Result result =
      call({"calibrate", model_, "--text", place_.book(), "--mean-rank", "0.3", "--hysteresis", "0.05"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("tokens: gate, mean rank 0."), std::string::npos) << result.out;
  json after = json::parse(read_file(config));
  EXPECT_EQ(after.at("qtf").at("rank_policy"), policy());
  EXPECT_EQ(policy().at("mean_rank"), 300000000);
  EXPECT_EQ(policy().at("hysteresis"), 50000000);
  EXPECT_EQ(policy().at("layers").size(), 3U);
  after.at("qtf").erase("rank_policy");
  EXPECT_EQ(after, before);
  EXPECT_NE(call({"info", model_}).out.find("--rank-policy gate: mean rank 0.300"), std::string::npos);
  EXPECT_EQ(call_json({"eval", model_, "--text", place_.book(), "--rank-policy", "gate"})
                .at("ranks")
                .at("asked_mean_rank"),
            0.3);
}

TEST_F(Calibrate, TrainingUnderAPolicyLeavesItsMeanRank) {
  const std::string model = place_.train("adaptive", {"--shape", "ffn=chain:rank=8", "--levels", "4",
                                                      "--rank-policy", "entropy", "--mean-rank", "0.7"});
  EXPECT_EQ(call_json({"info", model}).at("rank_policy").at("mean_rank"), 700000000);
  const std::string parent =
      place_.train("begun", {"--ratio", "1.5", "--levels", "2", "--rank-policy", "entropy", "--steps", "8"});
  EXPECT_EQ(call_json({"info", parent}).at("rank_policy").at("mean_rank"), 500000000);
}

TEST_F(Calibrate, AnySignalBecomesTheModelsOwnAndEntropyStays) {
  for (const char* signal : {"gate", "output", "surprise"}) {
    EXPECT_EQ(
        call({"calibrate", model_, "--text", place_.book(), "--tokens", "600", "--signal", signal}).status,
        0);
    EXPECT_EQ(policy().at("signal"), signal);
    const auto ranks = [&](const std::vector<std::string>& more) {
      std::vector<std::string> args = {"eval", model_, "--text", place_.book()};
      args.insert(args.end(), more.begin(), more.end());
      return call_json(args).at("ranks");
    };
    EXPECT_EQ(ranks({"--mean-rank", "0.5"}).at("policy"), signal) << "the model's own";
    const json own = ranks({"--rank-policy", signal, "--mean-rank", "0.5"});
    EXPECT_EQ(own, ranks({"--mean-rank", "0.5"}));
    EXPECT_NEAR(own.at("mean_rank").get<double>(), 0.5, 0.1) << signal;
    const json entropy = ranks({"--rank-policy", "entropy", "--mean-rank", "0.5"});
    EXPECT_EQ(entropy.at("policy"), "entropy");
    EXPECT_NE(entropy, own);
    const auto written = [&](const char* threads) {
      return call({"generate", model_, "--prompt", "Line 1", "--tokens", "20", "--rank-policy", signal,
                   "--threads", threads})
          .out;
    };
    EXPECT_EQ(written("1"), written("3")) << signal;
  }
  const Result refused = call({"eval", model_, "--text", place_.book(), "--rank-policy", "gate"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("--signal gate"), std::string::npos) << refused.err;
}

TEST_F(Calibrate, RecordsHowThresholdsWereSolvedFor) {
  const auto records = [&] {
    std::vector<json> lines;
    std::istringstream in(read_file(model_ + "/decisions.jsonl"));
    for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line));
    return lines;
  };
  place_.write("nested/decisions.jsonl",
               "{\"decision\":\"another\"}\n" + read_file(model_ + "/decisions.jsonl"));
  ASSERT_EQ(records().size(), 4U);
  EXPECT_EQ(
      call({"calibrate", model_, "--text", place_.book(), "--mean-rank", "0.25", "--alpha", "0"}).status, 0);
  const auto lines = records();
  ASSERT_EQ(lines.size(), 4U) << "in place of the earlier ones";
  EXPECT_EQ(lines[0].at("decision"), "another");
  for (size_t layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(lines[layer + 1].at("decision"), "rank_thresholds");
    EXPECT_EQ(lines[layer + 1].at("layer"), std::to_string(layer));
    EXPECT_EQ(lines[layer + 1].at("mean"), "250000000");
    EXPECT_EQ(lines[layer + 1].at("alpha"), "500000000");
  }
}

}  // namespace
}  // namespace qtf::cli
