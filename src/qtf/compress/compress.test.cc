#include "qtf/compress/compress.h"

#include <gtest/gtest.h>

#include <cmath>

#include "qtf/base/error.h"
#include "qtf/compress/compress_test.h"
#include "qtf/compress/sequential.h"
#include "qtf/tensor/gemm.h"

namespace qtf::compress {
namespace {

class Compressing : public testing::TestWithParam<FamilyCase> {
 protected:
  Compressed run(std::string_view method, std::vector<int64_t> sizes, bool sequential = true) {
    CompressOptions options;
    options.method = &find_method(method);
    options.max_parameters = std::move(sizes);
    options.sequential = sequential;
    return compress(*model_, calibration_, text_, options, pool_);
  }
  double divergence(const Compressed& c, int level = 0) {
    return mean_divergence(*model_, *c.model, text_, level, pool_);
  }

  ThreadPool pool_{2};
  std::unique_ptr<model::Transformer<float>> model_ =
      small_dense_model(GetParam().family, GetParam().tied, pool_);
  Sequences text_ = random_sequences(100);
  Calibration calibration_ = calibrate(*model_, text_, pool_);
  int64_t dense_ = model::dense_parameter_count(model_->config());
};

INSTANTIATE_TEST_SUITE_P(Families, Compressing,
                         testing::Values(FamilyCase{model::Family::llama, true},
                                         FamilyCase{model::Family::llama, false},
                                         FamilyCase{model::Family::gpt2, true},
                                         FamilyCase{model::Family::gpt2, false}));

TEST_P(Compressing, EveryMethodKeepsTheBudget) {
  for (const Method& method : methods()) {
    const Compressed c = run(method.name, {dense_ / 2});
    EXPECT_LE(c.model->layout().size, dense_ / 2) << method.name;
    EXPECT_GT(c.model->layout().size, dense_ / 3) << method.name;
    EXPECT_TRUE(std::isfinite(divergence(c))) << method.name;
    EXPECT_FALSE(c.decisions.empty());
    int64_t others = c.model->layout().size;
    for (const CompressedMap& map : c.maps) others -= map.parameters;
    EXPECT_GE(others, 0);
  }
}

TEST_P(Compressing, WithRoomForAllTheModelIsTheSame) {
  const Compressed c = run("chain", {dense_});
  EXPECT_LT(divergence(c), 1e-6);
  EXPECT_LE(c.model->layout().size, dense_);
}

TEST_P(Compressing, LosesLessTheMoreItMayKeepAndTheMoreItKnows) {
  const double half = divergence(run("chain", {dense_ / 2})), third = divergence(run("chain", {dense_ / 3}));
  EXPECT_LT(half, third);
  EXPECT_LT(half, divergence(run("svd", {dense_ / 2})));
  EXPECT_LT(half, divergence(run("whitened-svd", {dense_ / 2})));
}

TEST_P(Compressing, NestedLevelsAreEachWithinTheirSize) {
  const Compressed c = run("chain", {dense_ / 3, dense_ / 2, dense_ * 2 / 3});
  EXPECT_EQ(model::level_count(c.model->config()), 3);
  EXPECT_LE(c.model->layout().size, dense_ * 2 / 3);
  EXPECT_LT(divergence(c, 0), divergence(c, 2));
  EXPECT_LT(divergence(c, 2), divergence(c, 1));
}

TEST_P(Compressing, TheSameWeightsForAnyNumberOfThreads) {
  const Compressed a = run("chain", {dense_ / 2});
  ThreadPool one(1);
  CompressOptions options;
  options.max_parameters = {dense_ / 2};
  const Compressed b = compress(*model_, calibration_, text_, options, one);
  EXPECT_TRUE(std::ranges::equal(a.model->parameters(), b.model->parameters()));
}

TEST_P(Compressing, TellsTheSmallestSizeThatCanBeReached) {
  for (const Method& method : methods()) {
    try {
      run(method.name, {100});
      FAIL();
    } catch (const InputError& e) {
      EXPECT_NE(std::string(e.what()).find("the smallest count is"), std::string::npos) << e.what();
    }
  }
}

TEST_P(Compressing, TakesShapesThatAreDecidedAlready) {
  const model::MapSpec map = model::linear_maps(model_->config())[1];
  const std::map<std::string, tt::WeightShape> shapes{
      {map.name, tt::parse_shape("chain:rank=5", map.out, map.in)}};
  CompressOptions options;
  options.shapes = &shapes;
  const Compressed c = compress(*model_, calibration_, text_, options, pool_);
  ASSERT_EQ(c.model->config().shapes.size(), 1U);
  EXPECT_EQ(tt::level_rank(c.model->config().shapes.at(map.name), 0), 5);
  EXPECT_GT(divergence(c), 1e-6);
  // With the map as it was, so is the model.
  const auto restored = with_maps_of(*c.model, *model_, {map.name}, pool_);
  EXPECT_TRUE(restored->config().shapes.empty());
  EXPECT_LT(mean_divergence(*model_, *restored, text_, 0, pool_), 1e-9);
}

TEST_P(Compressing, ACompressedModelIsMultipliedOutAgain) {
  const Compressed c = run("chain", {dense_ / 2});
  const auto dense = dense_copy(*c.model, pool_);
  EXPECT_EQ(dense->layout().size, dense_);
  EXPECT_LT(mean_divergence(*c.model, *dense, text_, 0, pool_), 1e-6);
}

TEST(CorrectedWeight, IsTheWeightItselfWhereNothingWasLost) {
  const int64_t out = 3, in = 4;
  const AlignedVector<float> w{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  StageMoments moments;
  moments.inputs.assign(static_cast<size_t>(in * in), 0.1);
  for (int64_t i = 0; i < in; ++i) moments.inputs[i * in + i] = 1 + static_cast<double>(i);
  moments.cross = moments.inputs;
  const AlignedVector<double> same = corrected_weight({w.data(), out, in}, moments, 1e-3);
  for (size_t i = 0; i < w.size(); ++i) EXPECT_NEAR(same[i], w[i], 1e-9);
}

/// x' = A·x + noise, a shortfall d = B·x: the minimum of the squared error has no gradient.
TEST(CorrectedWeight, MinimisesTheErrorOfTheOutputs) {
  const int64_t out = 3, in = 4, tokens = 50;
  const Random random{5, 5};
  const auto number = [&](uint64_t what, int64_t t, int64_t i) {
    return random.normal(what * 1000 + static_cast<uint64_t>(t * 16 + i));
  };
  StageMoments m;
  m.inputs.assign(16, 0.0), m.cross.assign(16, 0.0), m.shortfall.assign(12, 0.0);
  const AlignedVector<float> w{1, -2, 3, 1, 0, 2, 1, -1, 2, 1, 0, 3};
  const auto add = [&](AlignedVector<double>& sum, int64_t rows, uint64_t a, uint64_t b) {
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < in; ++j) sum[i * in + j] += number(a, t, i) * number(b, t, j) / tokens;
  };
  add(m.inputs, in, 2, 2), add(m.cross, in, 1, 2), add(m.shortfall, out, 3, 2);
  const double ridge = 1e-12;
  const AlignedVector<double> best = corrected_weight({w.data(), out, in}, m, ridge);
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t j = 0; j < in; ++j) {
      double gradient = 0;  // of E|W·x + d − W'·x'|² by W'[o, j], over −2
      for (int64_t t = 0; t < tokens; ++t) {
        double error = number(3, t, o);
        for (int64_t i = 0; i < in; ++i)
          error += static_cast<double>(w[o * in + i]) * number(1, t, i) - best[o * in + i] * number(2, t, i);
        gradient += error * number(2, t, j) / tokens;
      }
      EXPECT_NEAR(gradient, 0, 1e-9);
    }
  }
}

TEST(Methods, AnUnknownNameIsRefusedWithTheNearest) {
  try {
    find_method("chian");
    FAIL();
  } catch (const InputError& e) {
    EXPECT_NE(std::string(e.what()).find("did you mean chain?"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace qtf::compress
