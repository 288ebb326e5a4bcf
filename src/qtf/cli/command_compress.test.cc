#include <cmath>

#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

class CompressCommand : public testing::Test {
 protected:
  std::vector<std::string> compress_call(const std::string& out, const std::vector<std::string>& more) const {
    std::vector<std::string> args = {"compress",    model_,    "--out",     place_ / out, "--calibrate",
                                     place_.book(), "--quiet", "--threads", "2"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  void expect_refused(const std::vector<std::string>& more, const std::string& text) const {
    const auto before = place_.snapshot();
    const Result result = call(compress_call("refused", more));
    EXPECT_EQ(result.status, 2);
    EXPECT_NE(result.err.find(text), std::string::npos) << result.err;
    EXPECT_EQ(place_.snapshot(), before);
  }

  Workplace place_;
  std::string model_ = place_.train("dense");
};

TEST_F(CompressCommand, MakesASmallerModelThatRunsAndTrainsOn) {
  const auto report = call_json(compress_call("half", {"--ratio", "2"}));
  EXPECT_LE(report["parameters"].get<int64_t>(), report["dense_parameters"].get<int64_t>() / 2);
  const auto info = call_json({"info", place_ / "half"});
  EXPECT_EQ(info["parameters"], report["parameters"]);
  const auto eval = call_json({"eval", place_ / "half", "--text", place_.book(), "--against", model_});
  EXPECT_GE(eval["kl_divergence"].get<double>(), 0);
  const Result trained = call(place_.train_call(
      "healed", {"--from", place_ / "half", "--preset", "nano", "--context", "32", "--tokenizer", "bytes"}));
  EXPECT_EQ(trained.status, 2);  // these flags contradict --from
  const Result healed = call({"train", "--train", place_.book(), "--out", place_ / "healed", "--from",
                              place_ / "half", "--steps", "3", "--batch", "2", "--quiet", "--threads", "2"});
  EXPECT_EQ(healed.status, 0) << healed.err;
  EXPECT_EQ(call({"generate", place_ / "healed", "--prompt", "Line", "--tokens", "3"}).status, 0);
}

/// Which form is the faster one is the machine's business; that it was asked and what follows is ours.
TEST_F(CompressCommand, StoresTheExecutionPlanWithItsTimes) {
  call_json(compress_call("nested", {"--levels", "2,3"}));
  std::map<std::string, std::vector<int>> merged;
  size_t asked = 0;
  std::istringstream lines(read_file(place_ / "nested/decisions.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto decision = nlohmann::json::parse(line);
    if (decision.at("decision") != "execution") continue;
    ++asked;
    for (const auto& time : decision.at("factors"))
      EXPECT_GT(std::stoll(time.at("median_ns").get<std::string>()), 0);
    if (decision.at("chosen") == "merged")
      merged[decision.at("map")].push_back(std::stoi(decision.at("level").get<std::string>()));
  }
  const auto config = nlohmann::json::parse(read_file(place_ / "nested/config.json"));
  EXPECT_EQ(asked, 2 * config.at("qtf").at("shapes").size());
  EXPECT_EQ(config.at("qtf").value("plan", decltype(merged){}), merged);
  const auto info = call_json({"info", place_ / "nested"});
  for (const auto& map : info["layers"]) {
    const auto found = merged.find(map["name"].get<std::string>());
    const std::string runs = map["runs_as"].get<std::string>();
    if (found == merged.end())
      EXPECT_TRUE(runs == "factors" || runs == "matrix") << map;
    else
      EXPECT_NE(runs.find("merged"), std::string::npos) << map;
  }
}

TEST_F(CompressCommand, StoredMomentsServeAnotherSizeWithoutTheText) {
  call_json(compress_call("half", {"--ratio", "2"}));
  const auto third = call_json({"compress", model_, "--out", place_ / "third", "--calibrate", place_ / "half",
                                "--max-params", "20k", "--quiet"});
  EXPECT_LE(third["parameters"].get<int64_t>(), 20000);
  EXPECT_TRUE(third["texts"].empty());
}

TEST_F(CompressCommand, RanksMayBeAllocatedAgainByMeasuredLosses) {
  const auto report = call_json(compress_call("again", {"--ratio", "2", "--allocations", "2"}));
  EXPECT_LE(report["parameters"].get<int64_t>(), report["dense_parameters"].get<int64_t>() / 2);
  call_json(compress_call("nested", {"--levels", "2,3", "--allocations", "2"}));
  expect_refused({"--ratio", "2", "--allocations", "9"}, "--allocations");
}

TEST_F(CompressCommand, NestedSizesAreLevelsOfOneModel) {
  call_json(compress_call("nested", {"--levels", "1.5,2,3"}));
  for (const char* level : {"1", "2", "3"})
    EXPECT_EQ(call({"eval", place_ / "nested", "--text", place_.book(), "--level", level}).status, 0);
}

TEST_F(CompressCommand, TheReportSaysWhatWasLostWhere) {
  const auto report = call_json(compress_call("half", {"--levels", "2,3", "--test", place_.book()}));
  EXPECT_EQ(nlohmann::json::parse(read_file(place_ / "half/report.json")), report);
  std::vector<std::string> rows;
  for (const auto& text : report["texts"]) {
    rows.push_back(text["model"].get<std::string>() + " / " + text["text"].get<std::string>());
    EXPECT_GT(text["perplexity"].get<double>(), 1);
    EXPECT_GT(text["tokens_per_second"].get<double>(), 0);
  }
  EXPECT_EQ(rows,
            (std::vector<std::string>{"before / calibration", "before / test", "compressed / calibration",
                                      "compressed, level 1 of 2 / calibration", "compressed / test",
                                      "compressed, level 1 of 2 / test"}));
  EXPECT_LE(report["texts"][3]["parameters"].get<int64_t>(), report["dense_parameters"].get<int64_t>() / 3);
  for (const auto& map : report["maps"]) EXPECT_LE(map["parameters"], map["dense_parameters"]) << map;
  const std::string page = read_file(place_ / "half/report.html");
  EXPECT_NE(page.find("layer 1 up_proj"), std::string::npos);
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("http"), page.find("http-equiv"));
}

/// The compressed model of a hardly trained one has much to learn from the text.
TEST_F(CompressCommand, HealsWithTheOriginalAsTeacher) {
  const auto report = call_json(compress_call(
      "healed", {"--ratio", "3", "--heal", place_.book(), "--heal-minutes", "0.03", "--heal-rate", "0.003"}));
  ASSERT_EQ(report["texts"].size(), 3u);
  EXPECT_EQ(report["texts"][2]["model"], "healed");
  EXPECT_LT(report["texts"][2]["perplexity"], report["texts"][1]["perplexity"]);
  EXPECT_LE(report["texts"][2]["parameters"].get<int64_t>(), report["dense_parameters"].get<int64_t>() / 3);
  EXPECT_TRUE(std::filesystem::exists(place_ / "healed/metrics.jsonl"));
  EXPECT_FALSE(std::filesystem::exists(place_ / "healed/healing"));
  EXPECT_EQ(call_json({"info", place_ / "healed"})["parameters"], report["parameters"]);
}

/// One letter over and over: every moment has rank one, and is shrunk to one that has an inverse.
TEST_F(CompressCommand, ATextThatLeavesMomentsSingularServes) {
  const std::string letters = place_.write("letters.txt", std::string(2000, 'a'));
  for (const char* method : {"chain", "whitened-svd", "btt"}) {
    const std::string out = place_ / method;
    const auto report = call_json({"compress", model_, "--out", out, "--calibrate", letters, "--method",
                                   method, "--ratio", "1.5", "--quiet", "--threads", "2"});
    EXPECT_TRUE(std::isfinite(report["texts"][1]["kl_divergence"].get<double>())) << method;
    const auto eval = call_json({"eval", out, "--text", place_.book()});
    EXPECT_TRUE(std::isfinite(eval["perplexity"].get<double>())) << method;
  }
}

TEST_F(CompressCommand, RefusesTextsThatAreTooShort) {
  const std::string words = place_.write("words.txt", "Too short.");
  const Result calibrated =
      call({"compress", model_, "--out", place_ / "refused", "--calibrate", words, "--ratio", "2"});
  EXPECT_EQ(calibrated.status, 2);
  EXPECT_NE(calibrated.err.find("at least 88 are needed"), std::string::npos) << calibrated.err;
  expect_refused({"--ratio", "2", "--heal", words, "--heal-minutes", "1"}, "tokens");
}

/// Stopped while it heals, block by block and whole: the status says so, and nothing is left.
TEST_F(CompressCommand, InterruptedItLeavesNothing) {
  const auto healing = [&](const char* blocks) {
    return compress_call(
        "stopped", {"--ratio", "2", "--heal", place_.book(), "--heal-minutes", "5", "--heal-blocks", blocks});
  };
  const auto before = place_.snapshot();
  const std::string temporary = place_ / "stopped.tmp";
  EXPECT_EQ(signalled_run(healing("0"), temporary + "/healing", SIGINT), 130);
  EXPECT_EQ(place_.snapshot(), before);
  EXPECT_EQ(signalled_call(healing("0.9"), SIGTERM, [&] { return std::filesystem::exists(temporary); }), 143);
  EXPECT_EQ(place_.snapshot(), before);
}

/// Killed, it cannot tidy up; the next call does, and the folder is whole or not there.
TEST_F(CompressCommand, WhatAKilledOneLeftIsReplaced) {
  const std::vector<std::string> more = {"--ratio", "2"};
  auto healing = more;
  healing.insert(healing.end(), {"--heal", place_.book(), "--heal-minutes", "5"});
  const std::string temporary = place_ / "killed.tmp";
  EXPECT_EQ(signalled_run(compress_call("killed", healing), temporary + "/healing", SIGKILL), -SIGKILL);
  EXPECT_FALSE(std::filesystem::exists(place_ / "killed"));
  EXPECT_TRUE(std::filesystem::exists(temporary));
  call_json(compress_call("killed", more));
  EXPECT_FALSE(std::filesystem::exists(temporary));
  EXPECT_EQ(call({"info", place_ / "killed"}).status, 0);
}

TEST_F(CompressCommand, RefusesWhatCannotBeAndLeavesNothing) {
  expect_refused({}, "give --ratio R, --max-params N or --levels");
  expect_refused({"--ratio", "2", "--max-params", "1k"}, "contradict each other");
  expect_refused({"--ratio", "400"}, "the smallest count is");
  expect_refused({"--levels", "2,x"}, "expected ratios");
  expect_refused({"--levels", "2,2"}, "different ratios");
  expect_refused({"--levels", "2,3", "--method", "btt"}, "no nested levels");
  expect_refused({"--ratio", "2", "--calibrate-tokens", "20"}, "the calibration text gives");
  expect_refused({"--ratio", "2", "--heal", place_.book()}, "belong together");
  expect_refused({"--ratio", "2", "--method", "whitened"}, "whitened-svd");
  expect_refused({"--ratio", "2", "--heal", place_.book(), "--heal-minutes", "1", "--heal-blocks", "0.95"},
                 "--heal-blocks");
  const Result exists =
      call({"compress", model_, "--out", model_, "--calibrate", place_.book(), "--ratio", "2"});
  EXPECT_EQ(exists.status, 2);
  EXPECT_NE(exists.err.find("exists already"), std::string::npos);
}

}  // namespace
}  // namespace qtf::cli
