#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

class BudgetCommand : public testing::Test {
 protected:
  std::vector<std::string> budget_call(const std::string& out, const std::vector<std::string>& more,
                                       const std::string& model = {}) const {
    std::vector<std::string> args = {"budget",   model.empty() ? model_ : model,
                                     "--out",    place_ / out,
                                     "--query",  "prompt=12,tokens=6",
                                     "--watts",  "10",
                                     "--rounds", "1",
                                     "--ranks",  "2",
                                     "--quiet",  "--threads",
                                     "2"};
    if (model.empty()) args.insert(args.end(), {"--calibrate", place_.book()});
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  void expect_refused(const std::vector<std::string>& more, const std::string& text) const {
    const auto before = place_.snapshot();
    const Result result = call(budget_call("refused", more));
    EXPECT_EQ(result.status, 2);
    EXPECT_NE(result.err.find(text), std::string::npos) << result.err;
    EXPECT_EQ(place_.snapshot(), before);
  }

  Workplace place_;
  std::string model_ = place_.train("model");
};

std::vector<std::string> keys_of(const nlohmann::json& report) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : report.items()) keys.push_back(key);
  return keys;
}

TEST_F(BudgetCommand, KeepsParametersAndBytesAndWritesAWholeModel) {
  const auto report = call_json(budget_call("small", {"--max-params", "30k", "--max-bytes", "150kB"}));
  EXPECT_EQ(keys_of(report),
            (std::vector<std::string>{"asked", "binding", "bound_gap", "feasible", "measured", "nearest"}));
  EXPECT_EQ(keys_of(report["measured"]), (std::vector<std::string>{"bytes", "energy_interval", "energy_tier",
                                                                   "joules", "p50_ms", "p95_ms", "params"}));
  EXPECT_TRUE(report["feasible"].get<bool>());
  EXPECT_EQ(report["binding"], "max_params");
  EXPECT_EQ(report["nearest"].size(), 0U);
  EXPECT_EQ(report["asked"]["max_params"], 30000);
  EXPECT_LE(report["measured"]["params"].get<int64_t>(), 30000);
  EXPECT_GT(report["measured"]["params"].get<int64_t>(), 29000);
  EXPECT_LE(report["measured"]["bytes"].get<int64_t>(), 150'000);
  EXPECT_GT(report["measured"]["joules"].get<double>(), 0);
  EXPECT_EQ(report["measured"]["energy_tier"], "modelled");
  EXPECT_LT(report["bound_gap"].get<double>(), 0.05);
  const auto info = call_json({"info", place_ / "small"});
  EXPECT_EQ(info["parameters"], report["measured"]["params"]);
  EXPECT_EQ(report["measured"]["bytes"].get<uintmax_t>(),
            std::filesystem::file_size(place_ / "small/model.safetensors"));
  for (const char* file : {"budget.json", "budget.html", "cost_profile.json", "calibration.safetensors"})
    EXPECT_TRUE(std::filesystem::exists(std::filesystem::path(place_ / "small") / file)) << file;
  EXPECT_EQ(call({"generate", place_ / "small", "--prompt", "Line", "--tokens", "3"}).status, 0);
  const std::string page = read_file(place_ / "small/budget.html");
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_NE(page.find("<svg"), std::string::npos);
}

TEST_F(BudgetCommand, HalfTheBytesANumberKeepTwiceTheNumbers) {
  const auto wide = call_json(budget_call("wide", {"--max-bytes", "80kB"}));
  const auto narrow = call_json(budget_call("narrow", {"--max-bytes", "80kB", "--type", "f16"}));
  for (const auto& report : {wide, narrow}) {
    EXPECT_LE(report["measured"]["bytes"].get<int64_t>(), 80'000);
    EXPECT_GT(report["measured"]["bytes"].get<int64_t>(), 76'000);
  }
  EXPECT_GT(narrow["measured"]["params"].get<double>(), 1.8 * wide["measured"]["params"].get<double>());
}

TEST_F(BudgetCommand, CodesKeepAFileSmallAndAreWhatIsMeasured) {
  double fewer = 0;
  for (const auto& [type, dtype] : {std::pair{"f32", ""}, {"int8", "int8"}, {"int4", "int4"}}) {
    const auto report =
        call_json(budget_call(type, {"--max-bytes", "38kB", "--type", type, "--text", place_.book()}));
    EXPECT_LE(report["measured"]["bytes"].get<int64_t>(), 38'000) << type;
    EXPECT_GT(report["measured"]["bytes"].get<int64_t>(), *dtype ? 30'000 : 36'000) << type;
    const auto info = call_json({"info", place_ / type});
    EXPECT_EQ(info["parameters"], report["measured"]["params"]) << type;
    EXPECT_EQ(read_file(place_ / (std::string(type) + "/config.json")).find(dtype) != std::string::npos,
              true);
    const auto measured = call_json({"eval", place_ / type, "--text", place_.book(), "--json"});
    EXPECT_NEAR(std::log(report["measured"]["perplexity"].get<double>()),
                measured["nats_per_token"].get<double>(), 0.05)
        << type;
    const Result verified = call({"budget", place_ / type, "--verify"});
    EXPECT_EQ(verified.status, 0) << verified.err;
    const auto numbers = report["measured"]["params"].get<double>();
    EXPECT_GT(numbers, 1.2 * fewer) << type;
    fewer = numbers;
  }
}

TEST_F(BudgetCommand, EveryChoiceIsRecorded) {
  call_json(budget_call("small", {"--max-params", "30k"}));
  std::map<std::string, int> kinds;
  std::istringstream lines(read_file(place_ / "small/decisions.jsonl"));
  for (std::string line; std::getline(lines, line);)
    ++kinds[nlohmann::json::parse(line).at("decision").get<std::string>()];
  EXPECT_EQ(kinds["budget_inputs"], 1);
  EXPECT_EQ(kinds["budget"], 1);
  EXPECT_EQ(kinds["budget_measurement"], 2) << "of random weights, and of the model";
}

/// The folder's records say all that was decided, and replay takes it again; of a refused budget too.
TEST_F(BudgetCommand, DecisionsAreRecordedAndReplayed) {
  const std::string audit = place_ / "refused.audit";
  call_json(
      budget_call("small", {"--max-params", "30k", "--max-latency-ms", "100s", "--text", place_.book()}));
  EXPECT_EQ(call({"audit", "verify", place_ / "small"}).status, 0);
  const auto replay = call_json({"audit", "replay", place_ / "small"});
  EXPECT_GE(replay["decisions"].get<int>(), 4);  // the scale, one solution, two measurements
  EXPECT_EQ(replay["same"], replay["decisions"]);
  EXPECT_EQ(replay["unknown"], 0);
  const Result end = call({"audit", "show", place_ / "small", "--kind", "making.end", "--json"});
  for (const char* key : {"p95_ns", "energy_tier", "binding", "asked", "model_hash"})
    EXPECT_NE(end.out.find(key), std::string::npos) << key;
  EXPECT_EQ(call(budget_call("none", {"--max-params", "100", "--audit", audit})).status, 2);
  const auto refused = call_json({"audit", "replay", audit});
  EXPECT_EQ(refused["decisions"], 1);
  EXPECT_EQ(refused["same"], 1);
}

/// A compressed model is cut again without any text: its moments lie beside it.
TEST_F(BudgetCommand, CutsAMadeModelFurtherWithoutTheText) {
  call_json(budget_call("small", {"--max-params", "30k"}));
  const auto smaller = call_json(budget_call("smaller", {"--max-params", "20k"}, place_ / "small"));
  EXPECT_LE(smaller["measured"]["params"].get<int64_t>(), 20000);
  EXPECT_EQ(call({"eval", place_ / "smaller", "--text", place_.book()}).status, 0);
}

TEST_F(BudgetCommand, ShapesThatAreNotCutStayAsTheyAre) {
  const std::string model =
      place_.train("mixed", {"--shape", "ffn=mpo:rank=3", "--shape", "attention=chain:rank=8"});
  const auto before = call_json({"info", model});
  auto args = budget_call("cut",
                          {"--max-params", std::to_string(before["parameters"].get<int64_t>() * 9 / 10),
                           "--calibrate", place_.book()},
                          model);
  call_json(args);
  const auto after = call_json({"info", place_ / "cut"});
  EXPECT_LT(after["parameters"].get<int64_t>(), before["parameters"].get<int64_t>());
  const auto shape = [](const nlohmann::json& info, const std::string& end) {
    for (const auto& layer : info["layers"])
      if (layer["name"].get<std::string>().ends_with(end)) return layer["shape"].get<std::string>();
    return std::string();
  };
  EXPECT_EQ(shape(after, "up_proj"), shape(before, "up_proj"));
  EXPECT_EQ(call({"generate", place_ / "cut", "--prompt", "Line", "--tokens", "3"}).status, 0);
}

/// What a time is, is the machine's business: that a generous one costs nothing and a tiny one is refused
/// with what could be kept, is ours.
TEST_F(BudgetCommand, RefusesWhatCannotBeKeptWithTheNearest) {
  const auto loose =
      call_json(budget_call("loose", {"--max-latency-ms", "100s", "--max-energy-per-query", "9kJ"}));
  EXPECT_TRUE(loose["feasible"].get<bool>());
  const auto before = place_.snapshot();
  const Result result = call(budget_call("none", {"--max-latency-ms", "1us", "--json"}));
  EXPECT_EQ(result.status, 2);
  const auto report = nlohmann::json::parse(result.out);
  EXPECT_FALSE(report["feasible"].get<bool>());
  EXPECT_EQ(report["binding"], "max_latency_ms");
  EXPECT_GT(report["nearest"]["max_latency_ms"].get<double>(), 0.001);
  EXPECT_NE(result.err.find("max_latency_ms binds; it can be with max_latency_ms at least"),
            std::string::npos)
      << result.err;
  expect_refused({"--max-params", "100"}, "max_params binds; it can be with max_params at least");
  expect_refused({"--max-energy-per-query", "1nJ"}, "max_energy_j binds");
  EXPECT_EQ(place_.snapshot(), before);
}

TEST_F(BudgetCommand, ReachesAPerplexityWithFewParameters) {
  const double whole = call_json({"eval", model_, "--text", place_.book()})["perplexity"].get<double>();
  const auto report = call_json(
      budget_call("good", {"--target-perplexity", std::to_string(1.2 * whole), "--text", place_.book()}));
  EXPECT_LE(report["measured"]["perplexity"].get<double>(), 1.2 * whole);
  EXPECT_EQ(report["binding"], "target_perplexity");
  const Result none =
      call(budget_call("none", {"--target-perplexity", "1.01", "--text", place_.book(), "--json"}));
  EXPECT_EQ(none.status, 2);
  EXPECT_GT(nlohmann::json::parse(none.out)["nearest"]["target_perplexity"].get<double>(), 1.01);
}

TEST_F(BudgetCommand, VerifiesAModelInAProcessOfItsOwn) {
  call_json(budget_call("small", {"--max-params", "30k", "--max-latency-ms", "100s"}));
  const std::vector<std::string> verify{"budget", place_ / "small", "--verify",  "--watts",
                                        "10",     "--quiet",        "--threads", "2"};
  const auto report = call_json(verify);
  EXPECT_TRUE(report["holds"].get<bool>());
  EXPECT_GE(report["runs"].get<int>(), 20);
  // A budget that the model never had.
  auto stored = nlohmann::json::parse(read_file(place_ / "small/budget.json"));
  stored["asked"]["max_latency_ms"] = 1e-6;
  place_.write("small/budget.json", stored.dump());
  const Result broken = call(verify);
  EXPECT_EQ(broken.status, 2);
  EXPECT_NE(broken.out.find("does not hold"), std::string::npos);
  stored["machine"] = "abacus";
  place_.write("small/budget.json", stored.dump());
  EXPECT_NE(call(verify).err.find("was kept on abacus"), std::string::npos);
  place_.write("small/budget.json", "{}");
  EXPECT_NE(call(verify).err.find("is damaged"), std::string::npos);
  EXPECT_NE(call({"budget", model_, "--verify"}).err.find("has no budget.json"), std::string::npos);
}

TEST_F(BudgetCommand, SaysWhichOfContradictingBudgetsGivesWay) {
  // Few parameters and a perplexity that only more would reach.
  const Result few = call(budget_call(
      "none", {"--max-params", "12k", "--target-perplexity", "1.01", "--text", place_.book(), "--json"}));
  EXPECT_EQ(few.status, 2);
  EXPECT_GT(nlohmann::json::parse(few.out)["nearest"]["target_perplexity"].get<double>(), 1.01);
  // Bytes that allow some model, and a time that allows none.
  const Result slow = call(budget_call("none", {"--max-bytes", "1MB", "--max-latency-ms", "1us", "--json"}));
  EXPECT_EQ(slow.status, 2);
  const auto report = nlohmann::json::parse(slow.out);
  EXPECT_EQ(report["binding"], "max_latency_ms");
  EXPECT_FALSE(report["nearest"].contains("max_bytes"));
  EXPECT_FALSE(std::filesystem::exists(std::filesystem::path(place_ / "none")));
}

TEST_F(BudgetCommand, TellsCarbonWhereTheGridsIntensityIsStated) {
  const auto report =
      call_json(budget_call("green", {"--max-params", "30k", "--grid-intensity", "400gCO2/kWh"}));
  const auto& measured = report["measured"];
  EXPECT_NEAR(measured["carbon_g"].get<double>(), measured["joules"].get<double>() / 9000, 1e-12);
  EXPECT_NEAR(measured["carbon_interval"][1].get<double>(),
              measured["energy_interval"][1].get<double>() / 9000, 1e-12);
  EXPECT_EQ(measured["grid_intensity"], 400);
  expect_refused({"--max-params", "30k", "--grid-intensity", "0"}, "grams of CO2 a kWh above 0");
  const Result again = call({"budget", place_ / "green", "--verify", "--watts", "10", "--grid-intensity",
                             "400", "--quiet", "--threads", "2"});
  EXPECT_NE(again.out.find(" mg CO2 modelled (within "), std::string::npos) << again.out;
}

TEST_F(BudgetCommand, RefusesBudgetsThatAreNone) {
  expect_refused({}, "give one at least of --max-params");
  for (const char* option : {"--max-params", "--max-bytes", "--max-latency-ms", "--max-energy-per-query"})
    for (const char* bad : {"0", "-1", "nan", "many"})
      expect_refused({option, bad}, "[" + std::string(option) + "]");
  expect_refused({"--max-latency-ms", "50J"}, "'J' measures an energy");
  expect_refused({"--max-energy-per-query", "50ms"}, "'ms' measures a time");
  expect_refused({"--max-params", "2MB"}, "'MB' measures a size");
  expect_refused({"--max-bytes", "2s"}, "'s' measures a time");
  expect_refused({"--target-perplexity", "20"}, "give --text FILE");
  expect_refused({"--target-perplexity", "1", "--text", place_.book()}, "must be above 1");
  auto long_query = budget_call("refused", {"--max-params", "30k"});
  *(std::find(long_query.begin(), long_query.end(), "--query") + 1) = "prompt=30,tokens=30";
  EXPECT_NE(call(long_query).err.find("the model's context is 32"), std::string::npos);
  EXPECT_NE(call(budget_call("refused", {"--max-params", "9k"}, model_)).err.find("--calibrate FILE"),
            std::string::npos);
  EXPECT_NE(call({"budget", model_, "--max-params", "9k"}).err.find("--out is missing"), std::string::npos);
}

}  // namespace
}  // namespace qtf::cli
