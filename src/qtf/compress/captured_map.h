// Blocks whose maps hand over the gradients by their outputs: how calibration looks into a backward pass.
#pragma once

#include <vector>

#include "qtf/compress/calibration.h"
#include "qtf/model/transformer.h"

namespace qtf::compress {

/// A block's maps in linear_maps() order.
std::vector<const nn::Linear<float>*> maps_of(const nn::Block<float>& block);

/// The dense weight [out, in] of a map of a model without shapes; index maps.size() of a tied model is the
/// head's.
ConstMatrix<float> weight_of(const model::Transformer<float>& model, size_t map);

/// A norm whose weights' gradients go to the beginning of whatever buffer backward is given.
nn::Norm<float> without_gradients(nn::Norm<float> norm);

/// Passes forward on to a dense map and copies what backward is given. Gradients of the weights are not made.
class CapturedMap final : public tt::LinearMap<float> {
 public:
  CapturedMap(const tt::LinearMap<float>& map, ConstMatrix<float> weight)
      : tt::LinearMap<float>(map.shape()), map_(map), weight_(weight) {}

  /// The next backward() copies its dy[rows, out] there.
  void capture_into(Matrix<float> dy) { captured_ = dy; }

  int64_t factor_size() const override { return 0; }
  bool factors_are_cores() const override { return true; }
  void prepare(const float*, tt::Use) override {}
  int64_t saved_size(int64_t) const override { return 0; }
  void forward(ConstMatrix<float> x, Matrix<float> y, float*, int level, Arena& scratch) const override {
    map_.forward(x, y, nullptr, level, scratch);
  }
  void backward(ConstMatrix<float> dy, ConstMatrix<float> x, const float* saved, Matrix<float> dx,
                Into into_dx, float* dfactors, int level, Arena& scratch) const override;
  int64_t gather_saved_size(int64_t) const override { return 0; }
  void gather(std::span<const int32_t>, Matrix<float>, float*, int, Arena&) const override {}
  void gather_backward(std::span<const int32_t>, ConstMatrix<float>, const float*, float*, int,
                       Arena&) const override {}
  void pull_back(const float*, const float*, float*, Arena&) const override {}
  void to_dense(const float*, float* w, int level, Arena& scratch) const override {
    map_.to_dense(weight_.data, w, level, scratch);
  }

 private:
  const tt::LinearMap<float>& map_;
  ConstMatrix<float> weight_;
  Matrix<float> captured_;
};

/// Stands where a part of a block takes no map: its outputs are zero.
class NoMap final : public tt::LinearMap<float> {
 public:
  NoMap(int64_t out, int64_t in);
  int64_t factor_size() const override { return 0; }
  bool factors_are_cores() const override { return true; }
  void prepare(const float*, tt::Use) override {}
  int64_t saved_size(int64_t) const override { return 0; }
  void forward(ConstMatrix<float> x, Matrix<float> y, float*, int level, Arena& scratch) const override;
  void backward(ConstMatrix<float>, ConstMatrix<float>, const float*, Matrix<float>, Into, float*, int,
                Arena&) const override {}
  int64_t gather_saved_size(int64_t) const override { return 0; }
  void gather(std::span<const int32_t>, Matrix<float>, float*, int, Arena&) const override {}
  void gather_backward(std::span<const int32_t>, ConstMatrix<float>, const float*, float*, int,
                       Arena&) const override {}
  void pull_back(const float*, const float*, float*, Arena&) const override {}
  void to_dense(const float*, float*, int, Arena&) const override {}
};

/// A part of a block as a block of its own: the maps of the sites from `first` to `last`, taken from `block`,
/// which must live as long; where others stand nothing is added and nothing costs. Without qkv it belongs to
/// a BlockSpec without heads.
nn::Block<float> part_of(const nn::Block<float>& block, Site first, Site last);

/// A copy of a model's block that captures. Gradients of biases and norms go to the beginning of the buffer
/// that its backward is given.
nn::Block<float> capturing_block(const model::Transformer<float>& model, size_t block);

}  // namespace qtf::compress
