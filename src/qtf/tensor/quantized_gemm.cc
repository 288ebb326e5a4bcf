#include "qtf/tensor/quantized_gemm.h"

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/kernels/gemm.h"

namespace qtf {

namespace {

constexpr int64_t kFewRows = 16;              // up to this many, codes are decoded in registers
constexpr int64_t kDecodedBytes = 256 << 10;  // of panels that more rows share, decoded: they stay in L2

kernels::QuantizedPanels panels_of(const PackedMatrix<float>& b, int64_t first) {
  return {b.codes(), b.rows(), b.coding().block_of(b.rows()), first};
}

/// Decoded panels of the calling thread.
float* decoded_panels(int64_t size) {
  thread_local AlignedVector<float> room;
  if (static_cast<int64_t>(room.size()) < size) room.resize(static_cast<size_t>(size));
  return room.data();
}

}  // namespace

int64_t quantized_panels_size(const QuantizedMatrix& w) {
  return with_code(w.coding.type, [&](auto code) {
    return kernels::quantized_size<decltype(code)>(w.cols, w.rows, w.coding.block_of(w.cols));
  });
}

void pack_quantized_panels(const QuantizedMatrix& w, uint8_t* panels) {
  with_code(w.coding.type, [&](auto code) {
    kernels::quantized_pack<decltype(code)>(w.cols, w.rows, w.coding.block_of(w.cols), w.codes, w.scales,
                                            panels);
  });
}

void quantized_gemm_columns(ConstMatrix<float> a, const PackedMatrix<float>& b, Matrix<float> c,
                            Range columns, Into into, int64_t first) {
  with_code(b.coding().type, [&](auto code) {
    kernels::quantized_columns<decltype(code)>(a.rows, columns.begin, columns.end, a.cols, a.data,
                                               a.row_stride, panels_of(b, first), c.data, c.row_stride,
                                               into == Into::accumulate);
  });
}

void quantized_gemm(ConstMatrix<float> a, const PackedMatrix<float>& b, Matrix<float> c, Into into) {
  QTF_ASSERT(a.rows == c.rows && a.cols <= b.rows() && c.cols <= b.cols() && a.col_stride == 1);
  if (a.rows <= kFewRows) return quantized_gemm_columns(a, b, c, {0, c.cols}, into, 0);
  const int64_t width = kernels::gemm_panel_width<float>(), panel_size = std::max<int64_t>(a.cols, 1) * width;
  const int64_t panels =
      std::max<int64_t>(1, kDecodedBytes / (panel_size * static_cast<int64_t>(sizeof(float))));
  float* decoded = decoded_panels(panels * panel_size);
  for (int64_t begin = 0; begin < c.cols; begin += panels * width) {
    const int64_t cols = std::min(panels * width, c.cols - begin);
    with_code(b.coding().type, [&](auto code) {
      kernels::quantized_unpack<decltype(code)>(begin / width, (cols + width - 1) / width, a.cols,
                                                panels_of(b, 0), decoded);
    });
    kernels::gemm_packed<float>(a.rows, cols, a.cols, a.data, a.row_stride, decoded, a.cols, c.data + begin,
                                c.row_stride, into == Into::accumulate);
  }
}

}  // namespace qtf
