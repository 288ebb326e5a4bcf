// `--audit` of eval and generate, and replay from model and text.
#include "qtf/cli/run_records.h"

#include "qtf/audit/audit_test.h"
#include "qtf/cli/cli_test.h"
#include "qtf/cli/recorded_run.h"

namespace qtf::cli {
namespace {

class RunRecords : public testing::Test {
 protected:
  RunRecords() {
    model_ = place_.train("m", {"--steps", "6", "--quantum", "qubits=2,layers=1,fraction=0.25", "--shape",
                                "ffn=chain:rank=8", "--levels", "3"});
  }
  std::vector<nlohmann::json> records(const std::string& file, const std::string& kind) const {
    std::istringstream lines(call({"audit", "show", file, "--kind", kind, "--json"}).out);
    std::vector<nlohmann::json> all;
    for (std::string line; std::getline(lines, line);) all.push_back(nlohmann::json::parse(line));
    return all;
  }
  Workplace place_;
  std::string model_;
};

TEST_F(RunRecords, EvaluationsReplayFromModelAndText) {
  for (const char* level : {"summary", "full"}) {
    const std::string file = place_ / level;
    const std::vector<std::string> eval = {"eval",      model_, "--text",        place_.book(),
                                           "--audit",   file,   "--audit-level", level,
                                           "--context", "24",   "--rank-policy", "entropy"};
    const auto measured = call_json(eval);
    EXPECT_EQ(measured.at("audit"), file);
    EXPECT_EQ(call({"audit", "verify", file}).status, 0);
    const auto tokens = records(file, "tokens");
    ASSERT_GT(tokens.size(), 10U);
    for (const auto& record : tokens) EXPECT_EQ(record.contains("payload"), std::string(level) == "full");
    EXPECT_EQ(records(file, "run.start").size(), 1U);
    EXPECT_EQ(records(file, "run.end").at(0).at("data").at("nats_per_token_bits").get<std::string>().size(),
              16U);
    const auto again = call_json({"audit", "replay", file, "--model", model_, "--text", place_.book()});
    EXPECT_EQ(again.at("records"), tokens.size());
    EXPECT_TRUE(again.at("differences").empty()) << again;
    const std::string other = place_.write("other.txt", std::string(2000, 'q') + " and other words.");
    const Result differs = call({"audit", "replay", file, "--model", model_, "--text", other});
    EXPECT_EQ(differs.status, 1) << differs.err;
    EXPECT_NE(differs.out.find("is it the same text?"), std::string::npos) << differs.out;
  }
}

TEST_F(RunRecords, GenerationsReplayFromModelAndPrompt) {
  const std::string file = place_ / "run", prompt = place_.write("prompt.txt", "Line 3");
  const std::vector<std::string> generate = {"generate", model_,   "--prompt", "Line 3",  "--tokens",
                                             "50",       "--seed", "5",        "--audit", file};
  const Result text = call(generate);
  EXPECT_EQ(text.status, 0) << text.err;
  EXPECT_EQ(call({"generate", model_, "--prompt", "Line 3", "--tokens", "50", "--seed", "5"}).out, text.out)
      << "recording changes nothing";
  const auto again = call_json({"audit", "replay", file, "--model", model_, "--text", prompt});
  EXPECT_TRUE(again.at("differences").empty()) << again;
  EXPECT_GE(again.at("records").get<int64_t>(), 2) << "the context was forgotten once";
  const std::string stored = read_file(file);
  EXPECT_EQ(stored.find("Line 3"), std::string::npos) << "no text without --record-text";
  EXPECT_FALSE(std::filesystem::is_empty(file + ".keys"));
  const std::string readable = place_ / "readable";
  call({"generate", model_, "--prompt", "Line 3", "--audit", readable, "--record-text"});
  EXPECT_EQ(records(readable, "run.start").at(0).at("data").at("text"), "Line 3");
}

TEST_F(RunRecords, WhatDoesNotFitIsRefused) {
  const auto refuse = [&](const std::vector<std::string>& args, const std::string& part) {
    const Result result = call(args);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
  };
  const std::string file = place_ / "run";
  refuse({"eval", model_, "--text", place_.book(), "--audit-level", "full"}, "needs --audit");
  refuse({"generate", model_, "--record-text"}, "needs --audit");
  refuse({"eval", model_, "--text", place_.book(), "--audit", place_.book()}, "no audit file");
  audit::write_sample(place_ / "empty", 1);
  refuse({"audit", "replay", place_ / "empty", "--model", model_, "--text", place_.book()},
         "no recorded evaluation");
  refuse({"audit", "replay", place_ / "empty", "--model", model_}, "belong together");
  ASSERT_EQ(call({"eval", model_, "--text", place_.book(), "--audit", file}).status, 0);
  const std::string other = place_.train("other", {"--seed", "9"});
  refuse({"audit", "replay", file, "--model", other, "--text", place_.book()}, "is not the model of the run");
}

TEST(TokenColumns, ArePackedAsTheFormatSays) {
  const TokenColumns columns{0, 0, 2, 2, {1, 2, 3, 0}, {1, 2}, {1.F, 0.F, 0.5F, 0.F}, {0.5F, -1.F}};
  EXPECT_EQ(packed_decisions(columns), std::string("\1\2\3\0\1\2", 6));
  const std::string packed = packed_columns(columns);
  EXPECT_EQ(packed.size(), 4U * 6 + 6);
  EXPECT_EQ(packed.substr(0, 4), std::string("\0\0\x80\x3f", 4));
  const nlohmann::json data = {{"sequence", "0"}, {"position", "0"}, {"layers", "2"}, {"tokens", "2"}};
  const TokenColumns read = columns_of(data, packed);
  EXPECT_EQ(read.levels, columns.levels);
  EXPECT_EQ(read.routed, columns.routed);
  EXPECT_EQ(read.entropies, columns.entropies);
  EXPECT_EQ(read.scores, columns.scores);
  EXPECT_TRUE(columns_of(data, packed_decisions(columns)).entropies.empty()) << "of a generation";
  EXPECT_THROW(columns_of(data, packed.substr(1)), InputError);
  EXPECT_THROW(columns_of(data, ""), InputError);
}

}  // namespace
}  // namespace qtf::cli
