#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

class ProfileCommand : public testing::Test {
 protected:
  std::vector<std::string> profile_call(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> args = {"profile", model_,      "--quiet", "--rounds", "2", "--ranks",
                                     "3",       "--threads", "2",       "--watts",  "10"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  void expect_refused(const std::vector<std::string>& args, const std::string& text) const {
    const Result result = call(args);
    EXPECT_EQ(result.status, 2) << result.out;
    EXPECT_NE(result.err.find(text), std::string::npos) << result.err;
  }

  Workplace place_;
  std::string model_ = place_.train("model");
};

TEST_F(ProfileCommand, MeasuresOnceAndKeepsItInTheCache) {
  const auto before = place_.snapshot();
  const auto first = call_json(profile_call());
  EXPECT_TRUE(first["measured_now"].get<bool>());
  EXPECT_EQ(first["energy"]["tier"], "modelled");
  EXPECT_EQ(first["machine"]["threads"], 2);
  EXPECT_GT(first["maps"][0]["shapes"][0]["costs"][0]["median_ns"].get<int64_t>(), 0);
  const auto second = call_json(profile_call());
  EXPECT_FALSE(second["measured_now"].get<bool>());
  EXPECT_EQ(second["maps"], first["maps"]);
  EXPECT_EQ(place_.snapshot(), before);  // the model's folder is left alone
  const Result shown = call(profile_call());
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_NE(shown.out.find("Joules are modelled, -20 to +20 %"), std::string::npos) << shown.out;
  EXPECT_EQ(shown.out.find("CO2"), std::string::npos) << "no intensity is assumed";
  const Result green = call(profile_call({"--grid-intensity", "250g/kWh"}));
  EXPECT_NE(green.out.find(" mg CO2 modelled (within "), std::string::npos) << green.out;
  EXPECT_NE(green.out.find("at 250 g/kWh"), std::string::npos) << green.out;
  expect_refused(profile_call({"--grid-intensity", "250J"}), "grams of CO2 a kWh above 0");
  // Other watts are other joules.
  auto other = profile_call();
  other.back() = "20";
  EXPECT_TRUE(call_json(other)["measured_now"].get<bool>());
}

TEST_F(ProfileCommand, RefusesAnothersProfileAndDamagedOnes) {
  const std::string file = place_ / "p.json";
  call_json(profile_call({"--profile", file}));
  const std::string text = read_file(file);
  const std::string other = place_.train("other", {"--seed", "7"});
  expect_refused({"profile", other, "--quiet", "--threads", "2", "--watts", "10", "--profile", file},
                 "is of another model");
  expect_refused({"profile", model_, "--quiet", "--threads", "1", "--watts", "10", "--profile", file},
                 "measured with --threads 2");
  expect_refused({"profile", model_, "--quiet", "--threads", "2", "--watts", "11", "--profile", file},
                 "measure again with --fresh");
  auto report = nlohmann::json::parse(text);
  report["machine"]["processor"] = "abacus";
  place_.write("p.json", report.dump());
  expect_refused(profile_call({"--profile", file}), "another machine (abacus");
  place_.write("p.json", text.substr(0, text.size() / 2));
  expect_refused(profile_call({"--profile", file}), "is no profile");
  EXPECT_EQ(call(profile_call({"--profile", file, "--fresh"})).status, 0);
}

TEST_F(ProfileCommand, RefusesWattsThatAreNone) {
  for (const char* bad : {"0", "-5", "nan", "12J", "18..12"}) {
    auto args = profile_call();
    args.back() = bad;
    expect_refused(args, "[--watts] expected watts above 0");
  }
  expect_refused(profile_call({"--energy", "rapl"}), "--watts is for the model");
  expect_refused({"profile", place_ / "none"}, "none");
}

}  // namespace
}  // namespace qtf::cli
