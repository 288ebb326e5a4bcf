#include "qtf/nn/kv_codes.h"

#include "qtf/kernels/gemm_columns.h"
#include "qtf/kernels/vector.h"
#include "qtf/tensor/quantized_gemm.h"

namespace qtf::nn {

namespace {

int64_t even(int64_t n) {
  return (n + 1) / 2 * 2;
}

/// Of values: a head's numbers in one panel of whole vectors.
int64_t panel_width(int64_t head_dim) {
  return (head_dim + kernels::kColumnGrain - 1) / kernels::kColumnGrain * kernels::kColumnGrain;
}

/// The first [k, n] of a packed B, in panels of its width.
const float* unpack(CodeType type, const kernels::QuantizedPanels& b, int64_t k, int64_t n, Arena& memory) {
  const int64_t panels = (n + b.width - 1) / b.width;
  auto* unpacked = memory.allocate<float>(panels * b.width * k);
  with_code(type, [&](auto code) { kernels::quantized_unpack<decltype(code)>(0, panels, k, b, unpacked); });
  return unpacked;
}

void multiply(CodeType type, ConstMatrix<float> a, const kernels::QuantizedPanels& b, Matrix<float> c) {
  with_code(type, [&](auto code) {
    kernels::quantized_columns<decltype(code)>(a.rows, 0, c.cols, a.cols, a.data, a.row_stride, b, c.data,
                                               c.row_stride, false);
  });
}

/// The scales of values, into their tokens' probabilities.
void scale(const float* scales, Matrix<float> p) {
  for (int64_t i = 0; scales && i < p.rows; ++i) kernels::multiply<float>(p.cols, scales, p.row(i));
}

}  // namespace

void CodedHead::scores(ConstMatrix<float> q, Matrix<float> p) const {
  multiply(type, q, keys_t, p);
}

void CodedHead::weigh(Matrix<float> p, Matrix<float> out) const {
  scale(value_scales, p);
  multiply(type, p, values, out);
}

UnpackedHead::UnpackedHead(const CodedHead& head, int64_t head_dim, int64_t tokens, Arena& memory)
    : head_(head),
      tokens_(tokens),
      keys_t_{unpack(head.type, head.keys_t, head_dim, tokens, memory), head_dim, tokens},
      values_(unpack(head.type, head.values, tokens, head_dim, memory)) {}

void UnpackedHead::scores(ConstMatrix<float> q, Matrix<float> p) const {
  gemm<float>(q, keys_t_, p);
}

void UnpackedHead::weigh(Matrix<float> p, Matrix<float> out) const {
  scale(head_.value_scales, p);
  kernels::gemm_columns<float>(p.rows, 0, out.cols, p.cols, p.data, p.row_stride, values_, tokens_, out.data,
                               out.row_stride, false, head_.values.width);
}

KvCodes::KvCodes(CodeType type, int64_t heads, int64_t head_dim, int64_t capacity)
    : type_(type), head_dim_(head_dim), capacity_(capacity) {
  with_code(type, [&]<class Code>(Code) {
    key_bytes_ = kernels::quantized_size<Code>(head_dim, capacity, even(head_dim));
    value_bytes_ = kernels::quantized_size<Code>(capacity, head_dim, even(capacity), panel_width(head_dim));
    if (Code::kScaled) scales_.resize(static_cast<size_t>(heads * capacity));
  });
  keys_.resize(static_cast<size_t>(heads * key_bytes_));
  values_.resize(static_cast<size_t>(heads * value_bytes_));
}

void KvCodes::store(int64_t head, int64_t position, const float* key, const float* value) {
  const CodedHead to = this->head(head);
  with_code(type_, [&]<class Code>(Code) {
    kernels::quantized_put_column<Code>(position, head_dim_, key, to.keys_t,
                                        keys_.data() + head * key_bytes_);
    const float scale = kernels::quantized_put_row<Code>(position, head_dim_, value, to.values,
                                                         values_.data() + head * value_bytes_);
    if (Code::kScaled) scales_[static_cast<size_t>(head * capacity_ + position)] = scale;
  });
}

CodedHead KvCodes::head(int64_t head) const {
  return {
      .type = type_,
      .keys_t = {keys_.data() + head * key_bytes_, head_dim_, even(head_dim_)},
      .values = {values_.data() + head * value_bytes_, capacity_, even(capacity_), 0, panel_width(head_dim_)},
      .value_scales = scales_.empty() ? nullptr : scales_.data() + head * capacity_};
}

}  // namespace qtf::nn
