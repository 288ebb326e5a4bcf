#include "qtf/nn/linear.h"

#include <algorithm>

#include "qtf/kernels/vector.h"

namespace qtf::nn {

namespace {
constexpr int64_t kBiasRows = 96;  // a whole number of the product's row tiles
}

template <class T>
void linear_forward(const Linear<T>& layer, ConstMatrix<T> x, Matrix<T> y, T* saved, int level,
                    Arena& scratch) {
  // The bias is added while the rows are in cache; what a map saves has no parts.
  const int64_t chunk = layer.bias && layer.map->saved_size(1) == 0 ? kBiasRows : y.rows;
  for (int64_t first = 0; first < y.rows; first += chunk) {
    const int64_t rows = std::min(chunk, y.rows - first);
    const Matrix<T> part = y.row_block(first, rows);
    layer.map->forward(x.row_block(first, rows), part, saved, layer.level(level), scratch);
    if (!layer.bias) continue;
    for (int64_t i = 0; i < rows; ++i) kernels::add<T>(y.cols, layer.bias, part.row(i));
  }
}

template <class T>
void linear_backward(const Linear<T>& layer, ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved,
                     Matrix<T> dx, Into into_dx, T* gradients, int level, Arena& scratch) {
  layer.map->backward(dy, x, saved, dx, into_dx, gradients + layer.map_gradient, layer.level(level), scratch);
  if (!layer.bias) return;
  kernels::add_column_sums<T>(dy.rows, dy.cols, dy.data, dy.row_stride, gradients + layer.bias_gradient);
}

template <class T>
void linear_forward(const Linear<T>& layer, ConstMatrix<T> x, Matrix<T> y, T* saved,
                    std::span<const LevelGroup> groups, Arena& scratch) {
  if (!layer.has_levels()) return linear_forward<T>(layer, x, y, saved, 0, scratch);
  for (const LevelGroup& group : groups) {
    T* part = saved ? saved + layer.map->saved_size(group.first) : nullptr;
    linear_forward<T>(layer, x.row_block(group.first, group.rows), y.row_block(group.first, group.rows), part,
                      group.level, scratch);
  }
}

template <class T>
void linear_backward(const Linear<T>& layer, ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved,
                     Matrix<T> dx, Into into_dx, T* gradients, std::span<const LevelGroup> groups,
                     Arena& scratch) {
  if (!layer.has_levels()) return linear_backward<T>(layer, dy, x, saved, dx, into_dx, gradients, 0, scratch);
  for (const LevelGroup& group : groups) {
    const Matrix<T> part = dx.data ? dx.row_block(group.first, group.rows) : dx;
    linear_backward<T>(layer, dy.row_block(group.first, group.rows), x.row_block(group.first, group.rows),
                       saved + layer.map->saved_size(group.first), part, into_dx, gradients, group.level,
                       scratch);
  }
}

#define QTF_INSTANTIATE_LINEAR(T)                                                                         \
  template void linear_forward<T>(const Linear<T>&, ConstMatrix<T>, Matrix<T>, T*, int, Arena&);          \
  template void linear_backward<T>(const Linear<T>&, ConstMatrix<T>, ConstMatrix<T>, const T*, Matrix<T>, \
                                   Into, T*, int, Arena&);                                                \
  template void linear_forward<T>(const Linear<T>&, ConstMatrix<T>, Matrix<T>, T*,                        \
                                  std::span<const LevelGroup>, Arena&);                                   \
  template void linear_backward<T>(const Linear<T>&, ConstMatrix<T>, ConstMatrix<T>, const T*, Matrix<T>, \
                                   Into, T*, std::span<const LevelGroup>, Arena&);
QTF_INSTANTIATE_LINEAR(float)
QTF_INSTANTIATE_LINEAR(double)
#undef QTF_INSTANTIATE_LINEAR

}  // namespace qtf::nn
