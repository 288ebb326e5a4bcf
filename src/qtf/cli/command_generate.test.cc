#include "qtf/cli/cli_test.h"
#include "qtf/text/utf8.h"

namespace qtf::cli {
namespace {

class Generate : public testing::Test {
 protected:
  std::string generate(const std::vector<std::string>& more, const std::string& tokens = "40") const {
    std::vector<std::string> args = {"generate", model_, "--prompt", "Line 1", "--tokens", tokens};
    args.insert(args.end(), more.begin(), more.end());
    const Result result = call(args);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_TRUE(result.out.ends_with("\n"));
    return result.out;
  }

  const Workplace place_;
  const std::string model_ =
      place_.train("model", {"--steps", "150", "--batch", "8", "--learning-rate", "0.01"});
};

TEST_F(Generate, TheSameSeedGivesTheSameText) {
  for (const char* seed : {"1", "2"}) EXPECT_EQ(generate({"--seed", seed}), generate({"--seed", seed}));
  EXPECT_NE(generate({"--seed", "1", "--temperature", "2"}), generate({"--seed", "2", "--temperature", "2"}));
  const std::string greedy = generate({"--temperature", "0"});
  EXPECT_EQ(greedy, generate({"--temperature", "0", "--seed", "9"})) << "greedy draws nothing";
  EXPECT_EQ(greedy, generate({"--top-k", "1", "--seed", "9"}));
  EXPECT_EQ(greedy, generate({"--min-p", "1", "--seed", "9"}));
  for (const char* threads : {"1", "3"})
    EXPECT_EQ(greedy, generate({"--temperature", "0", "--threads", threads}));
}

TEST_F(Generate, CachesOfCodesWriteOneTextForAnyThreads) {
  for (const char* dtype : {"f16", "int8", "int4"}) {
    const std::string text = generate({"--temperature", "0", "--cache-dtype", dtype}, "100");
    for (const char* threads : {"1", "3"})
      EXPECT_EQ(text, generate({"--temperature", "0", "--cache-dtype", dtype, "--threads", threads}, "100"));
  }
  EXPECT_EQ(generate({"--cache-dtype", "f32"}), generate({}));
}

TEST_F(Generate, IsAlwaysValidUtf8AndGoesOnBeyondTheContext) {
  for (const char* seed : {"1", "2", "3", "4"}) {
    const std::string text = generate({"--seed", seed, "--temperature", "5"}, "100");
    EXPECT_EQ(text::find_invalid_utf8(text), std::string::npos);
  }
  EXPECT_EQ(generate({"--temperature", "0"}, "100").substr(0, 20),
            generate({"--temperature", "0"}).substr(0, 20));
}

TEST_F(Generate, StopsBeforeAStopText) {
  const std::string text = generate({"--temperature", "0"});
  ASSERT_GT(text.size(), 10U);
  const std::string stop = text.substr(6, 3);
  const std::string stopped = generate({"--temperature", "0", "--stop", "no such text", "--stop", stop});
  EXPECT_EQ(stopped, text.substr(0, text.find(stop)) + "\n");
}

TEST_F(Generate, StatsGoToStandardError) {
  const Result result =
      call({"generate", model_, "--prompt", "A", "--tokens", "3", "--temperature", "0", "--stats"});
  EXPECT_EQ(result.err.substr(0, 16), "prompt 1 tokens ");
  EXPECT_EQ(result.out,
            call({"generate", model_, "--prompt", "A", "--tokens", "3", "--temperature", "0"}).out);
}

TEST_F(Generate, RanksFollowAPolicy) {
  const std::string nested =
      place_.train("nested", {"--shape", "ffn=chain:rank=8", "--levels", "4", "--steps", "30"});
  const auto run = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"generate", nested, "--prompt", "Line 1", "--tokens", "60", "--stats"};
    args.insert(args.end(), more.begin(), more.end());
    const Result result = call(args);
    EXPECT_EQ(result.status, 0) << result.err;
    return result;
  };
  const Result entropy = run({"--rank-policy", "entropy", "--mean-rank", "0.3"});
  EXPECT_NE(entropy.err.find("ranks: entropy, mean rank 0."), std::string::npos) << entropy.err;
  EXPECT_NE(entropy.err.find("(asked 0.300)"), std::string::npos) << entropy.err;
  for (const char* threads : {"1", "3"})
    EXPECT_EQ(run({"--rank-policy", "entropy", "--mean-rank", "0.3", "--threads", threads}).out, entropy.out);
  EXPECT_EQ(run({"--rank-policy", "fixed:4"}).out, run({}).out);
  EXPECT_NE(run({"--rank-policy", "fixed:1", "--temperature", "2"}).out, run({"--temperature", "2"}).out);
  EXPECT_EQ(run({}).err.find("ranks"), std::string::npos);
}

TEST_F(Generate, ATimeATokenLowersTheMeanRank) {
  const std::string nested =
      place_.train("timed", {"--shape", "ffn=chain:rank=8", "--levels", "4", "--steps", "30"});
  const std::string record = place_ / "latency.jsonl";
  const auto run = [&](const char* ms) {
    const Result result = call({"generate", nested, "--prompt", "Line 1", "--tokens", "80", "--stats",
                                "--max-latency-ms", ms, "--decisions", record});
    EXPECT_EQ(result.status, 0) << result.err;
    return result.err;
  };
  // Nothing takes a nanosecond: down to the smallest, and said so.
  const std::string slow = run("1e-6");
  EXPECT_NE(slow.find("The smallest ranks take longer than 1e-06 ms a token"), std::string::npos) << slow;
  EXPECT_NE(slow.find("changes of the mean rank"), std::string::npos) << slow;
  std::istringstream lines(read_file(record));
  int64_t mean = 500000000, count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto decision = nlohmann::json::parse(line);
    EXPECT_EQ(decision.at("decision"), "mean_rank");
    EXPECT_EQ(decision.at("mean_before"), std::to_string(mean));
    EXPECT_EQ(decision.at("budget_ns"), "1");
    mean = std::stoll(decision.at("mean").get<std::string>());
  }
  EXPECT_EQ(mean, 1000000);
  EXPECT_GE(count, 8) << "every eighth token of 79";
  // The records have the same decisions, to be taken again.
  const std::string audit = place_ / "timed.audit";
  call({"generate", nested, "--prompt", "Line 1", "--tokens", "80", "--max-latency-ms", "1e-6", "--audit",
        audit});
  const auto replay = call_json({"audit", "replay", audit});
  EXPECT_EQ(replay.at("decisions"), count);
  EXPECT_EQ(replay.at("same"), count);
  // A second is always enough: nothing changes, and the text is the policy's.
  const Result free = call({"generate", nested, "--prompt", "Line 1", "--tokens", "80", "--max-latency-ms",
                            "1000", "--decisions", record});
  EXPECT_EQ(read_file(record), "");
  EXPECT_EQ(free.out,
            call({"generate", nested, "--prompt", "Line 1", "--tokens", "80", "--rank-policy", "gate"}).out);
}

TEST_F(Generate, AnEnergyOfTheQueryLowersTheMeanRank) {
  const std::string nested =
      place_.train("joules", {"--shape", "ffn=chain:rank=8", "--levels", "4", "--steps", "30"});
  const std::string record = place_ / "energy.jsonl";
  const auto run = [&](const char* joules, std::vector<std::string> more) {
    std::vector<std::string> args = {"generate", nested,        "--prompt",
                                     "Line 1",   "--tokens",    "80",
                                     "--watts",  "10",          "--max-energy-per-query",
                                     joules,     "--decisions", record};
    args.insert(args.end(), more.begin(), more.end());
    const Result result = call(args);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.err;
  };
  const std::string poor = run("1uJ", {"--stats", "--grid-intensity", "400gCO2/kWh"});
  EXPECT_NE(poor.find("The query took more than 1e-06 J"), std::string::npos) << poor;
  EXPECT_NE(poor.find(" J modelled (within "), std::string::npos) << poor;
  EXPECT_NE(poor.find(" mg CO2 modelled (within "), std::string::npos) << poor;
  EXPECT_NE(poor.find("at 400 g/kWh"), std::string::npos) << poor;
  std::istringstream lines(read_file(record));
  int64_t count = 0, mean = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto decision = nlohmann::json::parse(line);
    EXPECT_GT(std::stoll(decision.at("measured_nj").get<std::string>()), 0);
    EXPECT_EQ(decision.at("budget_nj"), "1") << "nothing is left";
    mean = std::stoll(decision.at("mean").get<std::string>());
  }
  EXPECT_GE(count, 5);
  EXPECT_EQ(mean, 1000000);
  EXPECT_EQ(run("9kJ", {}), "") << "enough: nothing to say";
  EXPECT_EQ(read_file(record), "");
}

TEST_F(Generate, TheModelIsItsTokenizerToo) {
  EXPECT_EQ(call({"tokenize", model_, "--text", "Hi"}).out, "72 105\n");
  EXPECT_EQ(call({"tokenize", model_, "--text", "72 105", "--decode"}).out, "Hi\n");
  const std::string learned = place_.train("learned", {"--tokenizer", "bpe", "--vocabulary", "280"});
  const std::string ids = call({"tokenize", learned, "--text", "a train of tensors"}).out;
  EXPECT_LT(std::count(ids.begin(), ids.end(), ' '), 17);
  EXPECT_EQ(call({"tokenize", learned, "--text", ids, "--decode"}).out, "a train of tensors\n");
}

}  // namespace
}  // namespace qtf::cli
