#include "qtf/nn/kv_codes.h"

#include "qtf/kernels/gemm.h"
#include "qtf/kernels/vector.h"
#include "qtf/tensor/quantized_gemm.h"

namespace qtf::nn {

namespace {

int64_t even(int64_t n) {
  return (n + 1) / 2 * 2;
}

/// The first [k, n] of a packed B.
PackedView<float> unpack(CodeType type, const kernels::QuantizedPanels& b, int64_t k, int64_t n,
                         Arena& memory) {
  auto* panels = memory.allocate<float>(kernels::gemm_packed_size<float>(k, n));
  with_code(type, [&](auto code) {
    kernels::quantized_unpack<decltype(code)>(0, (n + b.width - 1) / b.width, k, b, panels);
  });
  return {panels, k, n};
}

void multiply(CodeType type, ConstMatrix<float> a, const kernels::QuantizedPanels& b, Matrix<float> c) {
  with_code(type, [&](auto code) {
    kernels::quantized_columns<decltype(code)>(a.rows, 0, c.cols, a.cols, a.data, a.row_stride, b, c.data,
                                               c.row_stride, false);
  });
}

}  // namespace

void CodedHead::scores(ConstMatrix<float> q, Matrix<float> p) const {
  multiply(type, q, keys_t, p);
}

void CodedHead::weigh(Matrix<float> p, Matrix<float> out) const {
  scale(p);
  multiply(type, p, values, out);
}

void CodedHead::scale(Matrix<float> p) const {
  if (!value_scales) return;
  for (int64_t i = 0; i < p.rows; ++i) kernels::multiply<float>(p.cols, value_scales, p.row(i));
}

PackedView<float> CodedHead::unpack_keys_t(int64_t head_dim, int64_t tokens, Arena& memory) const {
  return unpack(type, keys_t, head_dim, tokens, memory);
}

PackedView<float> CodedHead::unpack_values(int64_t head_dim, int64_t tokens, Arena& memory) const {
  return unpack(type, values, tokens, head_dim, memory);
}

KvCodes::KvCodes(CodeType type, int64_t heads, int64_t head_dim, int64_t capacity)
    : type_(type), head_dim_(head_dim), capacity_(capacity) {
  with_code(type, [&]<class Code>(Code) {
    key_bytes_ = kernels::quantized_size<Code>(head_dim, capacity, even(head_dim));
    value_bytes_ = kernels::quantized_size<Code>(capacity, head_dim, even(capacity));
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
  return {.type = type_,
          .keys_t = {keys_.data() + head * key_bytes_, head_dim_, even(head_dim_)},
          .values = {values_.data() + head * value_bytes_, capacity_, even(capacity_)},
          .value_scales = scales_.empty() ? nullptr : scales_.data() + head * capacity_};
}

}  // namespace qtf::nn
