#include "qtf/tensor/gemm_columns.h"

#include <type_traits>

#include "qtf/base/error.h"
#include "qtf/kernels/gemm.h"
#include "qtf/tensor/quantized_gemm.h"

namespace qtf {

template <class T>
void gemm_columns(ConstMatrix<T> a, const PackedMatrix<T>& b, Matrix<T> c, Range columns, Into into,
                  int64_t first) {
  QTF_ASSERT(a.rows == c.rows && first + a.cols <= b.rows() && c.cols <= b.cols() && a.col_stride == 1);
  QTF_ASSERT(columns.begin % kColumnGrain == 0 || columns.size() == 0);
  QTF_ASSERT(columns.end <= c.cols);
  if constexpr (std::is_same_v<T, float>) {
    if (b.quantized()) return quantized_gemm_columns(a, b, c, columns, into, first);
  }
  kernels::gemm_columns<T>(a.rows, columns.begin, columns.end, a.cols, a.data, a.row_stride,
                           b.panels() + first * kernels::gemm_panel_width<T>(), b.rows(), c.data,
                           c.row_stride, into == Into::accumulate);
}

template void gemm_columns<float>(ConstMatrix<float>, const PackedMatrix<float>&, Matrix<float>, Range, Into,
                                  int64_t);
template void gemm_columns<double>(ConstMatrix<double>, const PackedMatrix<double>&, Matrix<double>, Range,
                                   Into, int64_t);

}  // namespace qtf
