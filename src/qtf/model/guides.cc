#include "qtf/model/guides.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "qtf/base/error.h"

namespace qtf::model {

ParameterLayout make_guide_layout(const ModelConfig& config) {
  ParameterLayout guides;
  for (const MapSpec& map : linear_maps(config)) {
    if (shape_of(config, map).kind == tt::ShapeKind::dense) continue;
    tt::WeightShape dense;
    dense.out = map.out, dense.in = map.in;
    const int64_t size = map.out * map.in;
    guides.maps.push_back({map, dense, guides.size, size, -1});
    guides.parameters.push_back({map.name + ".guide", {map.out, map.in}, false, guides.size, size, true, 1});
    guides.size += size;
  }
  return guides;
}

AlignedVector<float> guides_from(const Transformer<float>& parent, const ParameterLayout& guides) {
  AlignedVector<float> values(static_cast<size_t>(guides.size));
  Arena scratch;
  size_t next = 0;
  for (const MapParameters& map : parent.layout().maps) {
    if (next == guides.maps.size() || guides.maps[next].spec.name != map.spec.name) continue;
    const MapParameters& guide = guides.maps[next++];
    tt::make_linear_map<float>(map.shape)->to_dense(parent.parameters().data() + map.offset,
                                                    values.data() + guide.offset, 0, scratch);
  }
  QTF_ASSERT(next == guides.maps.size());
  return values;
}

double guide_share(double progress, double length) {
  return progress < length ? 0.5 * (1 + std::cos(std::numbers::pi * progress / length)) : 0;
}

template <class T>
void Transformer<T>::add_guides(std::span<const T> values) {
  QTF_ASSERT(guided_.empty());
  guide_layout_ = make_guide_layout(config_);
  QTF_ASSERT(static_cast<int64_t>(values.size()) == guide_layout_.size);
  guides_.assign(values.begin(), values.end());
  for (nn::Linear<T>* linear : linears_) {
    if (linear->map->shape().kind == tt::ShapeKind::dense) continue;
    auto map = std::make_unique<tt::GuidedMap<T>>(std::move(linear->map));
    guided_.push_back(map.get());
    linear->map = std::move(map);
  }
  gradient_size_ += guide_layout_.size;
  set_guide_share(1);
}

template <class T>
void Transformer<T>::set_guide_share(double share) {
  size_t next = 0;
  for (const nn::Linear<T>* linear : linears_) {
    if (next == guided_.size() || linear->map.get() != guided_[next]) continue;
    const int64_t offset = guide_layout_.maps[next].offset;
    guided_[next++]->set_guide(guides_.data() + offset, share,
                               guide_gradient() + offset - linear->map_gradient);
  }
}

template <class T>
void Transformer<T>::remove_guides() {
  size_t next = 0;
  for (nn::Linear<T>* linear : linears_) {
    if (next == guided_.size() || linear->map.get() != guided_[next]) continue;
    linear->map = guided_[next++]->release();
  }
  gradient_size_ -= guide_layout_.size;
  guided_.clear();
  guides_ = {};
  guide_layout_ = {};
}

template void Transformer<float>::add_guides(std::span<const float>);
template void Transformer<float>::set_guide_share(double);
template void Transformer<float>::remove_guides();
template void Transformer<double>::add_guides(std::span<const double>);
template void Transformer<double>::set_guide_share(double);
template void Transformer<double>::remove_guides();

}  // namespace qtf::model
