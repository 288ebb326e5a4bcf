#include "qtf/tensor/gemm_columns.h"

#include "qtf/base/error.h"
#include "qtf/kernels/gemm.h"

namespace qtf {

template <class T>
void gemm_columns(ConstMatrix<T> a, const PackedMatrix<T>& b, Matrix<T> c, Range columns, Into into,
                  int64_t first) {
  QTF_ASSERT(a.rows == c.rows && first + a.cols <= b.rows() && c.cols <= b.cols() && a.col_stride == 1);
  QTF_ASSERT(columns.begin % kColumnGrain == 0 || columns.size() == 0);
  QTF_ASSERT(columns.end <= c.cols);
  kernels::gemm_columns<T>(a.rows, columns.begin, columns.end, a.cols, a.data, a.row_stride,
                           b.panels() + first * kernels::gemm_panel_width<T>(), b.rows(), c.data,
                           c.row_stride, into == Into::accumulate);
}

template void gemm_columns<float>(ConstMatrix<float>, const PackedMatrix<float>&, Matrix<float>, Range, Into,
                                  int64_t);
template void gemm_columns<double>(ConstMatrix<double>, const PackedMatrix<double>&, Matrix<double>, Range,
                                   Into, int64_t);

}  // namespace qtf
