#include <csignal>

#include "qtf/base/error.h"
#include "qtf/train/trainer_test.h"

namespace qtf::train {
namespace {

/// A step's losses of two runs are the same but for rounding.
void expect_the_same_losses(const std::vector<nlohmann::json>& lines,
                            const std::vector<nlohmann::json>& others) {
  ASSERT_EQ(lines.size(), others.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i].at("event"), others[i].at("event"));
    if (!lines[i].contains("loss")) continue;
    EXPECT_NEAR(lines[i].at("loss").get<double>(), others[i].at("loss").get<double>(), 2e-4) << lines[i];
  }
}

TEST(Ranks, TrainAsOneProcessWithTheWholeBatch) {
  TrainOptions options = small_options();
  options.dropout = 0.1, options.ema = 0.9;
  for (const ModelCase& c : model_cases()) {
    SCOPED_TRACE(c.name);
    options.nested = c.levels > 1;
    const Training training(options, c);
    const TemporaryFolder folder;
    const Outcome alone = training.run_alone(), together = training.run_with_ranks(folder.path(), false, 2);
    expect_the_same_losses(alone.metrics, together.metrics);
    EXPECT_NEAR(alone.summary.valid.nats_per_token, together.summary.valid.nats_per_token, 2e-4);
    EXPECT_FALSE(together.weights.empty());
  }
}

TEST(Ranks, AnyNumberOfThemGoesOn) {
  TrainOptions options = small_options();
  const Outcome whole = Training(options).run_alone();
  const TemporaryFolder folder;
  const Training training(options);
  std::vector<std::atomic<int>> stop(3);
  stop[2] = SIGTERM;  // one is told, all stop, after a step
  const Outcome first = training.run_with_ranks(folder.path(), false, 3, &stop);
  EXPECT_EQ(first.summary.interrupted, SIGTERM);
  EXPECT_EQ(first.summary.progress.step, 1);
  EXPECT_TRUE(has_checkpoint(folder.path()));
  expect_the_same_losses(whole.metrics, training.run_with_ranks(folder.path(), true, 2).metrics);
}

/// Ranks that hear nothing more after some sums.
class DyingRanks final : public ThreadRanks {
 public:
  using ThreadRanks::ThreadRanks;
  void sum(std::span<float> values) override {
    if (++sums_ > 22) throw RanksLost("gone");  // in the sixth step: four sums of gradients a step
    ThreadRanks::sum(values);
  }

 private:
  int sums_ = 0;
};

TEST(Ranks, LeaveACheckpointOfTheLastWholeStepWhenOneIsLost) {
  TrainOptions options = small_options();
  options.checkpoint_steps = 0, options.checkpoint_seconds = 1e9;
  const Training training(options);
  const TemporaryFolder folder;
  const Outcome lost = training.run_with_ranks<DyingRanks>(folder.path(), false, 2);
  EXPECT_TRUE(lost.summary.ranks_lost);
  EXPECT_EQ(lost.summary.progress.step, 5);
  const Outcome rest = training.run(folder.path(), true);
  expect_the_same_losses(training.run_alone().metrics, rest.metrics);
}

TEST(Ranks, NeedASequenceEach) {
  const Training training(small_options());
  const TemporaryFolder folder;
  ThreadRoom room(5);
  ThreadRanks ranks(room, 0);
  EXPECT_EQ(error_of<InputError>([&] { training.run(folder.path(), false, nullptr, 1, {}, &ranks); }),
            "[train] 5 ranks cannot share a batch of 4; give --batch 5 or more, or fewer ranks");
}

}  // namespace
}  // namespace qtf::train
