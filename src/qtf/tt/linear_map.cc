#include "qtf/tt/linear_map.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/tt/btt.h"
#include "qtf/tt/chain.h"
#include "qtf/tt/dense.h"
#include "qtf/tt/merged.h"
#include "qtf/tt/mpo.h"
#include "qtf/tt/shape_rules.h"

namespace qtf::tt {

namespace {

template <class T>
void copy_dense(const WeightShape& shape, const T* w, T* cores) {
  std::copy_n(w, shape.out * shape.in, cores);
}

template <class T, class Map>
std::unique_ptr<LinearMap<T>> make(const WeightShape& shape) {
  return std::make_unique<Map>(shape);
}

/// A kind's maps and decomposition.
template <class T>
struct MapRow {
  std::unique_ptr<LinearMap<T>> (*direct)(const WeightShape&);
  std::unique_ptr<LinearMap<T>> (*rebuilt)(const WeightShape&);  ///< null where is_rebuilt() is never true
  void (*from_dense)(const WeightShape&, const T*, T*);
};

/// In ShapeKind's order.
template <class T>
const MapRow<T>& row(const WeightShape& shape) {
  static constexpr std::array<MapRow<T>, 4> kRows{{
      {make<T, DenseMap<T>>, nullptr, copy_dense<T>},
      {make<T, ChainMap<T>>, make<T, RebuiltChain<T>>, chain_from_dense<T>},
      {make<T, MpoMap<T>>, make<T, RebuiltMpo<T>>, mpo_from_dense<T>},
      {make<T, BttMap<T>>, nullptr, btt_from_dense<T>},
  }};
  return kRows[static_cast<size_t>(shape.kind)];
}

/// The core applied last, whose zero makes the map zero: the first of a train, the second of btt.
size_t last_applied(const WeightShape& shape) {
  return shape.kind == ShapeKind::btt ? 1 : 0;
}

}  // namespace

// A shape without a split by columns deals out rows: right for all, fast for many.
template <class T>
void LinearMap<T>::forward_columns(ConstMatrix<T> x, Matrix<T> y, int level, TeamMember& member, T*,
                                   Arena& scratch) const {
  const Range rows = member.part(x.rows);
  if (rows.size() > 0)
    forward(x.row_block(rows.begin, rows.size()), y.row_block(rows.begin, rows.size()), nullptr, level,
            scratch);
  member.barrier();
}

template <class T>
void LinearMap<T>::forward_level_columns(ConstMatrix<T> x, Matrix<T> y, std::span<const LevelGroup> groups,
                                         TeamMember& member, T* shared, Arena& scratch) const {
  for (const LevelGroup& group : groups)
    forward_columns(x.row_block(group.first, group.rows), y.row_block(group.first, group.rows), group.level,
                    member, shared + shared_size(group.first), scratch);
}

// A shape whose products have no quantized form runs with the numbers written out.
template <class T>
void LinearMap<T>::prepare_quantized(const QuantizedCores& cores) {
  size_t size = 0;
  for (const QuantizedMatrix& core : cores.cores) size += static_cast<size_t>(core.rows * core.cols);
  AlignedVector<float> numbers(size);
  float* to = numbers.data();
  for (const QuantizedMatrix& core : cores.cores) {
    core.decode(to);
    to += core.rows * core.cols;
  }
  decoded_.assign(numbers.begin(), numbers.end());
  prepare(decoded_.data(), Use::inference);
}

int64_t core_row_size(const CoreSpec& core) {
  int64_t size = 1;
  for (const int64_t dim : core.dims) size *= dim;
  const int64_t row = core.dims.size() == 2 ? core.dims[1] : core.fan_in;
  QTF_ASSERT(row > 0 && size % row == 0);
  return row;
}

template <class T>
std::unique_ptr<LinearMap<T>> make_linear_map(const WeightShape& shape,
                                              const std::vector<int>& merged_levels) {
  auto map = is_rebuilt(shape) ? row<T>(shape).rebuilt(shape) : row<T>(shape).direct(shape);
  if (merged_levels.empty() || shape.kind == ShapeKind::dense || is_rebuilt(shape)) return map;
  return std::make_unique<MergedMap<T>>(std::move(map), merged_levels);
}

template <class T>
void initialise(const WeightShape& shape, Random stream, T* values, double gain) {
  const std::vector<CoreSpec> specs = cores(shape);
  uint64_t index = 0;
  for (size_t k = 0; k < specs.size(); ++k) {
    const auto fan_in = static_cast<double>(specs[k].fan_in), fan_out = static_cast<double>(specs[k].fan_out);
    const double std = std::sqrt(1 / fan_in) * std::min(1.0, std::sqrt(fan_out / fan_in)) *
                       (k == last_applied(shape) ? gain : 1.0);
    for (int64_t i = product(specs[k].dims); i > 0; --i)
      *values++ = static_cast<T>(std * stream.normal(index++));
  }
}

template <class T>
double from_dense(const WeightShape& shape, const T* w, T* values) {
  row<T>(shape).from_dense(shape, w, values);
  const int64_t size = shape.out * shape.in;
  AlignedVector<T> rebuilt(static_cast<size_t>(size));
  Arena scratch;
  make_linear_map<T>(shape)->to_dense(values, rebuilt.data(), 0, scratch);
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < size; ++i) {
    const double d = static_cast<double>(w[i]) - rebuilt[i];
    difference += d * d;
    norm += static_cast<double>(w[i]) * w[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : 0;
}

#define QTF_INSTANTIATE(T)                                                                             \
  template class LinearMap<T>;                                                                         \
  template std::unique_ptr<LinearMap<T>> make_linear_map(const WeightShape&, const std::vector<int>&); \
  template void initialise(const WeightShape&, Random, T*, double);                                    \
  template double from_dense(const WeightShape&, const T*, T*);
QTF_INSTANTIATE(float)
QTF_INSTANTIATE(double)
#undef QTF_INSTANTIATE

}  // namespace qtf::tt
