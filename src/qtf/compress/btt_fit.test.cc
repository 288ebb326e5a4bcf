#include "qtf/compress/btt_fit.h"

#include <gtest/gtest.h>

#include "qtf/compress/compress_test.h"
#include "qtf/compress/metric.h"
#include "qtf/tensor/gemm.h"
#include "qtf/tt/linear_map.h"

namespace qtf::compress {
namespace {

/// A weight whose inputs go together.
class RefittingBtt : public testing::Test {
 protected:
  RefittingBtt() : moment_(static_cast<size_t>(kIn * kIn)) {
    const AlignedVector<double> a = random_matrix(kIn * kIn, 1);
    const ConstMatrix<double> view(a.data(), kIn, kIn);
    gemm(view, view.transposed(), Matrix<double>(moment_.data(), kIn, kIn));
    for (int64_t i = 0; i < kIn; ++i) moment_[i * kIn + i] += 0.1;
  }

  ConstMatrix<double> inputs() const { return {moment_.data(), kIn, kIn}; }
  AlignedVector<float> blockwise(const AlignedVector<double>& w) const {
    const AlignedVector<float> narrow(w.begin(), w.end());
    AlignedVector<float> cores(static_cast<size_t>(tt::parameters(shape_)));
    tt::from_dense(shape_, narrow.data(), cores.data());
    return cores;
  }
  AlignedVector<float> refitted(const AlignedVector<double>& w, int sweeps) const {
    AlignedVector<float> cores = blockwise(w);
    refit_btt(shape_, {w.data(), kOut, kIn}, inputs(), sweeps, cores.data());
    return cores;
  }
  AlignedVector<double> dense(const AlignedVector<float>& cores) const {
    AlignedVector<float> w(static_cast<size_t>(kOut * kIn));
    Arena scratch;
    tt::make_linear_map<float>(shape_)->to_dense(cores.data(), w.data(), 0, scratch);
    return {w.begin(), w.end()};
  }
  double error(const AlignedVector<double>& w, const AlignedVector<float>& cores) const {
    AlignedVector<double> rest = dense(cores);
    for (size_t i = 0; i < rest.size(); ++i) rest[i] = w[i] - rest[i];
    return weighted_error({rest.data(), kOut, kIn}, Metric(kOut), Metric::from_matrix(inputs(), 0));
  }

  static constexpr int64_t kOut = 12, kIn = 15;
  const tt::WeightShape shape_ = tt::parse_shape("btt:rank=2,out=3x4,in=3x5", kOut, kIn);
  AlignedVector<double> moment_;
};

TEST_F(RefittingBtt, EverySweepMakesTheErrorSmaller) {
  const AlignedVector<double> w = random_matrix(kOut * kIn, 2);
  double before = error(w, blockwise(w));
  for (const int sweeps : {1, 2, 4, 8}) {
    const double now = error(w, refitted(w, sweeps));
    EXPECT_LT(now, before) << sweeps;
    before = now;
  }
  EXPECT_LT(before, 0.9 * error(w, blockwise(w)));
}

TEST_F(RefittingBtt, AWeightThatIsABttStays) {
  const AlignedVector<double> w = dense(blockwise(random_matrix(kOut * kIn, 3)));
  EXPECT_LT(error(w, refitted(w, 2)), 1e-9 * error(AlignedVector<double>(w.size(), 0.0), blockwise(w)));
}

TEST_F(RefittingBtt, AWeightOfZeroStaysZero) {
  const AlignedVector<double> w(static_cast<size_t>(kOut * kIn), 0.0);
  EXPECT_EQ(error(w, refitted(w, 2)), 0);
}

}  // namespace
}  // namespace qtf::compress
