// A text's caches and the forward pass that extends it. The same layers and the same order of sums as
// nn/decode.h, in memory that is laid out once.
#pragma once

#include "qtf/edge/arena.h"
#include "qtf/edge/file.h"

namespace qtf::edge {

/// A session's options, zeros replaced.
struct Shape {
  uint32_t context = 0, batch = 0, level = 0, text_bytes = 0, policy = 0, mean_rank = 0;
};

class Decoder {
 public:
  Decoder() = default;
  /// Takes its memory; file must outlive it. With an arena that only counts nothing may be called.
  Decoder(const File& file, const Shape& shape, Arena& arena);

  /// Reads valid tokens that fit the context.
  void feed(const int32_t* tokens, int64_t count);
  /// Percent; 0: what the model was calibrated for.
  void set_mean_rank(uint32_t percent) { shape_.mean_rank = percent; }
  void rewind(int64_t length) { length_ = length, has_logits_ = false; }

  int64_t length() const { return length_; }
  uint32_t policy() const { return shape_.policy; }
  /// Of a token that was read, in a block; 0: none was chosen.
  uint32_t level(int64_t position, int64_t layer) const {
    return levels_ ? levels_[layer * shape_.context + position] : 0;
  }
  uint32_t context() const { return shape_.context; }
  /// [vocabulary], or null.
  const float* logits() const { return has_logits_ ? logits_ : nullptr; }

 private:
  void embed(const int32_t* tokens, int64_t rows);
  void run_block(uint32_t layer, int64_t rows);
  void attend(uint32_t layer, int64_t rows, const float* qkv, float* attended);
  void choose_levels(uint32_t layer, int64_t rows);
  void apply_by_level(const uint32_t* maps, int count, uint32_t layer, int64_t rows, const float* x,
                      int64_t ldx, float* y, int64_t ldy);
  void rotate_and_store(uint32_t layer, int64_t rows, float* qkv);
  void norm(const Span& weight, const Span& bias, int64_t rows, const float* x, float* y);
  /// Maps with one input, their outputs side by side in y.
  void fan(const uint32_t* maps, int count, uint32_t level, int64_t rows, const float* x, int64_t ldx,
           float* y, int64_t ldy);
  float* keys(uint32_t layer, int64_t head) const { return keys_ + cache_place(layer, head); }
  float* values(uint32_t layer, int64_t head) const { return values_ + cache_place(layer, head); }
  int64_t cache_place(uint32_t layer, int64_t head) const {
    return (int64_t{layer} * file_->header().kv_heads + head) * file_->head_dim() * shape_.context;
  }

  const File* file_ = nullptr;
  Shape shape_;
  int64_t length_ = 0;
  bool has_logits_ = false;
  float *keys_ = nullptr,
        *values_ = nullptr;  // [layers, kv_heads, head_dim, context] and […, context, head_dim]
  float *x_ = nullptr, *middle_ = nullptr, *norm_ = nullptr;  // [batch, width]
  float* work_ = nullptr;    // attention's activations, then the feed-forward layer's
  float* scores_ = nullptr;  // [kQueries, context]
  float* statistics_ = nullptr;
  float* entropies_ = nullptr;  // [batch], sums over heads in nats, then attention entropies
  uint8_t* levels_ = nullptr;   // [layers, context], with a policy
  float* scratch_ = nullptr;    // of maps
  float* logits_ = nullptr;
};

}  // namespace qtf::edge
