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

/// Runs of groups that the cores run, as the inner map does; the others each by their own matrix.
template <class T>
void MergedMap<T>::forward_level_columns(ConstMatrix<T> x, Matrix<T> y, std::span<const LevelGroup> groups,
                                         TeamMember& member, T* shared, Arena& scratch) const {
  for (size_t i = 0; i < groups.size();) {
    const LinearMap<T>& map = at(groups[i].level);
    size_t end = i + 1;
    while (end < groups.size() && &map == inner_.get() && &at(groups[end].level) == &map) ++end;
    const int64_t first = groups[i].first, rows = groups[end - 1].first + groups[end - 1].rows - first;
    const ArenaScope scope(scratch);
    auto* own = scratch.allocate<LevelGroup>(static_cast<int64_t>(end - i));
    for (size_t g = i; g < end; ++g) own[g - i] = {groups[g].level, groups[g].first - first, groups[g].rows};
    map.forward_level_columns(x.row_block(first, rows), y.row_block(first, rows), {own, end - i}, member,
                              shared + map.shared_size(first), scratch);
    i = end;
  }
}

template <class T>
void MergedMap<T>::gather(std::span<const int32_t> rows, Matrix<T> y, T* saved, int level,
                          Arena& scratch) const {
  at(level).gather(rows, y, saved, level, scratch);
}

template class MergedMap<float>;
template class MergedMap<double>;

}  // namespace qtf::tt
