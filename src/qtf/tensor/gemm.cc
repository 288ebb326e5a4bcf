#include "qtf/tensor/gemm.h"

#include <type_traits>

#include "qtf/base/error.h"
#include "qtf/kernels/gemm.h"
#include "qtf/tensor/quantized_gemm.h"

namespace qtf {

namespace {

/// Packing space of the calling thread, made at its first product.
template <class T>
T* thread_scratch() {
  thread_local AlignedVector<T> scratch(static_cast<size_t>(kernels::gemm_scratch_size<T>()));
  return scratch.data();
}

}  // namespace

template <class T>
void gemm(ConstMatrix<T> a, ConstMatrix<T> b, Matrix<T> c, Into into) {
  QTF_ASSERT(a.rows == c.rows && b.cols == c.cols && a.cols == b.rows);
  kernels::gemm_strided<T>(a.rows, b.cols, a.cols, a.data, a.row_stride, a.col_stride, b.data, b.row_stride,
                           b.col_stride, c.data, c.row_stride, into == Into::accumulate, thread_scratch<T>());
}

template <class T>
void PackedMatrix<T>::pack(ConstMatrix<T> b) {
  codes_ = {};
  rows_ = b.rows;
  cols_ = b.cols;
  panels_.resize(static_cast<size_t>(kernels::gemm_packed_size<T>(rows_, cols_)));
  kernels::gemm_pack<T>(rows_, cols_, b.data, b.row_stride, b.col_stride, panels_.data());
}

template <class T>
void PackedMatrix<T>::pack_transposed(const QuantizedMatrix& w) {
  QTF_ASSERT((std::is_same_v<T, float>));
  panels_ = {};
  rows_ = w.cols;
  cols_ = w.rows;
  coding_ = w.coding;
  codes_.resize(static_cast<size_t>(quantized_panels_size(w)));
  pack_quantized_panels(w, codes_.data());
}

template <class T>
PackedView<T> pack(ConstMatrix<T> b, Arena& memory) {
  T* panels = memory.allocate<T>(kernels::gemm_packed_size<T>(b.rows, b.cols));
  kernels::gemm_pack<T>(b.rows, b.cols, b.data, b.row_stride, b.col_stride, panels);
  return {panels, b.rows, b.cols};
}

template <class T>
void gemm(ConstMatrix<T> a, PackedView<T> b, Matrix<T> c, Into into) {
  QTF_ASSERT(a.rows == c.rows && a.cols <= b.rows && c.cols <= b.cols && a.col_stride == 1);
  kernels::gemm_packed<T>(a.rows, c.cols, a.cols, a.data, a.row_stride, b.panels, b.rows, c.data,
                          c.row_stride, into == Into::accumulate);
}

template <class T>
void gemm(ConstMatrix<T> a, const PackedMatrix<T>& b, Matrix<T> c, Into into) {
  if constexpr (std::is_same_v<T, float>) {
    if (b.quantized()) return quantized_gemm(a, b, c, into);
  }
  gemm<T>(a, b.view(), c, into);
}

template void gemm<float>(ConstMatrix<float>, ConstMatrix<float>, Matrix<float>, Into);
template void gemm<double>(ConstMatrix<double>, ConstMatrix<double>, Matrix<double>, Into);
template PackedView<float> pack(ConstMatrix<float>, Arena&);
template PackedView<double> pack(ConstMatrix<double>, Arena&);
template void gemm<float>(ConstMatrix<float>, PackedView<float>, Matrix<float>, Into);
template void gemm<double>(ConstMatrix<double>, PackedView<double>, Matrix<double>, Into);
template void gemm<float>(ConstMatrix<float>, const PackedMatrix<float>&, Matrix<float>, Into);
template void gemm<double>(ConstMatrix<double>, const PackedMatrix<double>&, Matrix<double>, Into);
template class PackedMatrix<float>;
template class PackedMatrix<double>;

}  // namespace qtf
