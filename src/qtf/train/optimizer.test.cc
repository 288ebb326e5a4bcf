#include "qtf/train/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qtf/train/train_test.h"

namespace qtf::train {
namespace {

constexpr double kEps = std::numeric_limits<float>::epsilon();

/// A layout with many step sizes, some of them decayed.
model::ParameterLayout mixed_layout() {
  model::ModelConfig config = small_config({.name = "mixed", .family = model::Family::gpt2});
  model::apply_shape_requests(config, {"ffn=chain:rank=4", "c_proj=mpo:rank=3"});
  return model::make_layout(config);
}

/// AdamW as its paper writes it, in double.
struct PlainAdamW {
  const model::ParameterLayout& layout;
  AdamWOptions o;
  std::vector<double> p, m, v;

  double step(int64_t t, double rate, const std::vector<float>& gradients) {
    double squares = 0;
    for (float g : gradients) squares += static_cast<double>(g) * g;
    const double length = std::sqrt(squares);
    const double scale = o.clip > 0 && length > o.clip ? o.clip / length : 1;
    for (const model::Parameter& run : layout.parameters) {
      for (auto i = static_cast<size_t>(run.offset); i < static_cast<size_t>(run.offset + run.size); ++i) {
        const double g = gradients[i] * scale;
        m[i] = o.beta1 * m[i] + (1 - o.beta1) * g;
        v[i] = o.beta2 * v[i] + (1 - o.beta2) * g * g;
        const double mean = m[i] / (1 - std::pow(o.beta1, t)), square = v[i] / (1 - std::pow(o.beta2, t));
        if (run.decay) p[i] -= rate * o.weight_decay * p[i];
        p[i] -= rate * run.rate_scale * mean / (std::sqrt(square) + o.epsilon);
      }
    }
    return length;
  }
};

TEST(AdamW, EqualsThePlainLoop) {
  const model::ParameterLayout layout = mixed_layout();
  const auto n = static_cast<size_t>(layout.size);
  ThreadPool pool(2);
  for (double clip : {0.0, 0.5, 1e6}) {
    AdamWOptions options;
    options.clip = clip;
    std::vector<float> parameters = normal_numbers(n, 1, 1);
    PlainAdamW plain{layout, options, {parameters.begin(), parameters.end()}, {}, {}};
    plain.m.resize(n), plain.v.resize(n);
    AdamW adamw(layout, options);
    constexpr int kSteps = 6;
    for (int step = 1; step <= kSteps; ++step) {
      const std::vector<float> gradients = normal_numbers(n, 0.1 * step, static_cast<uint64_t>(10 + step));
      const double rate = 0.01 / step;
      const double expected = plain.step(step, rate, gradients);
      EXPECT_NEAR(adamw.step(step, rate, gradients, parameters, pool), expected, 1e-6 * expected);
    }
    for (const model::Parameter& run : layout.parameters) {
      // 1 - beta2 loses digits in float; the moves' errors add up.
      const double move = kSteps * 0.01 * run.rate_scale;
      for (auto i = static_cast<size_t>(run.offset); i < static_cast<size_t>(run.offset + run.size); ++i) {
        const double tolerance = 8 * kEps * (std::abs(plain.p[i]) + move / (1 - options.beta2));
        ASSERT_NEAR(parameters[i], plain.p[i], tolerance) << run.name << " clip " << clip;
      }
    }
  }
}

TEST(AdamW, DecaysMatricesOnlyAndAllAtTheBaseRate) {
  const model::ParameterLayout layout = mixed_layout();
  ThreadPool pool(1);
  AdamWOptions options;
  options.weight_decay = 0.5;
  AdamW adamw(layout, options);
  std::vector<float> parameters(static_cast<size_t>(layout.size), 1.F), none(parameters.size(), 0.F);
  EXPECT_EQ(adamw.step(1, 0.1, none, parameters, pool), 0);
  bool decayed = false, kept = false, scaled = false;
  for (const model::Parameter& run : layout.parameters) {
    const bool matrix = run.dims.size() > 1;
    EXPECT_EQ(run.decay, matrix) << run.name;
    (matrix ? decayed : kept) = true;
    scaled = scaled || run.rate_scale != 1;
    for (int64_t i = run.offset; i < run.offset + run.size; ++i)
      ASSERT_NEAR(parameters[static_cast<size_t>(i)], matrix ? 0.95 : 1.0, 2 * kEps) << run.name;
  }
  EXPECT_TRUE(decayed && kept && scaled) << "the layout tests too little";
}

TEST(AdamW, StepsByEveryCoresOwnRate) {
  const model::ParameterLayout layout = mixed_layout();
  ThreadPool pool(1);
  AdamWOptions options;
  options.weight_decay = 0, options.clip = 0;
  AdamW adamw(layout, options);
  std::vector<float> parameters(static_cast<size_t>(layout.size), 0.F), ones(parameters.size(), 3.F);
  adamw.step(1, 0.01, ones, parameters, pool);
  for (const model::Parameter& run : layout.parameters) {
    // The first step is the rate itself, whatever the gradient's size.
    const double expected = -0.01 * run.rate_scale;
    EXPECT_NEAR(parameters[static_cast<size_t>(run.offset)], expected, 1e-5 * -expected) << run.name;
  }
}

TEST(AdamW, ThreadsChangeNoBit) {
  const model::ParameterLayout layout = mixed_layout();
  const auto n = static_cast<size_t>(layout.size);
  std::vector<std::vector<float>> results;
  for (int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    AdamW adamw(layout, {});
    std::vector<float> parameters = normal_numbers(n, 1, 1);
    for (int step = 1; step <= 3; ++step) {
      adamw.step(step, 0.01, normal_numbers(n, 1, static_cast<uint64_t>(step)), parameters, pool);
    }
    results.push_back(parameters);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(Norm, IsTheSameForAnyNumberOfThreads) {
  ThreadPool one(1), two(2), three(3);
  for (size_t n : {size_t{0}, size_t{1}, size_t{65536}, size_t{65537}, size_t{300001}}) {
    const std::vector<float> x = normal_numbers(n, 2, 5);
    double squares = 0;
    for (float value : x) squares += static_cast<double>(value) * value;
    const double length = norm(x, one);
    EXPECT_NEAR(length, std::sqrt(squares), 1e-6 * length);
    EXPECT_EQ(length, norm(x, two));
    EXPECT_EQ(length, norm(x, three));
  }
}

TEST(Average, MovesTowardsTheValues) {
  ThreadPool one(1), three(3);
  const std::vector<float> values = normal_numbers(1001, 1, 1), start = normal_numbers(1001, 1, 2);
  std::vector<float> average = start, threaded = start;
  update_average(0.75, values, average, one);
  update_average(0.75, values, threaded, three);
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_NEAR(average[i], 0.75 * start[i] + 0.25 * values[i], 2 * kEps * 8);
  EXPECT_EQ(average, threaded);
}

TEST(Schedule, RisesThenFallsAsACosine) {
  constexpr double kWarmup = 0.1, kFinal = 0.2;
  EXPECT_GT(schedule(0, kWarmup, kFinal), 0) << "the first step must move";
  EXPECT_NEAR(schedule(0.05, kWarmup, kFinal), 0.5, 1e-12);
  EXPECT_NEAR(schedule(0.1, kWarmup, kFinal), 1, 1e-12);
  EXPECT_NEAR(schedule(0.55, kWarmup, kFinal), 0.6, 1e-12);
  EXPECT_NEAR(schedule(1, kWarmup, kFinal), kFinal, 1e-12);
  EXPECT_NEAR(schedule(1.5, kWarmup, kFinal), kFinal, 1e-12) << "a run by the clock may overshoot";
  double before = 0;
  for (int i = 0; i <= 1000; ++i) {
    const double now = schedule(i / 1000.0, kWarmup, kFinal);
    EXPECT_EQ(i <= 100 ? now >= before : now <= before, true) << i;
    before = now;
  }
}

}  // namespace
}  // namespace qtf::train
