#include "qtf/train/step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "qtf/train/thread_ranks.h"
#include "qtf/train/train_test.h"

namespace qtf::train {
namespace {

constexpr int64_t kSequences = 6, kLength = 16;

/// A batch of windows of a small text.
struct Batch {
  std::vector<int32_t> inputs, targets;

  explicit Batch(uint64_t seed = 1) {
    const std::string text = small_text(kSequences * kLength + 8, seed);
    for (size_t i = 0; i < kSequences * kLength; ++i) {
      inputs.push_back(static_cast<unsigned char>(text[i]));
      targets.push_back(static_cast<unsigned char>(text[i + 1]));
    }
  }
  StepInput input(double dropout = 0, std::vector<int> levels = {}, bool in_turns = false) const {
    StepInput step;
    step.batch = {inputs, targets, kSequences, kLength};
    step.learning_rate = 0.01;
    step.dropout = dropout, step.dropout_key = 99;
    step.distilled_levels = std::move(levels);
    step.in_turns = in_turns;
    return step;
  }
};

/// Weights without zeros, so that every gradient counts.
void randomise(model::Transformer<float>& model) {
  model.initialise(3);
  const auto noise = normal_numbers(model.parameters().size(), 0.1, 7);
  for (size_t i = 0; i < noise.size(); ++i) model.parameters()[i] += noise[i];
}

class EveryModel : public testing::TestWithParam<ModelCase> {
 protected:
  std::vector<int> levels() const {
    return GetParam().levels > 1 ? std::vector<int>{1, 2} : std::vector<int>{};
  }
  std::vector<float> gradients(const StepInput& input, int threads, int64_t micro_rows, double& nats) const {
    ThreadPool pool(threads);
    model::Transformer<float> model(small_config(GetParam()));
    randomise(model);
    Stepper stepper(model, {}, pool, micro_rows);
    nats = stepper.compute_gradients(input);
    return {stepper.gradients().begin(), stepper.gradients().end()};
  }
};
INSTANTIATE_TEST_SUITE_P(Table, EveryModel, testing::ValuesIn(model_cases()),
                         [](const auto& param_info) { return param_info.param.name; });

double length(const std::vector<float>& x) {
  double squares = 0;
  for (float value : x) squares += static_cast<double>(value) * value;
  return std::sqrt(squares);
}

TEST_P(EveryModel, ThreadsAndMicroBatchesChangeGradientsByRoundingOnly) {
  const Batch batch;
  // Levels in turns with one dropout, on all sequences with the other.
  for (double dropout : {0.0, 0.3}) {
    const StepInput input = batch.input(dropout, levels(), dropout > 0);
    double nats = 0;
    const std::vector<float> expected = gradients(input, 1, 1000, nats);
    for (int threads : {1, 2, 3, 8}) {
      for (int64_t micro_rows : {1, 40, 1000}) {
        double other = 0;
        std::vector<float> difference = gradients(input, threads, micro_rows, other);
        for (size_t i = 0; i < difference.size(); ++i) difference[i] -= expected[i];
        // Sums of about a hundred rows in another order.
        EXPECT_LT(length(difference) / length(expected), 100 * std::numeric_limits<float>::epsilon())
            << threads << " threads, " << micro_rows << " rows at once, dropout " << dropout;
        EXPECT_NEAR(other, nats, 1e-5);
      }
    }
  }
}

/// This rank's part of a step.
StepInput part_of(const StepInput& whole, int rank, int ranks) {
  const Range mine = split_range(whole.batch.sequences, rank, ranks);
  const auto begin = static_cast<size_t>(mine.begin * kLength),
             count = static_cast<size_t>(mine.size() * kLength);
  StepInput part = whole;
  part.batch = {whole.batch.inputs.subspan(begin, count), whole.batch.targets.subspan(begin, count),
                mine.size(), kLength};
  part.first_sequence = mine.begin, part.all_sequences = whole.batch.sequences;
  return part;
}

TEST_P(EveryModel, RanksChangeGradientsByRoundingOnly) {
  const Batch batch;
  for (double dropout : {0.0, 0.3}) {
    const StepInput input = batch.input(dropout, levels(), dropout > 0);
    double nats = 0;
    const std::vector<float> expected = gradients(input, 1, 1000, nats);
    for (int size : {2, 3, 4}) {  // parts of four ranks differ in size
      ThreadRoom room(size);
      std::vector<std::vector<float>> found(static_cast<size_t>(size));
      std::vector<double> losses(found.size());
      std::vector<std::jthread> ranks;
      for (int rank = 0; rank < size; ++rank) {
        ranks.emplace_back([&, rank] {
          ThreadRanks speech(room, rank);
          ThreadPool pool(1 + rank % 2);
          model::Transformer<float> model(small_config(GetParam()));
          randomise(model);
          Stepper stepper(model, {}, pool, 40, &speech);
          const auto at = static_cast<size_t>(rank);
          for (int repeat = 0; repeat < 2; ++repeat)
            losses[at] = stepper.compute_gradients(part_of(input, rank, size));
          found[at].assign(stepper.gradients().begin(), stepper.gradients().end());
        });
      }
      ranks.clear();
      for (size_t rank = 0; rank < found.size(); ++rank) {
        EXPECT_EQ(found[rank], found[0]) << "rank " << rank << " of " << size;
        EXPECT_NEAR(losses[rank], nats, 1e-5);
      }
      std::vector<float> difference = found[0];
      for (size_t i = 0; i < difference.size(); ++i) difference[i] -= expected[i];
      EXPECT_LT(length(difference) / length(expected), 100 * std::numeric_limits<float>::epsilon())
          << size << " ranks, dropout " << dropout;
    }
  }
}

TEST_P(EveryModel, TheSameThreadsGiveTheSameBits) {
  const Batch batch;
  for (int threads : {1, 2, 3}) {
    std::vector<float> results[2];
    for (auto& result : results) {
      ThreadPool pool(threads);
      model::Transformer<float> model(small_config(GetParam()));
      model.initialise(1);
      Stepper stepper(model, {}, pool, 40);
      for (int i = 0; i < 3; ++i) stepper.step(batch.input(0.2, levels()));
      result.assign(model.parameters().begin(), model.parameters().end());
      EXPECT_EQ(stepper.steps_done(), 3);
    }
    EXPECT_EQ(results[0], results[1]) << threads << " threads";
  }
}

TEST_P(EveryModel, LearnsASmallBatchByHeart) {
  const Batch batch;
  ThreadPool pool(2);
  model::Transformer<float> model(small_config(GetParam()));
  model.initialise(1);
  AdamWOptions options;
  options.weight_decay = 0;
  Stepper stepper(model, options, pool);
  const double first = stepper.step(batch.input()).nats_per_token;
  EXPECT_NEAR(first, std::log(257.0), 0.2);
  StepResult last;
  for (int i = 0; i < 150; ++i) last = stepper.step(batch.input(0, levels()));
  EXPECT_LT(last.nats_per_token, 0.35 * first);
  EXPECT_GT(last.gradient_norm, 0);
}

TEST(Stepper, NestedLevelsLearnToo) {
  const Batch batch;
  ThreadPool pool(2);
  Arena arena;
  const auto level_loss = [&](const std::vector<int>& distilled) {
    model::Transformer<float> model(small_config(model_cases().back()));
    model.initialise(1);
    Stepper stepper(model, {}, pool);
    for (int i = 0; i < 100; ++i) stepper.step(batch.input(0, distilled));
    model.prepare(tt::Use::inference, pool);
    return model.loss(batch.input().batch, 1, nullptr, arena) / (kSequences * kLength);
  };
  const double untrained = level_loss({}), trained = level_loss({1, 2});
  EXPECT_LT(trained, 0.75 * std::log(257.0));
  EXPECT_LT(trained, untrained);
}

TEST(Stepper, DropoutDependsOnItsKey) {
  const Batch batch;
  ThreadPool pool(1);
  model::Transformer<float> model(small_config());
  randomise(model);
  Stepper stepper(model, {}, pool);
  StepInput input = batch.input(0.3);
  const double one = stepper.compute_gradients(input);
  EXPECT_EQ(stepper.compute_gradients(input), one);
  input.dropout_key = 100;
  EXPECT_NE(stepper.compute_gradients(input), one);
}

TEST(TrainingFlops, AreSixAMultiplyAccumulateOfProductsAndCausalHalf) {
  const model::ModelConfig config = small_config();
  int64_t products = 0;
  for (const model::MapSpec& map : model::linear_maps(config)) products += map.out * map.in;
  // Attention of a token to (length + 1) / 2 others on average, in whole positions.
  const int64_t attention = config.layers * 2 * ((kLength - 1) / 2 + 1) * config.width;
  EXPECT_EQ(training_flops(config, 100, kLength), 600.0 * static_cast<double>(products + attention));
}

}  // namespace
}  // namespace qtf::train
