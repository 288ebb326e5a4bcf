#include "qtf/compress/plan.h"

#include <gtest/gtest.h>

#include "qtf/compress/compress_test.h"
#include "qtf/tt/gauge.h"

namespace qtf::compress {
namespace {

class Planning : public testing::Test {
 protected:
  int64_t rank(const Plan& plan) const {
    return tt::level_rank(plan.config.shapes.at(model_->layout().maps[kMap].spec.name), 0);
  }

  static constexpr size_t kMap = 4;  // an attention's output projection
  ThreadPool pool_{2};
  std::unique_ptr<model::Transformer<float>> model_ = small_dense_model(model::Family::llama, true, pool_);
  Calibration calibration_ = calibrate(*model_, random_sequences(40), pool_);
  CompressOptions options_;
};

TEST_F(Planning, RanksFollowWhatWasMeasuredInsteadOfPredicted) {
  options_.max_parameters = {model_->layout().size / 2};
  const std::vector<LossByRank> predicted =
      losses_by_rank(*model_, WeightMetrics(*model_, calibration_, options_), pool_);
  const Plan before = make_plan(*model_, options_, predicted);
  MeasuredLosses measured;
  measured.ranks.resize(predicted.size()), measured.lost.resize(predicted.size());
  measured.ranks[kMap] = {rank(before)};
  measured.lost[kMap] = {predicted[kMap]};
  EXPECT_EQ(rank(make_plan(*model_, options_, predicted, &measured)), rank(before));
  for (double& loss : measured.lost[kMap][0]) loss *= 100;
  const Plan after = make_plan(*model_, options_, predicted, &measured);
  EXPECT_GT(rank(after), rank(before));
  int64_t saved = 0;  // by the gauge, which is fixed last
  for (const auto& [name, shape] : after.config.shapes) saved += tt::gauge_size(shape);
  EXPECT_LE(model::parameter_count(after.config) - saved, options_.max_parameters[0]);
  EXPECT_NEAR(after.predicted_loss[kMap], 100 * predicted[kMap][static_cast<size_t>(rank(after))], 1e-9);
}

}  // namespace
}  // namespace qtf::compress
