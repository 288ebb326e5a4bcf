#include "qtf/train/trainer.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <functional>
#include <thread>

#include "qtf/base/error.h"
#include "qtf/io/safetensors.h"
#include "qtf/train/metrics.h"
#include "qtf/train/trainer_test.h"

namespace qtf::train {
namespace {

using nlohmann::json;

/// Kinds of runs that must not care where they were stopped.
struct ResumeCase {
  std::string name;
  std::function<void(TrainOptions&)> set = [](TrainOptions&) {};
  size_t model = 0;  // in model_cases()
  double teacher = 0;
};

void PrintTo(const ResumeCase& c, std::ostream* out) {
  *out << c.name;
}

const std::vector<ResumeCase>& resume_cases() {
  static const std::vector<ResumeCase> table = {
      {.name = "plain"},
      {.name = "epochs", .set = [](TrainOptions& o) { o.steps = 0, o.epochs = 1.3; }},
      {.name = "dropout", .set = [](TrainOptions& o) { o.dropout = 0.2; }},
      {.name = "averaged", .set = [](TrainOptions& o) { o.ema = 0.9; }},
      {.name = "nested", .set = [](TrainOptions& o) { o.nested = true; }, .model = 9},
      {.name = "nested_in_turns",
       .set = [](TrainOptions& o) { o.nested = o.in_turns = true, o.dropout = 0.1; },
       .model = 9},
      {.name = "all",
       .set = [](TrainOptions& o) { o.ema = 0.8, o.dropout = 0.1, o.nested = true; },
       .model = 9},
      {.name = "train_of_many_cores", .model = 5},
      {.name = "chain", .model = 3},
      {.name = "guided", .set = [](TrainOptions& o) { o.guided = 0.5; }, .model = 3},
      {.name = "guided_nested",
       .set = [](TrainOptions& o) { o.guided = 0.7, o.nested = true, o.ema = 0.8, o.dropout = 0.1; },
       .model = 9},
      {.name = "taught", .teacher = 0.5},
      {.name = "quantum", .set = [](TrainOptions& o) { o.dropout = 0.1; }, .model = 7},
      {.name = "quantum_nested_taught",
       .set = [](TrainOptions& o) { o.nested = true, o.ema = 0.8, o.guided = 0.4; },
       .model = 8,
       .teacher = 0.5},
      {.name = "nested_under_a_policy",
       .set = [](TrainOptions& o) { o.nested = true, o.mean_rank = 500'000'000, o.dropout = 0.1; },
       .model = 9},
      {.name = "nested_under_a_policy_in_turns",
       .set = [](TrainOptions& o) { o.nested = o.in_turns = true, o.mean_rank = 300'000'000, o.ema = 0.8; },
       .model = 9},
      {.name = "taught_nested", .set = [](TrainOptions& o) { o.nested = true; }, .model = 9, .teacher = 1},
  };
  return table;
}

class Resume : public testing::TestWithParam<ResumeCase> {
 protected:
  Training training() const {
    TrainOptions options = small_options();
    GetParam().set(options);
    return Training(options, model_cases()[GetParam().model], GetParam().teacher);
  }
};
INSTANTIATE_TEST_SUITE_P(Table, Resume, testing::ValuesIn(resume_cases()),
                         [](const auto& param_info) { return param_info.param.name; });

TEST_P(Resume, EqualsAnUninterruptedRunBitForBit) {
  const Training runs = training();
  const Outcome whole = runs.run_alone();
  EXPECT_FALSE(whole.summary.interrupted);
  expect_equal(whole, runs.run_alone(), "a second run");
  for (size_t lines : {3, 10}) {
    int pieces = 0;
    expect_equal(whole, runs.run_in_pieces(lines, pieces), fmt::format("stopped every {} lines", lines));
    EXPECT_GE(pieces, 2);
  }
}

TEST(Trainer, StoppedBeforeTheFirstStepStillResumes) {
  const Training runs(small_options());
  const TemporaryFolder folder;
  const std::atomic<int> stop{SIGTERM};
  const Outcome nothing = runs.run(folder.path(), false, &stop);
  EXPECT_EQ(nothing.summary.interrupted, SIGTERM);
  EXPECT_EQ(nothing.summary.progress.step, 0);
  expect_equal(runs.run(folder.path(), true), runs.run_alone(), "resumed from step 0");
}

TEST(Trainer, KilledAtRandomTimesLosesNothing) {
  TrainOptions options = small_options();
  options.steps = 250;
  const Training runs(options);
  const Outcome whole = runs.run_alone();
  const TemporaryFolder folder;
  const Random random{static_cast<uint64_t>(getpid()), 1};
  constexpr uint64_t kKills = 12;
  uint64_t killed = 0;
  for (uint64_t attempt = 0;; ++attempt) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      runs.run(folder.path(), has_checkpoint(folder.path()));
      _exit(0);
    }
    // The measurement of the peak alone takes 20 ms.
    const auto life = std::chrono::milliseconds(20 + random.below(attempt, 60));
    if (attempt < kKills) {
      std::this_thread::sleep_for(life);
      kill(child, SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
      ASSERT_EQ(WEXITSTATUS(status), 0);
      break;
    }
    ++killed;
  }
  EXPECT_GT(killed, 0U);
  EXPECT_TRUE(read_file(folder / "model.safetensors") == whole.weights);
  EXPECT_EQ(metrics_of(folder.path()), whole.metrics);
}

TEST(Trainer, BestWeightsByValidationAreSaved) {
  TrainOptions options = small_options();
  options.steps = 40;
  options.learning_rate = 0.05;  // too much, so that the validation loss goes up and down
  options.validate_every = 1;
  const Training runs(options);
  const TemporaryFolder folder;
  const Outcome outcome = runs.run(folder.path(), false);
  double best = INFINITY;
  int64_t best_step = -1;
  for (const json& line : outcome.metrics) {
    if (line.at("event") != "valid" || !(line.at("loss").get<double>() < best)) continue;
    best = line.at("loss"), best_step = line.at("step");
  }
  EXPECT_EQ(outcome.summary.progress.best_step, best_step);
  EXPECT_EQ(outcome.summary.progress.best_nats, best);

  const model::LoadedModel loaded = model::load_model(folder.path());
  EXPECT_TRUE(
      std::equal(outcome.parameters.begin(), outcome.parameters.end(), loaded.model->parameters().begin()));
  ThreadPool pool(1);
  loaded.model->prepare(tt::Use::inference, pool);
  const TokenRange valid = runs.corpus().range(1200, runs.corpus().file().size());
  EvaluateOptions protocol;
  protocol.stride = 16, protocol.max_tokens = options.validation_tokens;
  EXPECT_EQ(evaluate(*loaded.model, valid, protocol, pool).nats_per_token, best);
  EXPECT_EQ(evaluate(*loaded.model, valid, {}, pool).nats_per_token, outcome.summary.valid.nats_per_token);
  EXPECT_EQ(outcome.metrics.back().at("event"), "best");
  EXPECT_EQ(outcome.metrics.back().at("loss"), outcome.summary.valid.nats_per_token);
}

TEST(Trainer, AveragedWeightsAreTheOnesSaved) {
  TrainOptions options = small_options();
  const Outcome plain = Training(options).run_alone();
  options.ema = 0.9;
  const Outcome averaged = Training(options).run_alone();
  EXPECT_NE(plain.weights, averaged.weights);
  // The averages do not touch the training itself.
  for (size_t i = 0; i < plain.metrics.size(); ++i) {
    if (plain.metrics[i].at("event") == "step") {
      EXPECT_EQ(plain.metrics[i], averaged.metrics[i]);
    }
  }
}

/// Names of the checkpoint's arrays.
std::vector<std::string> arrays_of(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  const io::SafetensorsFile file(folder / "checkpoint.safetensors");
  for (const io::TensorInfo& tensor : file.tensors()) names.push_back(tensor.name);
  return names;
}

TEST(Trainer, GuidesFadeAndAreNeverStored) {
  TrainOptions options = small_options();
  const Outcome plain = Training(options, model_cases()[3]).run_alone();
  options.guided = 0.5;
  const Training runs(options, model_cases()[3]);
  const TemporaryFolder folder;
  const std::atomic<int> stop{SIGINT};
  runs.run(folder.path(), false, &stop);
  const auto count = [&](const char* name) {
    const auto names = arrays_of(folder.path());
    return std::count(names.begin(), names.end(), name);
  };
  EXPECT_EQ(count("guides") + count("guide_first_moments") + count("guide_second_moments"), 3);
  const Outcome outcome = runs.run(folder.path(), true);
  EXPECT_EQ(count("guides") + count("guide_first_moments") + count("guide_second_moments"), 0);
  EXPECT_NE(outcome.weights, plain.weights);
  EXPECT_EQ(outcome.weights.size(), plain.weights.size());
  EXPECT_LT(outcome.summary.progress.best_nats, 0.97 * std::log(257.0)) << "the trains alone have learned";
  const model::LoadedModel loaded = model::load_model(folder.path());
  EXPECT_TRUE(
      std::equal(outcome.parameters.begin(), outcome.parameters.end(), loaded.model->parameters().begin()));
}

TEST(Trainer, PatienceBeginsWhenGuidesAreGone) {
  TrainOptions options = small_options();
  options.steps = 40;
  options.learning_rate = 0.2;
  options.validate_every = 1;
  options.patience = 2;
  options.guided = 0.5;
  const Outcome outcome = Training(options, model_cases()[3]).run_alone();
  EXPECT_GE(outcome.summary.progress.step, 20);
}

TEST(Trainer, TheRouterComesToItsShareAndEveryLineTellsIt) {
  TrainOptions options = small_options();
  options.steps = 60;
  const Outcome outcome = Training(options, model_cases()[7]).run_alone();
  double last = 0;
  for (const json& line : outcome.metrics) {
    const bool measured =
        line.at("event") == "step" || line.at("event") == "valid" || line.at("event") == "best";
    EXPECT_EQ(line.contains("routed_share"), measured) << line;
    if (!measured) continue;
    last = line.at("routed_share");
    EXPECT_LE(last, 0.25) << line;
  }
  EXPECT_GT(last, 0.02)
      << "far below 0.25: the first of 16 tokens score highest, where the quota lets none pass";
  EXPECT_LE(outcome.summary.valid.routed_share, 0.25);
  EXPECT_EQ(outcome.summary.valid.routed_share, last);
}

TEST(Trainer, EndsEarlyWithoutPatience) {
  TrainOptions options = small_options();
  options.steps = 2000;
  options.learning_rate = 0.2;
  options.validate_every = 1;
  options.patience = 4;
  const Outcome outcome = Training(options).run_alone();
  const RunState& progress = outcome.summary.progress;
  EXPECT_EQ(progress.bad_validations, 4);
  EXPECT_EQ(progress.step, progress.best_step + 4);
  EXPECT_LT(progress.step, 2000);
  EXPECT_FALSE(outcome.summary.interrupted);
}

TEST(Trainer, MinutesEndByTheClock) {
  TrainOptions options = small_options();
  options.steps = 0, options.minutes = 0.3 / 60, options.validate_every = 0;
  const Outcome outcome = Training(options).run_alone();
  EXPECT_GT(outcome.summary.progress.step, 0);
  EXPECT_GE(outcome.summary.seconds, 0.3);
  EXPECT_GT(outcome.summary.tokens_per_second, 0);
  EXPECT_FALSE(outcome.weights.empty());
}

TEST(Trainer, LossThatIsNotFiniteStopsAndLeavesTheLastGoodState) {
  TrainOptions options = small_options();
  options.steps = 200;
  options.learning_rate = 9;
  options.adamw.weight_decay = 1e4;  // shrinks the weights by 1 - 90,000 every step
  options.warmup = 0.5;
  options.checkpoint_steps = options.validate_every = 1;
  const Training runs(options);
  const TemporaryFolder folder;
  const std::string error = error_of<InputError>([&] { runs.run(folder.path(), false); });
  EXPECT_NE(error.find("no longer finite at step"), std::string::npos) << error;
  EXPECT_NE(error.find("lower --learning-rate than 9"), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos);

  const model::LoadedModel loaded = model::load_model(folder.path());
  for (float value : loaded.model->parameters()) ASSERT_TRUE(std::isfinite(value));
  ASSERT_TRUE(has_checkpoint(folder.path()));
  const std::string again = error_of<InputError>([&] { runs.run(folder.path(), true); });
  EXPECT_EQ(again, error) << "the checkpoint leads to the same end";
}

TEST(Trainer, ModelThatPredictsNothingFiniteIsNotSaved) {
  TrainOptions options = small_options();
  options.validate_every = 1;
  const Training runs(options);
  const TemporaryFolder folder;
  const std::string error = error_of<InputError>([&] {
    runs.run(folder.path(), false, nullptr, 1, [](std::span<float> weights) {
      for (float& weight : weights) weight = 1e30F;
    });
  });
  EXPECT_NE(error.find("no checkpoint was due yet"), std::string::npos) << error;
  EXPECT_FALSE(std::filesystem::exists(folder / "model.safetensors"));
}

TEST(Trainer, MetricsTellTheRun) {
  const Outcome outcome = Training(small_options()).run_alone();
  ASSERT_GE(outcome.metrics.size(), 3U);
  const json& start = outcome.metrics[0];
  EXPECT_EQ(start.at("event"), "start");
  EXPECT_EQ(start.at("batch"), 4);
  EXPECT_EQ(start.at("context"), 16);
  EXPECT_EQ(start.at("train_tokens"), 1200);
  int64_t steps = 0;
  std::vector<int64_t> validated;
  for (const json& line : outcome.metrics) {
    if (line.at("event") == "step") {
      EXPECT_EQ(line.at("step"), ++steps);
      EXPECT_EQ(line.at("tokens"), steps * 64);
      EXPECT_TRUE(line.at("loss").is_number() && line.at("grad_norm").is_number());
    }
    if (line.at("event") == "valid") validated.push_back(line.at("step"));
  }
  EXPECT_EQ(steps, 24);
  EXPECT_EQ(validated, (std::vector<int64_t>{5, 10, 15, 20, 24}));
}

TEST(Trainer, ResumeRefusesAnotherRun) {
  const TemporaryFolder folder;
  const Training runs(small_options());
  EXPECT_NE(error_of<InputError>([&] { runs.run(folder.path(), true); }).find("no checkpoint"),
            std::string::npos);
  const std::atomic<int> stop{SIGINT};
  runs.run(folder.path(), false, &stop);
  TrainOptions averaged = small_options();
  averaged.ema = 0.5;
  const Training other(averaged);
  EXPECT_NE(error_of<IoError>([&] { other.run(folder.path(), true); }).find("average"), std::string::npos);
}

TEST(Teacher, ChangesWhatIsLearned) {
  const Outcome alone = Training(small_options()).run_alone();
  const Outcome taught = Training(small_options(), model_cases()[0], 0.5).run_alone();
  EXPECT_NE(alone.weights, taught.weights);
  // The loss told is the text's: before the first update, both have the same.
  EXPECT_EQ(alone.metrics[1].at("loss"), taught.metrics[1].at("loss"));
  EXPECT_NE(alone.metrics[2].at("loss"), taught.metrics[2].at("loss"));
}

TEST(Teacher, MustFitThePupil) {
  const model::ModelConfig pupil = small_config();
  model::ModelConfig words = pupil, short_sighted = pupil;
  words.vocabulary = 300, short_sighted.context = 8;
  const model::Transformer<float> fine(pupil), other_words(words), other_context(short_sighted);
  EXPECT_NO_THROW(validate(model::Teacher<float>{}, pupil));
  EXPECT_NO_THROW(validate({&fine, 1, 4}, pupil));
  const struct {
    model::Teacher<float> teacher;
    std::string reason;
  } cases[] = {
      {{&fine, 0, 1}, "--teacher-weight must be above 0 and at most 1, got 0"},
      {{&fine, 1.1, 1}, "--teacher-weight"},
      {{&fine, NAN, 1}, "--teacher-weight"},
      {{&fine, 0.5, 0}, "--teacher-temperature must be 0.1 to 100, got 0"},
      {{&fine, 0.5, 101}, "--teacher-temperature"},
      {{&other_words, 0.5, 1}, "vocabulary of 300, the model of 257"},
      {{&other_context, 0.5, 1}, "the teacher's context is 8; give --context 8 or less, not 16"},
  };
  for (const auto& c : cases) {
    const std::string error = error_of<InputError>([&] { validate(c.teacher, pupil); });
    EXPECT_NE(error.find(c.reason), std::string::npos) << c.reason << ": " << error;
  }
}

TEST(TrainOptions, AreChecked) {
  const struct {
    std::function<void(TrainOptions&)> set;
    std::string reason;
  } cases[] = {
      {[](TrainOptions& o) { o.steps = 0; }, "exactly one of --steps, --epochs and --minutes"},
      {[](TrainOptions& o) { o.epochs = 1; }, "exactly one of"},
      {[](TrainOptions& o) { o.minutes = 1; }, "got 2"},
      {[](TrainOptions& o) { o.batch = 0; }, "--batch"},
      {[](TrainOptions& o) { o.batch = 65537; }, "--batch"},
      {[](TrainOptions& o) { o.micro_batch = -1; }, "--micro-batch"},
      {[](TrainOptions& o) { o.learning_rate = 0; }, "--learning-rate"},
      {[](TrainOptions& o) { o.learning_rate = 10; }, "--learning-rate"},
      {[](TrainOptions& o) { o.learning_rate = NAN; }, "--learning-rate"},
      {[](TrainOptions& o) { o.warmup = 0; }, "--warmup"},
      {[](TrainOptions& o) { o.warmup = 1; }, "--warmup"},
      {[](TrainOptions& o) { o.final_share = 1.5; }, "--final-rate"},
      {[](TrainOptions& o) { o.dropout = 1; }, "--dropout"},
      {[](TrainOptions& o) { o.ema = 1; }, "--ema"},
      {[](TrainOptions& o) { o.guided = 0.96; }, "--guided"},
      {[](TrainOptions& o) { o.guided = -0.1; }, "--guided"},
      {[](TrainOptions& o) { o.adamw.weight_decay = -1; }, "--weight-decay"},
      {[](TrainOptions& o) { o.adamw.clip = -1; }, "--clip"},
      {[](TrainOptions& o) { o.adamw.beta1 = 1; }, "--beta1"},
      {[](TrainOptions& o) { o.adamw.beta2 = 1; }, "--beta2"},
  };
  EXPECT_NO_THROW(validate(small_options()));
  for (const auto& c : cases) {
    TrainOptions options = small_options();
    c.set(options);
    const std::string error = error_of<InputError>([&] { validate(options); });
    EXPECT_NE(error.find(c.reason), std::string::npos) << c.reason << ": " << error;
  }
  TrainOptions nested = small_options();
  nested.nested = true;
  EXPECT_NE(error_of<InputError>([&] { Training(nested).run_alone(); }).find("--levels"), std::string::npos);
  TrainOptions turns = small_options();
  turns.in_turns = true;
  EXPECT_NE(error_of<InputError>([&] { Training(turns).run_alone(); }).find("--sandwich turns is for nested"),
            std::string::npos);
  TrainOptions guided = small_options();
  guided.guided = 0.5;
  EXPECT_NE(error_of<InputError>([&] { Training(guided).run_alone(); }).find("this model is dense"),
            std::string::npos);
}

}  // namespace
}  // namespace qtf::train
