#include "qtf/compress/captured_map.h"

#include <algorithm>

namespace qtf::compress {

std::vector<const nn::Linear<float>*> maps_of(const nn::Block<float>& block) {
  std::vector<const nn::Linear<float>*> maps;
  for (const auto& linear : block.qkv) maps.push_back(&linear);
  maps.push_back(&block.attention_out);
  for (const auto& linear : block.up) maps.push_back(&linear);
  maps.push_back(&block.down);
  return maps;
}

ConstMatrix<float> weight_of(const model::Transformer<float>& model, size_t map) {
  const auto& maps = model.layout().maps;
  const model::MapParameters& found = maps[map < maps.size() ? map : 0];
  return {model.parameters().data() + found.offset, found.shape.out, found.shape.in};
}

nn::Norm<float> without_gradients(nn::Norm<float> norm) {
  norm.weight_gradient = norm.bias_gradient = 0;
  return norm;
}

void CapturedMap::backward(ConstMatrix<float> dy, ConstMatrix<float>, const float*, Matrix<float> dx,
                           Into into_dx, float*, int, Arena&) const {
  for (int64_t i = 0; i < dy.rows; ++i) std::copy_n(&dy(i, 0), dy.cols, captured_.row(i));
  if (dx.data) gemm(dy, weight_, dx, into_dx);
}

namespace {

tt::WeightShape dense_shape(int64_t out, int64_t in) {
  tt::WeightShape shape;
  shape.out = out, shape.in = in;
  return shape;
}

/// The same map and bias, owned elsewhere.
nn::Linear<float> borrowed(const nn::Linear<float>& linear) {
  nn::Linear<float> result;
  result.map = std::make_unique<CapturedMap>(*linear.map, ConstMatrix<float>());
  result.bias = linear.bias;
  return result;
}

nn::Linear<float> no_linear(int64_t out, int64_t in) {
  nn::Linear<float> result;
  result.map = std::make_unique<NoMap>(out, in);
  return result;
}

}  // namespace

NoMap::NoMap(int64_t out, int64_t in) : tt::LinearMap<float>(dense_shape(out, in)) {}

void NoMap::forward(ConstMatrix<float>, Matrix<float> y, float*, int, Arena&) const {
  for (int64_t i = 0; i < y.rows; ++i) std::fill_n(y.row(i), y.cols, 0.0f);
}

nn::Block<float> part_of(const nn::Block<float>& block, Site first, Site last) {
  const auto has = [&](Site site) { return first <= site && site <= last; };
  nn::Block<float> part;
  part.attention_norm = block.attention_norm;
  part.feed_forward_norm = block.feed_forward_norm;
  if (has(Site::qkv))
    for (const auto& linear : block.qkv) part.qkv.push_back(borrowed(linear));
  if (has(Site::up))
    for (const auto& linear : block.up) part.up.push_back(borrowed(linear));
  const int64_t width = block.down.out();
  part.attention_out = has(Site::attention_out)
                           ? borrowed(block.attention_out)
                           : no_linear(width, has(Site::qkv) ? block.attention_out.in() : 0);
  part.down = has(Site::down) ? borrowed(block.down) : no_linear(width, has(Site::up) ? block.down.in() : 0);
  return part;
}

nn::Block<float> capturing_block(const model::Transformer<float>& model, size_t index) {
  const nn::Block<float>& block = model.blocks()[index];
  const size_t maps_a_block = maps_of(block).size();
  size_t map = 1 + index * maps_a_block;  // after the embedding
  const auto capture = [&](const nn::Linear<float>& linear) {
    nn::Linear<float> result;
    result.map = std::make_unique<CapturedMap>(*linear.map, weight_of(model, map++));
    result.bias = linear.bias;
    result.map_gradient = result.bias_gradient = 0;
    return result;
  };
  nn::Block<float> result;
  result.attention_norm = without_gradients(block.attention_norm);
  for (const auto& linear : block.qkv) result.qkv.push_back(capture(linear));
  result.attention_out = capture(block.attention_out);
  result.feed_forward_norm = without_gradients(block.feed_forward_norm);
  for (const auto& linear : block.up) result.up.push_back(capture(linear));
  result.down = capture(block.down);
  return result;
}

}  // namespace qtf::compress
