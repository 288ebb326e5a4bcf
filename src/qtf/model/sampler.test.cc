#include "qtf/model/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "qtf/base/error.h"

namespace qtf::model {
namespace {

constexpr int kDraws = 20000;

/// Shares of each token over many seeds.
std::map<int32_t, double> shares(const std::vector<float>& logits, SamplingOptions options,
                                 const std::vector<int32_t>& history = {}) {
  std::map<int32_t, int> counts;
  for (int i = 0; i < kDraws; ++i) {
    options.seed = static_cast<uint64_t>(i);
    ++counts[sample(logits, history, options)];
  }
  std::map<int32_t, double> result;
  for (const auto& [token, count] : counts) result[token] = static_cast<double>(count) / kDraws;
  return result;
}

/// The shares are those of the given weights, within five standard deviations of kDraws draws.
void expect_shares(const std::map<int32_t, double>& got, const std::map<int32_t, double>& weights,
                   const char* what) {
  double total = 0;
  for (const auto& [token, weight] : weights) total += weight;
  for (const auto& [token, share] : got) EXPECT_TRUE(weights.contains(token)) << what << ": token " << token;
  for (const auto& [token, weight] : weights) {
    const double p = weight / total;
    const auto found = got.find(token);
    EXPECT_NEAR(found == got.end() ? 0 : found->second, p, 5 * std::sqrt(p * (1 - p) / kDraws)) << what;
  }
}

/// Logits whose softmax is 0.4, 0.3, 0.2, 0.1 in a mixed order: tokens 2, 0, 3, 1.
std::vector<float> four_tokens() {
  return {std::log(0.3f), std::log(0.1f), std::log(0.4f), std::log(0.2f)};
}

TEST(Sampler, EveryOptionHasItsLaw) {
  const auto logits = four_tokens();
  const std::map<int32_t, double> all = {{2, 0.4}, {0, 0.3}, {3, 0.2}, {1, 0.1}};
  struct Row {
    const char* name;
    SamplingOptions options;
    std::map<int32_t, double> weights;
  };
  const std::vector<Row> rows = {
      {"temperature 1", {.temperature = 1}, all},
      {"temperature 2",
       {.temperature = 2},
       {{2, std::sqrt(0.4)}, {0, std::sqrt(0.3)}, {3, std::sqrt(0.2)}, {1, std::sqrt(0.1)}}},
      {"temperature 0.5", {.temperature = 0.5}, {{2, 0.16}, {0, 0.09}, {3, 0.04}, {1, 0.01}}},
      {"temperature 0", {.temperature = 0}, {{2, 1}}},
      {"nearly 0", {.temperature = 1e-300}, {{2, 1}}},
      {"top-k 1", {.temperature = 1, .top_k = 1}, {{2, 1}}},
      {"top-k 2", {.temperature = 1, .top_k = 2}, {{2, 0.4}, {0, 0.3}}},
      {"top-k 9", {.temperature = 1, .top_k = 9}, all},
      {"top-p 0.39", {.temperature = 1, .top_p = 0.39}, {{2, 1}}},
      {"top-p 0.41", {.temperature = 1, .top_p = 0.41}, {{2, 0.4}, {0, 0.3}}},
      {"top-p tiny", {.temperature = 1, .top_p = 1e-12}, {{2, 1}}},
      {"top-p of what top-k left", {.temperature = 1, .top_k = 2, .top_p = 0.56}, {{2, 1}}},
      {"min-p 0.6", {.temperature = 1, .min_p = 0.6}, {{2, 0.4}, {0, 0.3}}},
      {"min-p 1", {.temperature = 1, .min_p = 1}, {{2, 1}}},
      {"top-p and min-p", {.temperature = 1, .top_p = 0.95, .min_p = 0.4}, {{2, 0.4}, {0, 0.3}, {3, 0.2}}},
  };
  for (const Row& row : rows) {
    expect_shares(shares(logits, row.options), row.weights, row.name);
  }
}

TEST(Sampler, RepeatPenaltyDividesPositiveAndMultipliesNegativeLogits) {
  const std::vector<float> logits = {2, -1, 1, 0};
  const SamplingOptions options{.temperature = 1, .repeat_penalty = 2, .repeat_window = 3};
  // Token 2 lies outside the window, token 0 twice inside it: penalised once.
  const auto got = shares(logits, options, {2, 0, 1, 0});
  expect_shares(got, {{0, std::exp(1)}, {1, std::exp(-2)}, {2, std::exp(1)}, {3, 1}}, "penalty");
  const SamplingOptions no_window{.temperature = 1, .repeat_penalty = 2, .repeat_window = 0};
  expect_shares(shares(logits, no_window, {0, 1}),
                {{0, std::exp(2)}, {1, std::exp(-1)}, {2, std::exp(1)}, {3, 1}}, "no window");
}

TEST(Sampler, HistoryBeyondTheLogitsCountsForNothing) {
  const std::vector<float> logits = {1, 2};
  const std::vector<int32_t> history = {7, -1, 2, 1000000};
  EXPECT_EQ(sample(logits, history, {.temperature = 0, .repeat_penalty = 5}), 1);
}

TEST(Sampler, TiesGoToTheLowestToken) {
  const std::vector<float> logits = {1, 3, 3, 3};
  EXPECT_EQ(sample(logits, {}, {.temperature = 0}), 1);
  for (uint64_t seed = 0; seed < 50; ++seed) {
    EXPECT_EQ(sample(logits, {}, {.temperature = 1, .top_k = 1, .seed = seed}), 1);
    EXPECT_LE(sample(logits, {}, {.temperature = 1, .top_k = 2, .seed = seed}), 2);
  }
}

TEST(Sampler, IsAFunctionOfItsArguments) {
  const auto logits = four_tokens();
  std::map<int32_t, int> by_position;
  for (int32_t n = 0; n < 200; ++n) {
    const std::vector<int32_t> history(static_cast<size_t>(n), 3);
    const int32_t token = sample(logits, history, {.temperature = 1, .seed = 5});
    EXPECT_EQ(token, sample(logits, history, {.temperature = 1, .seed = 5}));
    ++by_position[token];
  }
  EXPECT_EQ(by_position.size(), 4u) << "another position draws anew";
}

TEST(Sampler, RefusesLogitsThatAreNoNumbers) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (float bad : {std::nanf(""), infinity, -infinity}) {
    const std::vector<float> logits = {0, bad, 1};
    EXPECT_THROW(sample(logits, {}, {}), InputError);
    EXPECT_THROW(sample(logits, {}, {.temperature = 0}), InputError);
  }
}

TEST(Sampler, RefusesOptionsOutOfRange) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const std::vector<std::pair<SamplingOptions, const char*>> rows = {
      {{.temperature = -0.1}, "temperature"},
      {{.temperature = nan}, "temperature"},
      {{.temperature = infinity}, "temperature"},
      {{.top_k = -1}, "top-k"},
      {{.top_p = 0}, "top-p"},
      {{.top_p = 1.1}, "top-p"},
      {{.top_p = nan}, "top-p"},
      {{.min_p = -0.1}, "min-p"},
      {{.min_p = 1.1}, "min-p"},
      {{.repeat_penalty = 0}, "repeat-penalty"},
      {{.repeat_penalty = nan}, "repeat-penalty"},
      {{.repeat_penalty = infinity}, "repeat-penalty"},
  };
  for (const auto& [options, name] : rows) {
    try {
      validate(options);
      ADD_FAILURE() << "no error for " << name;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  }
  EXPECT_NO_THROW(validate(SamplingOptions{.temperature = 0, .top_p = 1, .min_p = 1}));
}

}  // namespace
}  // namespace qtf::model
