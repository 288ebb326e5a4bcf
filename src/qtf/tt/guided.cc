#include "qtf/tt/guided.h"

#include <algorithm>

#include "qtf/kernels/vector.h"

namespace qtf::tt {

namespace {

WeightShape dense_shape(const WeightShape& shape) {
  WeightShape dense;
  dense.out = shape.out, dense.in = shape.in;
  return dense;
}

template <class T>
Matrix<T> new_matrix(int64_t rows, int64_t cols, Arena& scratch) {
  return {scratch.allocate<T>(rows * cols), rows, cols};
}

template <class T>
Matrix<T> scaled(ConstMatrix<T> m, T factor, Arena& scratch) {
  const Matrix<T> copy = new_matrix<T>(m.rows, m.cols, scratch);
  for (int64_t i = 0; i < m.rows; ++i) {
    std::copy_n(m.data + i * m.row_stride, m.cols, copy.row(i));
    kernels::scale<T>(m.cols, factor, copy.row(i));
  }
  return copy;
}

/// y = (1 - share)·y + share·guided.
template <class T>
void mix(T share, ConstMatrix<T> guided, Matrix<T> y) {
  for (int64_t i = 0; i < y.rows; ++i) {
    kernels::scale<T>(y.cols, 1 - share, y.row(i));
    kernels::axpy<T>(y.cols, share, guided.data + i * guided.row_stride, y.row(i));
  }
}

}  // namespace

template <class T>
GuidedMap<T>::GuidedMap(std::unique_ptr<LinearMap<T>> inner)
    : LinearMap<T>(inner->shape()), inner_(std::move(inner)), dense_(dense_shape(this->shape())) {}

template <class T>
void GuidedMap<T>::set_guide(const T* guide, double share, int64_t gradient_gap) {
  guide_ = guide;
  share_ = static_cast<T>(share);
  gradient_gap_ = gradient_gap;
}

template <class T>
void GuidedMap<T>::prepare(const T* cores, Use use) {
  inner_->prepare(cores, use);
  guiding_ = use == Use::training && share_ > 0;
  if (guiding_) dense_.prepare(guide_, use);
}

template <class T>
void GuidedMap<T>::forward(ConstMatrix<T> x, Matrix<T> y, T* saved, int level, Arena& scratch) const {
  inner_->forward(x, y, saved, level, scratch);
  if (!guiding_) return;
  const ArenaScope scope(scratch);
  const Matrix<T> guided = new_matrix<T>(y.rows, y.cols, scratch);
  dense_.forward(x, guided, nullptr, 0, scratch);
  mix<T>(share_, guided, y);
}

template <class T>
void GuidedMap<T>::backward(ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved, Matrix<T> dx, Into into_dx,
                            T* dfactors, int level, Arena& scratch) const {
  if (!guiding_) return inner_->backward(dy, x, saved, dx, into_dx, dfactors, level, scratch);
  const ArenaScope scope(scratch);
  const Matrix<T> own = scaled<T>(dy, 1 - share_, scratch), guided = scaled<T>(dy, share_, scratch);
  inner_->backward(own, x, saved, dx, into_dx, dfactors, level, scratch);
  dense_.backward(guided, x, nullptr, dx, Into::accumulate, dfactors + gradient_gap_, 0, scratch);
}

template <class T>
void GuidedMap<T>::gather(std::span<const int32_t> rows, Matrix<T> y, T* saved, int level,
                          Arena& scratch) const {
  inner_->gather(rows, y, saved, level, scratch);
  if (!guiding_) return;
  const ArenaScope scope(scratch);
  const Matrix<T> guided = new_matrix<T>(y.rows, y.cols, scratch);
  dense_.gather(rows, guided, nullptr, 0, scratch);
  mix<T>(share_, guided, y);
}

template <class T>
void GuidedMap<T>::gather_backward(std::span<const int32_t> rows, ConstMatrix<T> dy, const T* saved,
                                   T* dfactors, int level, Arena& scratch) const {
  if (!guiding_) return inner_->gather_backward(rows, dy, saved, dfactors, level, scratch);
  const ArenaScope scope(scratch);
  const Matrix<T> own = scaled<T>(dy, 1 - share_, scratch), guided = scaled<T>(dy, share_, scratch);
  inner_->gather_backward(rows, own, saved, dfactors, level, scratch);
  dense_.gather_backward(rows, guided, nullptr, dfactors + gradient_gap_, 0, scratch);
}

template class GuidedMap<float>;
template class GuidedMap<double>;

}  // namespace qtf::tt
