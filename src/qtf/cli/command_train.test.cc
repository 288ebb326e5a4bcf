#include <csignal>

#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::vector<json> metrics_of(const std::string& folder) {
  std::vector<json> lines;
  std::istringstream text(read_file(fs::path(folder) / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) {
    json parsed = json::parse(line);
    for (const char* clock : {"seconds", "tokens_per_second", "peak_share", "fma_peak", "name"})
      parsed.erase(clock);
    lines.push_back(std::move(parsed));
  }
  return lines;
}

std::string weights_of(const std::string& folder) {
  return read_file(fs::path(folder) / "model.safetensors");
}

class Train : public testing::Test {
 protected:
  const Workplace place_;
};

TEST_F(Train, LeavesAWholeModelFolderAndSaysWhatItDid) {
  const Result result = call(place_.train_call("new/model"));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  for (const char* said : {"parameters", "tokens to learn", "nats/token", "bits/byte", "The model is in"})
    EXPECT_NE(result.out.find(said), std::string::npos) << result.out;
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(place_ / "new/model"))
    files.push_back(entry.path().filename());
  std::sort(files.begin(), files.end());
  EXPECT_EQ(files,
            (std::vector<std::string>{".lock", "README.md", "audit.sqlite", "config.json", "metrics.jsonl",
                                      "model.safetensors", "tokenizer_config.json", "train.json"}));
  const json end = metrics_of(place_ / "new/model").back();
  EXPECT_EQ(end.at("event"), "end");
  EXPECT_EQ(end.at("step"), 4);
  EXPECT_TRUE(end.at("sample").get<std::string>().starts_with("The"));
}

TEST_F(Train, PrintsWhatItCameToAsJson) {
  const json end = call_json(place_.train_call("model"));
  std::istringstream lines(read_file(fs::path(place_ / "model") / "metrics.jsonl"));
  std::string last;
  for (std::string line; std::getline(lines, line);) last = line;
  EXPECT_EQ(end, json::parse(last));
}

TEST_F(Train, GivesSignalsBackToWhoeverHadThem) {
  const auto before = std::signal(SIGINT, SIG_IGN);
  place_.train("model");
  EXPECT_EQ(std::signal(SIGINT, before), SIG_IGN);
}

TEST_F(Train, IsDeterministic) {
  const std::string one = place_.train("one"), two = place_.train("two");
  EXPECT_TRUE(weights_of(one) == weights_of(two));
  EXPECT_EQ(metrics_of(one), metrics_of(two));
  EXPECT_FALSE(weights_of(one) == weights_of(place_.train("three", {"--seed", "2"})));
}

TEST_F(Train, TakesEveryLength) {
  place_.train("epochs", {"--epochs", "0.1"});
  place_.train("minutes", {"--minutes", "0.005"});
  EXPECT_GT(metrics_of(place_ / "epochs").size(), 3U);
  EXPECT_GT(metrics_of(place_ / "minutes").size(), 3U);
}

TEST_F(Train, ValidatesOnItsOwnTextOrTheLastTwentieth) {
  const std::string valid = place_.write("valid.txt", small_book().substr(0, 500));
  const json own = metrics_of(place_.train("own", {"--valid", valid}))[0];
  const json held_out = metrics_of(place_.train("held_out"))[0];
  const auto size = static_cast<int64_t>(small_book().size());
  EXPECT_EQ(own.at("valid_tokens"), 500);
  EXPECT_EQ(own.at("train_tokens"), size);
  EXPECT_EQ(held_out.at("train_tokens"), size * 19 / 20);
  EXPECT_EQ(held_out.at("valid_tokens"), size - size * 19 / 20);
}

TEST_F(Train, ShapesAndRatioMakeItSmaller) {
  const struct {
    std::string name;
    std::vector<std::string> flags;
    double least_ratio;
  } cases[] = {
      {"ratio", {"--ratio", "2"}, 2},
      {"mpo", {"--ratio", "3", "--ratio-shape", "mpo"}, 3},
      {"rich", {"--ratio", "2", "--richness", "embedding=1.5,attention=1.2"}, 2},
      {"btt", {"--ratio", "1.5", "--ratio-shape", "btt"}, 1.5},
      {"shape",
       {"--shape", "ffn=chain:rank=8", "--shape", "attention=dense", "--shape", "embedding=btt:rank=1"},
       2},
      {"gpt2", {"--family", "gpt2", "--ratio", "2"}, 2},
      {"untied", {"--untied", "--shape", "head=chain:rank=4"}, 1.05},
  };
  for (const auto& c : cases) {
    const json info = call_json({"info", place_.train(c.name, c.flags)});
    EXPECT_GE(info.at("ratio").get<double>(), c.least_ratio) << c.name;
    EXPECT_LT(info.at("ratio").get<double>(), c.least_ratio * 1.6) << c.name;
    EXPECT_EQ(call({"generate", place_ / c.name, "--prompt", "A", "--tokens", "4"}).status, 0);
  }
}

TEST_F(Train, NestedLevelsAreTrainedHoweverTheyAreAskedFor) {
  const struct {
    std::string name;
    std::vector<std::string> flags;
  } cases[] = {{"levels", {"--shape", "ffn=chain:rank=12", "--levels", "3"}},
               {"by_shape", {"--shape", "ffn=chain:rank=12,levels=4x8x12"}}};
  for (const auto& c : cases) {
    std::vector<std::string> flags = c.flags;
    flags.insert(flags.end(), {"--steps", "40"});
    const std::string model = place_.train(c.name, flags);
    EXPECT_EQ(call_json({"info", model}).at("architecture").at("levels"), 3);
    std::vector<double> nats;
    for (const char* level : {"1", "2", "3", "0"})
      nats.push_back(
          call_json({"eval", model, "--text", place_.book(), "--level", level}).at("nats_per_token"));
    EXPECT_EQ(nats[2], nats[3]);
    EXPECT_NE(nats[0], nats[3]);
    EXPECT_LT(nats[0], 1.05 * nats[3]) << "the smallest level has not learned";
  }
  // Fine-tuning keeps them trained, and so equal to a run with the flag.
  const std::string tuned = place_ / "tuned";
  ASSERT_EQ(call({"train", "--train", place_.book(), "--from", place_ / "levels", "--out", tuned, "--steps",
                  "10", "--batch", "2", "--quiet"})
                .status,
            0);
  const double whole = call_json({"eval", tuned, "--text", place_.book()}).at("nats_per_token");
  const double small =
      call_json({"eval", tuned, "--text", place_.book(), "--level", "1"}).at("nats_per_token");
  EXPECT_LT(small, 1.05 * whole);
}

TEST_F(Train, FineTunesAModel) {
  const std::string parent = place_.train("parent", {"--steps", "20"});
  const std::string text = place_.write("other.txt", std::string(40, 'x') + small_book().substr(0, 1500));
  const std::vector<std::string> tune = {"train", "--train",        text,      "--from", parent,
                                         "--out", place_ / "child", "--steps", "20",     "--batch",
                                         "2",     "--threads",      "2",       "--quiet"};
  const auto before = read_file(fs::path(parent) / "model.safetensors");
  const Result result = call(tune);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(before == weights_of(parent)) << "the parent changed";
  const auto nats = [&](const std::string& model) {
    return call_json({"eval", model, "--text", text}).at("nats_per_token").get<double>();
  };
  EXPECT_LT(nats(place_ / "child"), nats(parent));
  EXPECT_EQ(metrics_of(place_ / "child")[1].at("step"), 1) << "begins with its own steps";
}

TEST_F(Train, DecomposesAModelAndGoesOn) {
  const std::string dense = place_.train("dense", {"--steps", "60"});
  const auto tune = [&](const std::string& name, std::vector<std::string> flags) {
    std::vector<std::string> args = {"train",       "--train", place_.book(), "--from",    dense, "--out",
                                     place_ / name, "--batch", "2",           "--threads", "2",   "--quiet"};
    args.insert(args.end(), flags.begin(), flags.end());
    const Result result = call(args);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("Decomposed "), std::string::npos) << result.out;
    return place_ / name;
  };
  // A rate near zero shows where the run begins.
  const std::vector<std::string> still = {"--steps", "1", "--learning-rate", "1e-9"};
  const auto nats = [&](const std::string& model) {
    return call_json({"eval", model, "--text", place_.book()}).at("nats_per_token").get<double>();
  };
  const std::string whole =
      tune("whole", {"--shape", "ffn=chain:rank=32", "--steps", "1", "--learning-rate", "1e-9"});
  EXPECT_NEAR(nats(whole), nats(dense), 1e-3) << "full rank changes nothing";
  const std::string begun = tune("begun", {"--ratio", "1.5", "--steps", "1", "--learning-rate", "1e-9"});
  const std::string small = tune("small", {"--ratio", "1.5", "--steps", "40"});
  EXPECT_GE(call_json({"info", small}).at("ratio").get<double>(), 1.5);
  EXPECT_TRUE(fs::exists(fs::path(small) / "decisions.jsonl"));
  EXPECT_LT(nats(begun), nats(place_.train("random", still))) << "better than random weights";
  EXPECT_LT(nats(small), nats(begun)) << "and goes on learning";
}

TEST_F(Train, AGuidedStartIsTheParent) {
  const std::string dense = place_.train("dense", {"--steps", "60"});
  const auto first_loss = [&](const std::string& name, const std::vector<std::string>& flags) {
    std::vector<std::string> args = {"train", "--train",     place_.book(), "--from", dense,
                                     "--out", place_ / name, "--batch",     "2",      "--steps",
                                     "40",    "--threads",   "2",           "--quiet"};
    args.insert(args.end(), flags.begin(), flags.end());
    const Result result = call(args);
    EXPECT_EQ(result.status, 0) << result.err;
    return metrics_of(place_ / name)[1].at("loss").get<double>();
  };
  const double whole = first_loss("whole", {});
  EXPECT_NEAR(first_loss("guided", {"--ratio", "2", "--guided", "0.5"}), whole, 1e-4);
  EXPECT_GT(std::abs(first_loss("bare", {"--ratio", "2"}) - whole), 1e-2);
  EXPECT_GE(call_json({"info", place_ / "guided"}).at("ratio").get<double>(), 2);
  const std::vector<std::string> fresh = {"--ratio", "1.5", "--guided", "0.4"};
  EXPECT_TRUE(weights_of(place_.train("one", fresh)) == weights_of(place_.train("two", fresh)));
}

TEST_F(Train, LearnsFromATeacher) {
  const std::string teacher = place_.train("teacher", {"--width", "64", "--steps", "60"});
  const std::vector<std::string> taught = {"--teacher", teacher, "--teacher-weight", "1",
                                           "--ratio",   "1.5",   "--steps",          "60"};
  const std::string pupil = place_.train("pupil", taught);
  const json against = call_json({"eval", pupil, "--text", place_.book(), "--against", teacher});
  const json strange = call_json({"eval", place_.train("alone", {"--ratio", "1.5", "--steps", "1"}), "--text",
                                  place_.book(), "--against", teacher});
  EXPECT_LT(against.at("kl_divergence").get<double>(), 0.5 * strange.at("kl_divergence").get<double>());
  EXPECT_TRUE(weights_of(pupil) == weights_of(place_.train("again", taught))) << "deterministic";
}

TEST_F(Train, AnotherTeacherIsNotGoneOnWith) {
  const std::string teacher = place_.train("teacher");
  const std::string out = place_ / "stopped";
  const std::vector<std::string> taught = {"--teacher", teacher, "--steps", "3000"};
  EXPECT_EQ(signalled_run(place_.train_call("stopped", taught), out, SIGINT), 130);
  const std::string other = place_.train("other", {"--seed", "2"});
  fs::copy_file(fs::path(other) / "model.safetensors", fs::path(teacher) / "model.safetensors",
                fs::copy_options::overwrite_existing);
  const Result result = call({"train", "--resume", "--out", out, "--threads", "2", "--quiet"});
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("teacher = "), std::string::npos) << result.err;
}

TEST_F(Train, SignalsLeaveACheckpointAndResumeGoesOnToTheSameBits) {
  const std::vector<std::string> length = {"--steps", "300", "--validate-every", "50", "--ema", "0.9"};
  const std::string whole = place_.train("whole", length);
  const std::string out = place_ / "stopped";
  EXPECT_EQ(signalled_run(place_.train_call("stopped", length), out, SIGINT), 130);
  EXPECT_TRUE(fs::exists(fs::path(out) / "checkpoint.safetensors"));
  const std::vector<std::string> resume = {"train", "--resume", "--out", out, "--threads", "2", "--quiet"};
  EXPECT_EQ(signalled_run(resume, out, SIGTERM), 143);
  EXPECT_EQ(signalled_run(resume, out, SIGKILL), -SIGKILL);
  const Result last = call(resume);
  ASSERT_EQ(last.status, 0) << last.err;
  EXPECT_TRUE(weights_of(out) == weights_of(whole));
  EXPECT_EQ(metrics_of(out), metrics_of(whole));
  EXPECT_FALSE(fs::exists(fs::path(out) / "checkpoint.safetensors"));
}

TEST_F(Train, RatioBeginsDenseAndIsTaughtByIt) {
  const std::vector<std::string> flags = {"--ratio", "2", "--steps", "80", "--learning-rate", "0.01"};
  const std::string model = place_.train("model", flags);
  const json info = call_json({"info", model});
  EXPECT_GE(info.at("ratio").get<double>(), 2);
  EXPECT_LT(info.at("ratio").get<double>(), 2.1);
  EXPECT_NE(info.dump().find("fixed gauge"), std::string::npos) << info.dump();
  EXPECT_EQ(call_json({"info", model + "/parent"}).at("ratio"), 1);
  EXPECT_NE(read_file(fs::path(model) / "decisions.jsonl").find("allocation"), std::string::npos);

  // One story of both parts, within the length that was given.
  const auto lines = metrics_of(model);
  std::vector<int> steps;
  for (const json& line : lines)
    if (line.at("event") == "step") steps.push_back(line.at("step"));
  ASSERT_EQ(steps.size(), 80U);
  for (size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i], static_cast<int>(i) + 1);
  EXPECT_EQ(metrics_of(model + "/parent").back().at("step"), 40);
  EXPECT_EQ(lines.back().at("parameters"), info.at("parameters"));

  std::vector<std::string> random = flags;
  random.insert(random.end(), {"--dense-first", "0"});
  const std::string other = place_.train("other", random);
  EXPECT_FALSE(fs::exists(fs::path(other) / "parent"));
  EXPECT_GE(call_json({"info", other}).at("ratio").get<double>(), 2);
  const auto nats = [&](const std::string& of) {
    return call_json({"eval", of, "--text", place_.book()}).at("nats_per_token").get<double>();
  };
  EXPECT_LT(nats(model), nats(other));
}

TEST_F(Train, AFinishedRunIsNeitherGoneOnWithNorWrittenOver) {
  const std::string model = place_.train("model", {"--ratio", "2", "--steps", "8"});
  const auto before = place_.snapshot();
  EXPECT_EQ(call({"train", "--resume", "--out", model, "--threads", "2", "--quiet"}).status, 2);
  EXPECT_EQ(call(place_.train_call("model", {"--ratio", "2", "--steps", "8"})).status, 2);
  EXPECT_TRUE(place_.snapshot() == before) << "nothing written or lost";
}

TEST_F(Train, LevelsBeginDenseToo) {
  const std::string model = place_.train("model", {"--ratio", "1.5", "--levels", "2", "--steps", "40"});
  const json info = call_json({"info", model});
  EXPECT_EQ(info.at("architecture").at("levels"), 2);
  EXPECT_GE(info.at("ratio").get<double>(), 1.5);
}

TEST_F(Train, BothPartsOfADenseBeginningAreGoneOnWith) {
  const std::vector<std::string> flags = {"--ratio", "2", "--steps", "160", "--validate-every", "20"};
  const std::string whole = place_.train("whole", flags);
  const std::string out = place_ / "stopped";
  EXPECT_EQ(signalled_run(place_.train_call("stopped", flags), out + "/parent", SIGINT), 130);
  EXPECT_FALSE(fs::exists(fs::path(out) / "config.json")) << "the dense part was stopped";
  const std::vector<std::string> resume = {"train", "--resume", "--out", out, "--threads", "2", "--quiet"};
  EXPECT_EQ(signalled_run(resume, out + "/parent", SIGKILL), -SIGKILL);
  // Now until the rest has validated: its file begins with the 85 lines of the dense part.
  EXPECT_EQ(signalled_run(resume, out, SIGTERM, 85 + 30), 143);
  EXPECT_TRUE(fs::exists(fs::path(out) / "checkpoint.safetensors"));
  fs::copy(out, place_ / "storing", fs::copy_options::recursive);
  const Result last = call(resume);
  ASSERT_EQ(last.status, 0) << last.err;
  EXPECT_TRUE(weights_of(out) == weights_of(whole));
  EXPECT_EQ(metrics_of(out), metrics_of(whole));

  // Whoever is killed while the finished weights are stored has config.json, or both files, in their new
  // form.
  const double nats = call_json({"eval", whole, "--text", place_.book()}).at("nats_per_token");
  for (const bool both : {false, true}) {
    const std::string storing = place_ / (both ? "both" : "one");
    fs::copy(place_ / "storing", storing, fs::copy_options::recursive);
    for (const char* file : {"config.json", "model.safetensors"}) {
      if (both || std::string(file) == "config.json")
        fs::copy_file(fs::path(whole) / file, fs::path(storing) / file, fs::copy_options::overwrite_existing);
    }
    const Result result = call({"train", "--resume", "--out", storing, "--threads", "2", "--quiet"});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_NEAR(call_json({"eval", storing, "--text", place_.book()}).at("nats_per_token").get<double>(),
                nats, 1e-4);
  }
}

TEST_F(Train, KilledBeforeTheFirstCheckpointStartsAgain) {
  const std::string whole = place_.train("whole");
  // What such a run can leave, from the first file on.
  const std::vector<std::vector<std::string>> left = {
      {"train.json"},
      {"train.json", "tokenizer_config.json"},
      {"train.json", "tokenizer_config.json", "config.json"},
      {"train.json", "tokenizer_config.json", "config.json", "metrics.jsonl", "model.safetensors"}};
  for (const auto& files : left) {
    const std::string out = place_ / ("left" + std::to_string(files.size()));
    fs::create_directory(out);
    for (const std::string& file : files) fs::copy_file(fs::path(whole) / file, fs::path(out) / file);
    const Result result = call({"train", "--resume", "--out", out, "--threads", "2", "--quiet"});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_TRUE(weights_of(out) == weights_of(whole));
    EXPECT_EQ(metrics_of(out), metrics_of(whole));
  }
}

}  // namespace
}  // namespace qtf::cli
