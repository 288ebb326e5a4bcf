#include "qtf/compress/calibration.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/compress/captured_map.h"
#include "qtf/compress/compress_test.h"
#include "qtf/compress/sequential.h"

namespace qtf::compress {
namespace {

AlignedVector<float> random_rows(int64_t n, uint64_t stream) {
  AlignedVector<float> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(Random{4, stream}.normal(i));
  return values;
}

TEST(Moments, AddUpAsThePlainLoopDoes) {
  ThreadPool pool(3);
  for (const int64_t n : {1, 63, 64, 130}) {
    const int64_t rows = 40, m = 70;
    const auto x = random_rows(rows * n, 1), y = random_rows(rows * m, 2);
    SecondMoment second(n);
    CrossMoment cross(n, m);
    for (int repeat = 0; repeat < 2; ++repeat) {
      MomentUpdates updates;
      updates.add({x.data(), rows, n}, second);
      updates.add({x.data(), rows, n}, {y.data(), rows, m}, cross);
      updates.run(pool);
    }
    const AlignedVector<double> whole = second.matrix(0.5);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t t = 0; t < rows; ++t) sum += static_cast<double>(x[t * n + i]) * x[t * n + j];
        EXPECT_NEAR(whole[i * n + j], sum, 1e-4);
      }
      for (int64_t j = 0; j < m; ++j) {
        double sum = 0;
        for (int64_t t = 0; t < rows; ++t) sum += static_cast<double>(x[t * n + i]) * y[t * m + j];
        EXPECT_NEAR(cross.sum[i * m + j], 2 * sum, 1e-4);
      }
    }
  }
}

class Calibrations : public testing::TestWithParam<FamilyCase> {
 protected:
  ThreadPool pool_{2};
  std::unique_ptr<model::Transformer<float>> model_ =
      small_dense_model(GetParam().family, GetParam().tied, pool_);
};

INSTANTIATE_TEST_SUITE_P(Families, Calibrations,
                         testing::Values(FamilyCase{model::Family::llama, true},
                                         FamilyCase{model::Family::llama, false},
                                         FamilyCase{model::Family::gpt2, true}));

/// A capturing block's backward gives the block's own gradient by its input, and dyᵀ·x of what it captured is
/// the weights' gradient.
TEST_P(Calibrations, CapturedGradientsAreThoseOfTheWeights) {
  const int64_t rows = 12, width = model_->config().width;
  model_->prepare(tt::Use::training, pool_);
  const auto x = random_rows(rows * width, 3), dy = random_rows(rows * width, 4);
  const std::vector<nn::Segment<float>> segments{{0, 5, 0, nullptr}, {5, 7, 0, nullptr}};
  nn::Block<float> capturing = capturing_block(*model_, 1);
  const nn::Block<float>& own = model_->blocks()[1];
  std::vector<AlignedVector<float>> captured;
  for (const nn::Linear<float>* linear : maps_of(capturing)) {
    captured.emplace_back(static_cast<size_t>(rows * linear->out()));
    static_cast<CapturedMap&>(*linear->map).capture_into({captured.back().data(), rows, linear->out()});
  }
  AlignedVector<float> gradients(static_cast<size_t>(model_->gradient_size())), ignored(gradients.size());
  AlignedVector<float> dx = dy, captured_dx = dy, y(dy.size());
  Arena arena;
  nn::BlockSaved<float> saved, own_saved;
  const nn::Pass<float> pass{segments, rows, 0, {}};
  const ConstMatrix<float> input(x.data(), rows, width);
  const auto view = [&](AlignedVector<float>& v) { return Matrix<float>(v.data(), rows, width); };
  nn::block_forward<float>(own, model_->block_spec(), pass, 1, input, view(y), &own_saved, arena);
  nn::block_backward<float>(own, model_->block_spec(), pass, 1, own_saved, view(dx), gradients.data(), arena);
  nn::block_forward<float>(capturing, model_->block_spec(), pass, 1, input, view(y), &saved, arena);
  nn::block_backward<float>(capturing, model_->block_spec(), pass, 1, saved, view(captured_dx),
                            ignored.data(), arena);
  for (size_t i = 0; i < dx.size(); ++i) EXPECT_NEAR(dx[i], captured_dx[i], 1e-4 * (1 + std::abs(dx[i])));

  const float* inputs[kSites] = {saved.norm1, saved.attended, saved.norm2, saved.hidden};
  const auto maps = maps_of(own);
  for (size_t m = 0; m < maps.size(); ++m) {
    const Site site = site_of(model_->config().family, static_cast<int64_t>(m));
    const float* in = inputs[static_cast<size_t>(site)];
    const int64_t out_width = maps[m]->out(), in_width = maps[m]->in();
    for (int64_t i = 0; i < out_width; i += 3) {
      for (int64_t j = 0; j < in_width; j += 5) {
        double sum = 0;
        for (int64_t t = 0; t < rows; ++t)
          sum += static_cast<double>(captured[m][t * out_width + i]) * in[t * in_width + j];
        EXPECT_NEAR(gradients[maps[m]->map_gradient + i * in_width + j], sum, 1e-3 * (1 + std::abs(sum)));
      }
    }
  }
}

/// What the moments are for: they predict what a small change of a map costs.
TEST_P(Calibrations, PredictTheDivergenceOfASmallChange) {
  const Sequences text = random_sequences(220);
  const Calibration calibration = calibrate(*model_, text, pool_);
  const auto& maps = model_->layout().maps;
  const size_t in_block = calibration.blocks[0].gradients.size();
  for (size_t m = 1; m <= 2 * in_block; m += 2) {
    const size_t in = (m - 1) % in_block;
    const BlockMoments<MeanMoment>& block = calibration.blocks[(m - 1) / in_block];
    const Site site = site_of(model_->config().family, static_cast<int64_t>(in));
    const int64_t rows = maps[m].spec.out, cols = maps[m].spec.in;
    const auto c = block.gradients[in].matrix(), g = block.inputs[static_cast<size_t>(site)].matrix();
    AlignedVector<double> delta(static_cast<size_t>(rows * cols));
    for (size_t i = 0; i < delta.size(); ++i) delta[i] = Random{6, m}.normal(i);
    double cost = 0;  // ½·tr(C·Δ·G·Δᵀ)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t k = 0; k < rows; ++k)
        for (int64_t j = 0; j < cols; ++j)
          for (int64_t l = 0; l < cols; ++l)
            cost += 0.5 * c[i * rows + k] * delta[k * cols + j] * g[j * cols + l] * delta[i * cols + l];
    const double predicted = 1e-3;  // far above rounding, far below where the divergence bends
    model::Transformer<float> changed(model_->config());
    std::copy(model_->parameters().begin(), model_->parameters().end(), changed.parameters().begin());
    for (size_t i = 0; i < delta.size(); ++i)
      changed.parameters()[static_cast<size_t>(maps[m].offset) + i] +=
          static_cast<float>(delta[i] * std::sqrt(predicted / cost));
    changed.prepare(tt::Use::inference, pool_);
    const double measured = mean_divergence(*model_, changed, text, 0, pool_);
    // Input and gradient are taken as independent: right but for a small factor.
    EXPECT_GT(predicted, 0.25 * measured) << maps[m].spec.name;
    EXPECT_LT(predicted, 4 * measured) << maps[m].spec.name;
  }
}

TEST_P(Calibrations, DoNotDependOnTheThreads) {
  const Sequences text = random_sequences(60);
  ThreadPool one(1), three(3);
  const Calibration a = calibrate(*model_, text, one), b = calibrate(*model_, text, three);
  EXPECT_EQ(a.hidden.lower, b.hidden.lower);
  EXPECT_EQ(a.embedding_gradients.lower, b.embedding_gradients.lower);
  for (size_t i = 0; i < a.blocks.size(); ++i) {
    for (size_t s = 0; s < kSites; ++s) EXPECT_EQ(a.blocks[i].inputs[s].lower, b.blocks[i].inputs[s].lower);
    for (size_t m = 0; m < a.blocks[i].gradients.size(); ++m)
      EXPECT_EQ(a.blocks[i].gradients[m].lower, b.blocks[i].gradients[m].lower);
  }
}

TEST_P(Calibrations, AreReadBackAsTheyWereWritten) {
  const TemporaryFolder folder;
  Calibration written = calibrate(*model_, random_sequences(20), pool_);
  written.text_sha256 = "abc";
  save_calibration(folder / "calibration.safetensors", written);
  const Calibration read = load_calibration(folder / "calibration.safetensors", model_->config());
  EXPECT_EQ(read.tokens, written.tokens);
  EXPECT_EQ(read.text_sha256, "abc");
  EXPECT_EQ(read.token_counts, written.token_counts);
  EXPECT_EQ(read.hidden.lower, written.hidden.lower);
  EXPECT_EQ(read.blocks[1].gradients.size(), written.blocks[1].gradients.size());

  model::ModelConfig wider = model_->config();
  wider.feed_forward += 4;
  EXPECT_THROW(load_calibration(folder / "calibration.safetensors", wider), InputError);
}

}  // namespace
}  // namespace qtf::compress
