#include "qtf/tt/merged.h"

#include "qtf/base/error.h"

namespace qtf::tt {

template <class T>
MergedMap<T>::MergedMap(std::unique_ptr<LinearMap<T>> inner, const std::vector<int>& levels)
    : LinearMap<T>(inner->shape()), inner_(std::move(inner)) {
  WeightShape dense;
  dense.out = this->shape().out, dense.in = this->shape().in;
  for (const int level : levels) {
    QTF_ASSERT(level >= 1 && level <= level_count(this->shape()));
    merged_.push_back({level, {}, std::make_unique<DenseMap<T>>(dense)});
  }
}

template <class T>
void MergedMap<T>::prepare(const T* cores, Use use) {
  inner_->prepare(cores, use);
  merging_ = use == Use::inference;
  Arena scratch;
  for (Level& merged : merged_) {
    merged.w.resize(merging_ ? static_cast<size_t>(this->shape().out * this->shape().in) : 0);
    if (!merging_) continue;
    inner_->to_dense(cores, merged.w.data(), merged.level, scratch);
    merged.map->prepare(merged.w.data(), use);
  }
}

template <class T>
const LinearMap<T>& MergedMap<T>::at(int level) const {
  const int wanted = level == 0 ? level_count(this->shape()) : level;
  for (const Level& merged : merged_)
    if (merging_ && merged.level == wanted) return *merged.map;
  return *inner_;
}

template <class T>
void MergedMap<T>::forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int level, Arena& scratch) const {
  at(level).forward(x, y, saved, level, scratch);
}

template <class T>
void MergedMap<T>::forward_columns(ConstMatrix<T> x, Matrix<T> y, int level, TeamMember& member, T* shared,
                                   Arena& scratch) const {
  at(level).forward_columns(x, y, level, member, shared, scratch);
}

template <class T>
void MergedMap<T>::gather(std::span<const int32_t> rows, Matrix<T> y, T* saved, int level,
                          Arena& scratch) const {
  at(level).gather(rows, y, saved, level, scratch);
}

template class MergedMap<float>;
template class MergedMap<double>;

}  // namespace qtf::tt
