#include "qtf/edge/decoder.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "qtf/adapt/gate_signal.h"
#include "qtf/adapt/rank_rule.h"
#include "qtf/edge/product.h"
#include "qtf/kernels/gemm.h"
#include "qtf/kernels/norm.h"
#include "qtf/kernels/rope.h"
#include "qtf/kernels/softmax.h"
#include "qtf/kernels/vector.h"
#include "qtf/nn/attention_entropy.h"

namespace qtf::edge {

namespace {

/// Rows of queries at once: so few read keys and values where they lie (kernels/gemm.h packs them for more).
constexpr int64_t kQueries = 4;

/// Outputs of the maps before the activation.
int64_t up_width(const Header& h) {
  return h.family == Family::llama ? 2 * int64_t{h.feed_forward} : h.feed_forward;
}

int64_t most_scratch(const File& file, int64_t rows) {
  int64_t most = 0;
  for (uint32_t i = 0; i < file.header().maps.count; ++i)
    most = std::max(most, scratch_size(file, file.map(i), rows));
  return most;
}

}  // namespace

Decoder::Decoder(const File& file, const Shape& shape, Arena& arena) : file_(&file), shape_(shape) {
  const Header& h = file.header();
  const int64_t rows = shape.batch, width = h.width;
  const int64_t cache = int64_t{h.layers} * h.kv_heads * file.head_dim() * shape.context;
  keys_ = arena.take<float>(cache);
  values_ = arena.take<float>(cache);
  x_ = arena.take<float>(rows * width);
  middle_ = arena.take<float>(rows * width);
  norm_ = arena.take<float>(rows * width);
  work_ = arena.take<float>(rows * std::max(file.qkv_width() + width, up_width(h) + h.feed_forward));
  scores_ = arena.take<float>(kQueries * shape.context);
  statistics_ = arena.take<float>(std::max(2 * rows, kQueries));
  if (shape.policy) {
    entropies_ = arena.take<float>(rows);
    levels_ = arena.take<uint8_t>(int64_t{h.layers} * shape.context);
  }
  scratch_ = arena.take<float>(most_scratch(file, rows));
  logits_ = arena.take<float>(h.vocabulary);
}

void Decoder::feed(const int32_t* tokens, int64_t count) {
  if (count == 0) return;
  const Header& h = file_->header();
  int64_t rows = 0;
  for (int64_t begin = 0; begin < count; begin += rows) {
    rows = std::min<int64_t>(shape_.batch, count - begin);
    embed(tokens + begin, rows);
    for (uint32_t layer = 0; layer < h.layers; ++layer) run_block(layer, rows);
    length_ += rows;
  }
  norm(h.final_norm, h.final_norm_bias, 1, x_ + (rows - 1) * h.width, norm_);
  apply(*file_, file_->map(h.head), shape_.level, 1, norm_, h.width, logits_, h.vocabulary, scratch_);
  has_logits_ = true;
}

void Decoder::embed(const int32_t* tokens, int64_t rows) {
  const Header& h = file_->header();
  const auto* positions = file_->at<float>(h.positions);
  for (int64_t i = 0; i < rows; ++i) {
    float* x = x_ + i * h.width;
    gather(*file_, file_->map(h.embedding), shape_.level, static_cast<uint32_t>(tokens[i]), x, scratch_);
    if (positions) kernels::add<float>(h.width, positions + (length_ + i) * h.width, x);
  }
}

/// x = x + attention(norm(x)), then x + feed_forward(norm(x)).
void Decoder::run_block(uint32_t layer, int64_t rows) {
  const Header& h = file_->header();
  const Block& block = file_->block(layer);
  const int64_t width = h.width, hidden_width = h.feed_forward;

  float *qkv = work_, *attended = work_ + rows * file_->qkv_width();
  norm(block.attention_norm, block.attention_norm_bias, rows, x_, norm_);
  fan(block.qkv, 3, shape_.level, rows, norm_, width, qkv, file_->qkv_width());
  rotate_and_store(layer, rows, qkv);
  attend(layer, rows, qkv, attended);
  choose_levels(layer, rows);
  apply_by_level(&block.attention_out, 1, layer, rows, attended, width, middle_, width);
  kernels::add<float>(rows * width, x_, middle_);

  float *up = work_, *hidden = work_ + rows * up_width(h);
  norm(block.feed_forward_norm, block.feed_forward_norm_bias, rows, middle_, norm_);
  apply_by_level(block.up, 2, layer, rows, norm_, width, up, up_width(h));
  if (h.family == Family::gpt2) {
    kernels::gelu<float>(rows * hidden_width, up, hidden);
  } else {
    for (int64_t i = 0; i < rows; ++i) {
      const float* gate = up + i * up_width(h);
      kernels::silu_mul<float>(hidden_width, gate, gate + hidden_width, hidden + i * hidden_width);
    }
  }
  apply_by_level(&block.down, 1, layer, rows, hidden, hidden_width, x_, width);
  kernels::add<float>(rows * width, middle_, x_);
}

void Decoder::norm(const Span& weight, const Span& bias, int64_t rows, const float* x, float* y) {
  const Header& h = file_->header();
  const auto* w = file_->at<float>(weight);
  if (h.family == Family::gpt2)
    kernels::layer_norm<float>(rows, h.width, x, w, file_->at<float>(bias), h.norm_epsilon, y, statistics_);
  else
    kernels::rms_norm<float>(rows, h.width, x, w, h.norm_epsilon, y, statistics_);
}

void Decoder::fan(const uint32_t* maps, int count, uint32_t level, int64_t rows, const float* x, int64_t ldx,
                  float* y, int64_t ldy) {
  for (int i = 0; i < count && maps[i] != kNone; ++i) {
    const Map& map = file_->map(maps[i]);
    apply(*file_, map, level, rows, x, ldx, y, ldy, scratch_);
    y += map.out;
  }
}

/// A level for each row by the policy, where it governs the block: nn's LevelChooser for few rows in a row.
void Decoder::choose_levels(uint32_t layer, int64_t rows) {
  if (!levels_) return;
  const Policy& policy = *file_->policy(shape_.policy);
  const BlockRanks& ranks = file_->at<BlockRanks>(policy.blocks)[layer];
  uint8_t* levels = levels_ + int64_t{layer} * shape_.context;
  std::fill_n(levels + length_, rows, uint8_t{0});
  if (!ranks.thresholds.count) return;
  const Header& h = file_->header();
  const uint32_t mean = shape_.mean_rank ? shape_.mean_rank : policy.mean;
  const adapt::LevelRule rule{static_cast<int>(h.levels),
                              file_->at<int64_t>(ranks.thresholds) + (mean / kMeanStep - 1) * (h.levels - 1),
                              policy.hysteresis};
  const std::span quantiles(file_->at<int64_t>(ranks.quantiles), ranks.quantiles.count);
  const std::span gate(file_->at<int64_t>(ranks.gate), ranks.gate.count);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t position = length_ + i;
    const auto entropy = static_cast<double>(entropies_[i]);
    const double signal = gate.empty() ? entropy : adapt::gate_signal<float>(gate, x_ + i * h.width, entropy);
    const int previous = rule.hysteresis > 0 && position > 1 ? levels[position - 1] : 0;
    const int64_t standing = adapt::share_below(quantiles, adapt::to_units(signal));
    // The first token's attention says nothing.
    levels[position] =
        static_cast<uint8_t>(position == 0 ? rule.levels : adapt::level_at(rule, standing, previous));
  }
}

/// fan(), run by run of rows that took the same level.
void Decoder::apply_by_level(const uint32_t* maps, int count, uint32_t layer, int64_t rows, const float* x,
                             int64_t ldx, float* y, int64_t ldy) {
  for (int64_t begin = 0, end = 0; begin < rows; begin = end) {
    const uint32_t chosen = level(length_ + begin, layer);
    for (end = begin + 1; end < rows && level(length_ + end, layer) == chosen; ++end) {
    }
    fan(maps, count, chosen ? chosen : shape_.level, end - begin, x + begin * ldx, ldx, y + begin * ldy, ldy);
  }
}

void Decoder::rotate_and_store(uint32_t layer, int64_t rows, float* qkv) {
  const Header& h = file_->header();
  const int64_t head_dim = file_->head_dim(), half = head_dim / 2;
  const float *cosines = file_->at<float>(h.cosines), *sines = file_->at<float>(h.sines);
  for (int64_t i = 0; i < rows; ++i) {
    float* row = qkv + i * file_->qkv_width();
    const int64_t position = length_ + i;
    if (cosines)
      kernels::rope<float>(h.heads + h.kv_heads, head_dim, cosines + position * half, sines + position * half,
                           1, row);
    for (uint32_t kv = 0; kv < h.kv_heads; ++kv) {
      const float *key = row + (h.heads + kv) * head_dim, *value = key + h.kv_heads * head_dim;
      float* of_head = keys(layer, kv) + position;
      for (int64_t d = 0; d < head_dim; ++d) of_head[d * shape_.context] = key[d];
      std::copy_n(value, head_dim, values(layer, kv) + position * head_dim);
    }
  }
}

void Decoder::attend(uint32_t layer, int64_t rows, const float* qkv, float* attended) {
  const Header& h = file_->header();
  const int64_t head_dim = file_->head_dim(), ld = file_->qkv_width(), width = h.width;
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  float nats[kQueries];
  if (entropies_) std::fill_n(entropies_, rows, 0.0F);
  for (int64_t begin = 0; begin < rows; begin += kQueries) {
    const int64_t queries = std::min(kQueries, rows - begin), first = length_ + begin, seen = first + queries;
    for (int64_t head = 0; head < h.heads; ++head) {
      const int64_t kv = head / (h.heads / h.kv_heads);
      const float* q = qkv + begin * ld + head * head_dim;
      float* out = attended + begin * width + head * head_dim;
      kernels::gemm_strided<float>(queries, seen, head_dim, q, ld, 1, keys(layer, kv), shape_.context, 1,
                                   scores_, seen, false, nullptr);
      kernels::softmax_causal<float>(queries, seen, first, scale, scores_, seen, statistics_,
                                     entropies_ ? nats : nullptr);
      for (int64_t i = 0; entropies_ && i < queries; ++i) entropies_[begin + i] += nats[i];
      kernels::gemm_strided<float>(queries, head_dim, seen, scores_, seen, 1, values(layer, kv), head_dim, 1,
                                   out, width, false, nullptr);
    }
  }
  for (int64_t i = 0; entropies_ && i < rows; ++i)
    entropies_[i] = nn::attention_entropy(entropies_[i], h.heads, length_ + i);
}

}  // namespace qtf::edge
