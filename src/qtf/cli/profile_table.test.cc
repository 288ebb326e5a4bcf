#include "qtf/cli/profile_table.h"

#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

using nlohmann::json;

TEST(ProfileTable, TellsTimesSharesAndArithmetic) {
  ProfileReport report{.wall_seconds = 2, .threads = 2, .rows = {}};
  report.rows = {{"feed-forward", 0, 3, 3, 6e9},
                 {"feed-forward/dense, forward", 1, 3, 2, 6e9},
                 {"trifle", 0, 1, 0.0001, 0},
                 {"waiting", 0, 0, 0.5, 0}};
  EXPECT_EQ(profile_table(report, 8e9),
            "Where the time went: 2.00 s on 2 threads of 4 GFLOP/s\n"
            "  part                                       time    share  GFLOP/s  of peak\n"
            "  feed-forward                            3.000 s   75.0 %      2.0     50 %\n"
            "    dense, forward                        2.000 s   50.0 %      3.0     75 %\n"
            "  waiting                                 0.500 s   12.5 %\n");
}

class ProfileFlag : public testing::Test {
 protected:
  const Workplace place_;
};

std::string file_of(const std::string& folder, const char* name) {
  return read_file(std::filesystem::path(folder) / name);
}

TEST_F(ProfileFlag, TrainTellsAndRecordsWhereTheTimeWent) {
  const Result result = call(place_.train_call("told", {"--profile", "--shape", "ffn=chain:rank=8"}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("Where the time went"), std::string::npos) << result.out;

  json profile;
  std::istringstream lines(file_of(place_ / "told", "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    if (json event = json::parse(line); event.at("event") == "profile") profile = std::move(event);
  ASSERT_FALSE(profile.is_null());
  EXPECT_EQ(profile.at("steps"), 4);
  EXPECT_EQ(profile.at("threads"), 2);
  double sum = 0;
  std::map<std::string, json> parts;
  for (const json& part : profile.at("parts")) {
    const std::string path = part.at("part");
    parts[path] = part;
    if (path.find('/') == std::string::npos) sum += part.at("seconds").get<double>();
  }
  EXPECT_NEAR(sum, 2 * profile.at("seconds").get<double>(), 1e-3) << "all of the two threads' time";
  EXPECT_EQ(parts.at("preparing weights").at("calls"), 4);
  EXPECT_EQ(parts.at("optimizer").at("calls"), 4);
  // 4 steps of 64 tokens through 3 layers' three maps, 8·(32 + 88) multiply-adds each.
  EXPECT_EQ(parts.at("feed-forward/chain, forward").at("flops"), 2.0 * 4 * 64 * 3 * 3 * 8 * (32 + 88));
  for (const char* path : {"attention", "attention projections/dense, forward", "head/softmax and loss",
                           "feed-forward/chain, weight gradient", "validation/head", "waiting", "other"})
    EXPECT_TRUE(parts.contains(path)) << path;
}

TEST_F(ProfileFlag, ChangesNothingElse) {
  const std::vector<std::string> more = {"--shape", "ffn=chain:rank=8"};
  const std::string plain = place_.train("plain", more);
  const Result told = call(place_.train_call("told", {"--shape", "ffn=chain:rank=8", "--profile"}));
  ASSERT_EQ(told.status, 0) << told.err;
  EXPECT_TRUE(file_of(plain, "model.safetensors") == file_of(place_ / "told", "model.safetensors"));
  EXPECT_EQ(file_of(plain, "metrics.jsonl").find("\"profile\""), std::string::npos);

  const std::vector<std::vector<std::string>> calls = {
      {"eval", plain, "--text", place_.book()},
      {"generate", plain, "--prompt", "Line", "--tokens", "8", "--temperature", "0"}};
  for (std::vector<std::string> args : calls) {
    const Result without = call(args);
    args.push_back("--profile");
    const Result with = call(args);
    ASSERT_EQ(with.status, 0) << with.err;
    EXPECT_EQ(with.out.substr(0, 40), without.out.substr(0, 40));
    EXPECT_NE(with.err.find("Where the time went"), std::string::npos) << with.err;
    EXPECT_EQ(without.err.find("Where the time went"), std::string::npos);
  }
}

}  // namespace
}  // namespace qtf::cli
