#include "qtf/nn/linear.h"

#include <gtest/gtest.h>

#include "qtf/nn/nn_test.h"

namespace qtf::nn {
namespace {

constexpr int64_t kOut = 10, kIn = 6, kRows = 5;

/// A layer with a bias whose gradients lie behind its map's.
struct Fixture {
  explicit Fixture(const std::string& text) : shape(tt::parse_shape(text, kOut, kIn)) {
    cores = random_values<double>(tt::parameters(shape), 1);
    layer.map = tt::make_linear_map<double>(shape);
    layer.bias = bias.data();
    layer.map_gradient = 2;
    layer.bias_gradient = 2 + layer.map->factor_size();
    gradients.assign(static_cast<size_t>(layer.bias_gradient + kOut), 0.5);
    prepare();
  }
  void prepare() { layer.map->prepare(cores.data(), tt::Use::training); }
  void forward(int level) {
    saved.assign(static_cast<size_t>(layer.map->saved_size(kRows)), 0);
    linear_forward<double>(layer, {x.data(), kRows, kIn}, {y.data(), kRows, kOut}, saved.data(), level,
                           scratch);
  }

  tt::WeightShape shape;
  std::vector<double> cores, bias = random_values<double>(kOut, 2), x = random_values<double>(kRows * kIn, 3);
  std::vector<double> y = std::vector<double>(kRows * kOut), saved, gradients;
  Linear<double> layer;
  Arena scratch;
};

const char* const kShapes[] = {"dense", "chain:rank=3", "chain:rank=3,levels=1x3", "btt:rank=1"};

TEST(Linear, AddsItsBiasToTheMap) {
  for (const char* text : kShapes) {
    Fixture f(text);
    f.forward(0);
    std::vector<double> plain(kRows * kOut);
    f.layer.map->forward({f.x.data(), kRows, kIn}, {plain.data(), kRows, kOut}, nullptr, 0, f.scratch);
    for (size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(f.y[i], plain[i] + f.bias[i % kOut]) << text;
    f.layer.bias = nullptr;
    f.forward(0);
    EXPECT_EQ(f.y, plain) << text;
  }
}

TEST(Linear, TakesALevelOnlyWhereItHasSome) {
  for (const char* text : kShapes) {
    Fixture f(text);
    f.forward(0);
    const auto largest = f.y;
    f.forward(2);
    EXPECT_EQ(f.y, largest) << text;
    f.forward(1);
    EXPECT_EQ(f.y == largest, f.shape.levels.empty()) << text;
  }
}

TEST(Linear, GradientsEqualCentralDifferencesAndAreAdded) {
  for (const char* text : kShapes) {
    Fixture f(text);
    const auto dy = random_values<double>(kRows * kOut, 5);
    const auto loss = [&] {
      f.prepare();
      f.forward(0);
      return inner_product(f.y, dy);
    };
    loss();
    ASSERT_TRUE(f.layer.map->factors_are_cores());
    std::vector<double> dx(f.x.size(), 9);
    const Matrix<double> dx_view(dx.data(), kRows, kIn);
    const auto backward = [&](Into into) {
      linear_backward<double>(f.layer, {dy.data(), kRows, kOut}, {f.x.data(), kRows, kIn}, f.saved.data(),
                              dx_view, into, f.gradients.data(), 0, f.scratch);
    };
    backward(Into::overwrite);
    auto gradients = f.gradients;
    EXPECT_EQ(gradients[0], 0.5) << "outside the layer's";
    for (double& g : gradients) g -= 0.5;
    EXPECT_LT(gradient_error(f.x, dx, loss), 1e-8) << text;
    EXPECT_LT(gradient_error(f.cores, std::span(gradients).subspan(2), loss), 1e-8) << text;
    EXPECT_LT(gradient_error(f.bias, std::span(gradients).last(kOut), loss), 1e-8) << text;

    const auto once = dx;
    backward(Into::accumulate);
    for (size_t i = 0; i < dx.size(); ++i) EXPECT_NEAR(dx[i], 2 * once[i], 1e-12) << text;
  }
}

}  // namespace
}  // namespace qtf::nn
