#include "qtf/cli/run_metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "qtf/base/error.h"

namespace qtf::cli {
namespace {

constexpr const char* kStart = "{\"event\":\"start\",\"name\":\"small one\",\"parameters\":51000}\n";
constexpr const char* kStep1 =
    "{\"event\":\"step\",\"step\":1,\"seconds\":0.5,\"loss\":8.0,\"learning_rate\":0.001,"
    "\"tokens_per_second\":100,\"grad_norm\":2}\n";
constexpr const char* kStep2 =
    "{\"event\":\"step\",\"step\":2,\"seconds\":1.0,\"loss\":7.0,\"tokens_per_second\":300,\"grad_norm\":"
    "null}\n";
constexpr const char* kValid2 =
    "{\"event\":\"valid\",\"step\":2,\"seconds\":1.5,\"loss\":7.5,\"stderr\":0.1,\"perplexity\":1808.04}\n";
constexpr const char* kBest =
    "{\"event\":\"best\",\"step\":2,\"seconds\":1.75,\"loss\":7.6,\"perplexity\":1998.2}\n";
constexpr const char* kEnd =
    "{\"event\":\"end\",\"name\":\"tiny\",\"ratio\":1.5,\"bytes\":204000,\"sample\":\"a <b>\"}\n";

RunMetrics parse(const std::string& lines) {
  return parse_metrics(lines, "test");
}

TEST(RunMetrics, ReadsEveryEvent) {
  const RunMetrics run =
      parse(std::string(kStart) + kStep1 + kStep2 + kValid2 + "\n{\"event\":\"new kind\"}\n" + kEnd);
  ASSERT_EQ(run.steps.size(), 2u);
  EXPECT_EQ(run.steps[0].loss, 8.0);
  EXPECT_EQ(run.steps[0].learning_rate, 0.001);
  EXPECT_TRUE(std::isnan(run.steps[1].grad_norm));
  EXPECT_EQ(run.valid.at(0).stderr_loss, 0.1);
  EXPECT_EQ(run.name, "small one");
  EXPECT_EQ(run.parameters, 51000);
  EXPECT_EQ(run.ratio, 1.5);
  EXPECT_EQ(run.sample, "a <b>");
  EXPECT_TRUE(run.finished);
}

TEST(RunMetrics, UnfinishedRunKeepsWhatItSaid) {
  const RunMetrics run = parse(std::string(kStart) + kStep1);
  EXPECT_EQ(run.name, "small one");
  EXPECT_EQ(run.parameters, 51000);
  EXPECT_FALSE(run.finished);
  EXPECT_TRUE(std::isnan(run.best().loss));
  EXPECT_TRUE(std::isnan(run.ratio));
}

TEST(RunMetrics, EndKeepsParametersOfTheStart) {
  EXPECT_EQ(parse(std::string(kStart) + kEnd).parameters, 51000);
}

TEST(RunMetrics, CutOffLastLineIsLeftOut) {
  const RunMetrics run = parse(std::string(kStep1) + std::string(kStep2).substr(0, 30));
  EXPECT_EQ(run.steps.size(), 1u);
}

TEST(RunMetrics, ResumedStepsReplaceOlderOnes) {
  const RunMetrics run = parse(std::string(kStep1) + kStep2 + kValid2 + kStep2);
  ASSERT_EQ(run.steps.size(), 2u);
  EXPECT_TRUE(run.valid.empty());
}

TEST(RunMetrics, BestIsTheFinalMeasurementElseTheLowest) {
  const std::string higher = "{\"event\":\"valid\",\"step\":3,\"loss\":7.9}\n";
  EXPECT_EQ(parse(std::string(kValid2) + higher).best().loss, 7.5);
  EXPECT_EQ(parse(std::string(kValid2) + higher + kBest).best().loss, 7.6);
}

TEST(RunMetrics, SpeedIsTheMedianAndTimeTheLast) {
  const RunMetrics run = parse(std::string(kStep1) + kStep2 + kValid2);
  EXPECT_EQ(run.tokens_per_second(), 300);
  EXPECT_EQ(run.seconds(), 1.5);
  EXPECT_TRUE(std::isnan(RunMetrics{}.tokens_per_second()));
}

TEST(RunMetrics, DamagedLinesAreNamed) {
  const struct {
    std::string lines, reason;
  } cases[] = {
      {std::string(kStep1) + "{\"event\":\n", "line 2 is not a JSON object"},
      {"[1]\n", "line 1 is not a JSON object"},
      {"{\"event\":\"step\"}\n", "line 1 lacks a whole number \"step\""},
      {"{\"event\":\"valid\",\"step\":1.5}\n", "line 1 lacks a whole number \"step\""},
  };
  for (const auto& c : cases) {
    try {
      parse(c.lines);
      FAIL() << c.lines;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(c.reason), std::string::npos) << error.what();
    }
  }
}

TEST(RunMetrics, ReadsAFolderAndTakesItsName) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "qtf_run_metrics";
  std::filesystem::remove_all(folder);
  EXPECT_THROW(read_run(folder), InputError);
  std::filesystem::create_directories(folder);
  EXPECT_THROW(read_run(folder), InputError);
  std::ofstream(folder / "metrics.jsonl") << "";
  EXPECT_THROW(read_run(folder), InputError);
  std::ofstream(folder / "metrics.jsonl") << kStep1;
  EXPECT_EQ(read_run(folder).name, "qtf_run_metrics");
  EXPECT_EQ(read_run(folder / "").name, "qtf_run_metrics");
}

}  // namespace
}  // namespace qtf::cli
