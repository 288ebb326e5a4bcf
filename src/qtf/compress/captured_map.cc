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
