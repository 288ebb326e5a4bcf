// Keys and values of the tokens that a sequence has seen, a layer and key head each. Keys lie transposed, so
// that a decoded token's scores are one product along contiguous memory. They may be kept in fewer bits
// (nn/kv_codes.h).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "qtf/base/aligned.h"
#include "qtf/base/error.h"
#include "qtf/nn/kv_codes.h"
#include "qtf/tensor/matrix.h"

namespace qtf::nn {

/// The cache of one sequence. Filled by the transformer's forward; length() tokens are valid.
template <class T>
class KvCache {
 public:
  /// type: of the codes that it holds in place of numbers; float only.
  KvCache(int64_t layers, int64_t kv_heads, int64_t head_dim, int64_t capacity,
          std::optional<CodeType> type = {})
      : kv_heads_(kv_heads),
        head_dim_(head_dim),
        capacity_(capacity),
        keys_(static_cast<size_t>(type ? 0 : layers * kv_heads * head_dim * capacity)),
        values_(keys_.size()),
        routed_(static_cast<size_t>(capacity) + 1),
        levels_(static_cast<size_t>(layers * capacity)) {
    QTF_ASSERT(!type || (std::is_same_v<T, float>));
    if (type) codes_.emplace(*type, layers * kv_heads, head_dim, capacity);
  }

  int64_t length() const { return length_; }
  int64_t capacity() const { return capacity_; }
  /// Of keys and values.
  size_t bytes() const { return codes_ ? codes_->bytes() : 2 * keys_.size() * sizeof(T); }

  /// Forgets all but the first `length` tokens.
  void truncate(int64_t length) { length_ = std::min(length_, length); }
  /// Counts `tokens` more as valid, once every layer has stored them.
  void advance(int64_t tokens) { length_ += tokens; }

  /// Stores one token's key and value of a layer and head at `position`.
  void store(int64_t layer, int64_t head, int64_t position, const T* key, const T* value) {
    if constexpr (std::is_same_v<T, float>) {
      if (codes_) return codes_->store(layer * kv_heads_ + head, position, key, value);
    }
    T* keys = keys_.data() + offset(layer, head);
    for (int64_t i = 0; i < head_dim_; ++i) keys[i * capacity_ + position] = key[i];
    std::copy_n(value, head_dim_, values_.data() + offset(layer, head) + position * head_dim_);
  }

  /// How many of the tokens before `position`, at most length(), passed the quantum layer; a prefix keeps its
  /// count when the cache is truncated to it.
  int64_t routed_before(int64_t position) const { return routed_[static_cast<size_t>(position)]; }
  /// Stores whether the token at `position` did; in the order of positions.
  void keep_route(int64_t position, bool routed) {
    routed_[static_cast<size_t>(position) + 1] = routed_[static_cast<size_t>(position)] + routed;
  }

  /// The nested level that the token at `position` took in a layer, 0 where none was chosen for it.
  uint8_t level(int64_t layer, int64_t position) const {
    return levels_[static_cast<size_t>(layer * capacity_ + position)];
  }
  void keep_level(int64_t layer, int64_t position, uint8_t level) {
    levels_[static_cast<size_t>(layer * capacity_ + position)] = level;
  }

  /// The model's last hidden state of the token at `position`, D numbers, which policies keep here that ask
  /// for what the model expected next; zeros where none was kept.
  std::span<T> output(int64_t position, int64_t width) {
    outputs_.resize(static_cast<size_t>(capacity_ * width));
    return {outputs_.data() + position * width, static_cast<size_t>(width)};
  }
  /// What such a policy made of the output before for the token at `position`.
  T hint(int64_t position) const {
    const auto at = static_cast<size_t>(position);
    return at < hints_.size() ? hints_[at] : T{0};
  }
  void keep_hint(int64_t position, T hint) {
    hints_.resize(static_cast<size_t>(capacity_));
    hints_[static_cast<size_t>(position)] = hint;
  }

  /// Null: numbers, which the next two give.
  const KvCodes* codes() const { return codes_ ? &*codes_ : nullptr; }
  CodedHead coded(int64_t layer, int64_t head) const { return codes_->head(layer * kv_heads_ + head); }

  /// [head_dim, length].
  ConstMatrix<T> keys_t(int64_t layer, int64_t head, int64_t length) const {
    return {keys_.data() + offset(layer, head), head_dim_, length, capacity_};
  }
  /// [length, head_dim].
  ConstMatrix<T> values(int64_t layer, int64_t head, int64_t length) const {
    return {values_.data() + offset(layer, head), length, head_dim_};
  }

 private:
  int64_t offset(int64_t layer, int64_t head) const {
    return (layer * kv_heads_ + head) * head_dim_ * capacity_;
  }

  int64_t kv_heads_, head_dim_, capacity_;
  int64_t length_ = 0;
  AlignedVector<T> keys_, values_;
  std::optional<KvCodes> codes_;
  std::vector<int32_t> routed_;  // [capacity + 1], of the tokens before each position
  std::vector<uint8_t> levels_;  // [layers, capacity]
  std::vector<T> outputs_;       // [capacity, D], once one is kept
  std::vector<T> hints_;         // [capacity], once one is kept
};

}  // namespace qtf::nn
