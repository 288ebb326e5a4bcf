#include "qtf/nn/decode.h"

#include <algorithm>
#include <cmath>

#include "qtf/base/error.h"
#include "qtf/base/profile.h"
#include "qtf/kernels/rope.h"
#include "qtf/kernels/vector.h"
#include "qtf/nn/attention.h"
#include "qtf/tensor/gemm_columns.h"

namespace qtf::nn {

namespace {

template <class T>
void add_bias_columns(const Linear<T>& layer, Matrix<T> y, const TeamMember& team) {
  if (!layer.bias) return;
  const Range columns = team.part(y.cols, kColumnGrain);
  for (int64_t i = 0; i < y.rows; ++i)
    kernels::add<T>(columns.size(), layer.bias + columns.begin, y.row(i) + columns.begin);
}

/// linear_columns() for rows at several levels.
template <class T>
void linear_columns(const Linear<T>& layer, ConstMatrix<T> x, Matrix<T> y, std::span<const LevelGroup> groups,
                    TeamMember& team, T* shared, Arena& scratch) {
  if (!layer.has_levels()) return linear_columns<T>(layer, x, y, 0, team, shared, scratch);
  if (groups.size() == 1) return linear_columns<T>(layer, x, y, groups[0].level, team, shared, scratch);
  auto* own = scratch.allocate<LevelGroup>(static_cast<int64_t>(groups.size()));
  for (size_t g = 0; g < groups.size(); ++g)
    own[g] = {layer.level(groups[g].level), groups[g].first, groups[g].rows};
  layer.map->forward_level_columns(x, y, {own, groups.size()}, team, shared, scratch);
  add_bias_columns<T>(layer, y, team);
}

/// Layers with one input, outputs side by side in y. levels: one, or the rows' groups.
template <class T, class Levels>
void fan_columns(const std::vector<Linear<T>>& layers, ConstMatrix<T> x, Matrix<T> y, const Levels& levels,
                 TeamMember& team, T* shared, Arena& scratch) {
  int64_t column = 0;
  for (const auto& layer : layers) {
    linear_columns<T>(layer, x, y.col_block(column, layer.out()), levels, team, shared, scratch);
    column += layer.out();
    shared += layer.map->shared_size(x.rows);  // slower members may still read the layer's before
  }
}

template <class T>
int64_t shared_size(const std::vector<Linear<T>>& layers, int64_t rows) {
  int64_t size = 0;
  for (const auto& layer : layers) size += layer.map->shared_size(rows);
  return size;
}

/// Every member makes all rows for itself: less than a barrier costs.
template <class T>
Matrix<T> normalised(const Norm<T>& norm, ConstMatrix<T> x, Arena& scratch) {
  const Matrix<T> y(scratch.allocate<T>(x.rows * x.cols), x.rows, x.cols);
  norm_forward(norm, x, y, scratch.allocate<T>(norm.stats_size(x.rows)));
  return y;
}

/// put_back() of this member's columns.
template <class T>
void put_columns_back(const LevelRows& levels, ConstMatrix<T> sorted, Matrix<T> y, const TeamMember& team) {
  const Range columns = team.part(y.cols, kColumnGrain);
  put_back<T>(levels, sorted, y, columns.begin, columns.end);
}

/// sum += a in this member's columns.
template <class T>
void add_columns(ConstMatrix<T> a, Matrix<T> sum, const TeamMember& team) {
  const Range columns = team.part(sum.cols, kColumnGrain);
  for (int64_t i = 0; i < sum.rows; ++i)
    kernels::add<T>(columns.size(), a.data + i * a.row_stride + columns.begin, sum.row(i) + columns.begin);
}

template <class T>
void activate_columns(Activation activation, Matrix<T> up, Matrix<T> hidden, const TeamMember& team) {
  const ProfileScope profile(kActivation);
  const Range columns = team.part(hidden.cols, kColumnGrain);
  for (int64_t i = 0; i < up.rows; ++i) {
    const T* gate = up.row(i) + columns.begin;
    T* to = hidden.row(i) + columns.begin;
    if (activation == Activation::gelu) {
      kernels::gelu<T>(columns.size(), gate, to);
    } else {
      kernels::silu_mul<T>(columns.size(), gate, gate + hidden.cols, to);
    }
  }
}

/// Attention of one sequence's rows on one key head: everything that reads or writes this head's cache.
template <class T>
class KeyHead {
 public:
  KeyHead(const BlockSpec<T>& spec, const Segment<T>& segment, int64_t layer, int64_t head, Matrix<T> qkv)
      : spec_(spec),
        segment_(segment),
        layer_(layer),
        head_(head),
        group_(spec.heads / spec.kv_heads),
        rows_(qkv.row_block(segment.row, segment.rows)) {}

  /// nats: of all heads and rows (block.h's head_place), or null.
  void attend(Matrix<T> attended, T* nats, Arena& scratch) const {
    const ArenaScope scope(scratch);
    const int64_t size = spec_.head_dim;
    if (!segment_.cache->codes()) prefetch_keys(segment_.position + segment_.rows);
    for (int64_t i = 0; i < segment_.rows; ++i) store(i);
    T* log_sum_exp = scratch.allocate<T>(segment_.rows);
    for (int64_t head = head_ * group_; head < (head_ + 1) * group_; ++head) {
      cached_attention_forward<T>(
          rows_.col_block(head * size, size), *segment_.cache, layer_, head_, segment_.position,
          T{1} / std::sqrt(static_cast<T>(size)),
          attended.row_block(segment_.row, segment_.rows).col_block(head * size, size), log_sum_exp,
          nats ? nats + head_place(spec_, segment_, head) : nullptr, scratch);
    }
  }

 private:
  /// The product with the keys reads a few lines of each row in turn, which no hardware prefetcher follows.
  void prefetch_keys(int64_t seen) const {
    const ConstMatrix<T> keys = segment_.cache->keys_t(layer_, head_, seen);
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    for (int64_t i = 0; i < keys.rows; ++i)
      for (int64_t t = 0; t < seen; t += kLine) __builtin_prefetch(keys.data + i * keys.row_stride + t);
  }

  /// Rotates a row's queries and key, and puts key and value into the cache.
  void store(int64_t row) const {
    T* queries = rows_.row(row) + head_ * group_ * spec_.head_dim;
    T* key = rows_.row(row) + (spec_.heads + head_) * spec_.head_dim;
    rotate(group_, segment_.position + row, queries);
    rotate(1, segment_.position + row, key);
    segment_.cache->store(layer_, head_, segment_.position + row, key, key + spec_.kv_heads * spec_.head_dim);
  }

  void rotate(int64_t heads, int64_t position, T* x) const {
    if (spec_.cosines.empty()) return;
    const auto at = static_cast<size_t>(position * spec_.head_dim / 2);
    kernels::rope<T>(heads, spec_.head_dim, &spec_.cosines[at], &spec_.sines[at], T{1}, x);
  }

  const BlockSpec<T>& spec_;
  const Segment<T>& segment_;
  int64_t layer_, head_, group_;
  Matrix<T> rows_;
};

template <class T>
void attend_part(const BlockSpec<T>& spec, const Pass<T>& pass, int64_t layer, Matrix<T> qkv,
                 Matrix<T> attended, T* nats, Arena& scratch) {
  const ProfileScope profile(kAttention);
  const Range units = pass.team->part(static_cast<int64_t>(pass.segments.size()) * spec.kv_heads);
  for (int64_t unit = units.begin; unit < units.end; ++unit) {
    const Segment<T>& segment = pass.segments[static_cast<size_t>(unit / spec.kv_heads)];
    KeyHead<T>(spec, segment, layer, unit % spec.kv_heads, qkv).attend(attended, nats, scratch);
  }
}

}  // namespace

template <class T>
void linear_columns(const Linear<T>& layer, ConstMatrix<T> x, Matrix<T> y, int level, TeamMember& team,
                    T* shared, Arena& scratch) {
  layer.map->forward_columns(x, y, layer.level(level), team, shared, scratch);
  add_bias_columns<T>(layer, y, team);
}

template <class T>
TeamActivations<T> make_team_activations(std::span<const Block<T>> blocks, const BlockSpec<T>& spec,
                                         int64_t rows, int64_t width, Arena& arena) {
  int64_t hidden = 0, up = 0, shared = 0;
  for (const Block<T>& block : blocks) {
    hidden = block.down.in();
    up = hidden * static_cast<int64_t>(block.up.size());
    shared = std::max({shared, shared_size(block.qkv, rows), block.attention_out.map->shared_size(rows),
                       shared_size(block.up, rows), block.down.map->shared_size(rows)});
  }
  const auto matrix = [&](int64_t cols) { return Matrix<T>(arena.allocate<T>(rows * cols), rows, cols); };
  return {.qkv = matrix(spec.qkv_width()),
          .attended = matrix(spec.heads * spec.head_dim),
          .x_mid = matrix(width),
          .up = matrix(up),
          .hidden = matrix(hidden),
          .shared = arena.allocate<T>(shared),
          .nats = arena.allocate<T>(rows * spec.heads)};
}

template <class T>
void block_decode(const Block<T>& block, const BlockSpec<T>& spec, const Pass<T>& pass, int64_t layer,
                  ConstMatrix<T> x, Matrix<T> y, const TeamActivations<T>& s, Arena& scratch) {
  const ArenaScope scope(scratch);
  TeamMember& team = *pass.team;
  const ConstMatrix<T> norm1 = normalised(block.attention_norm, x, scratch);
  {
    const ProfileScope profile(kProjections);
    fan_columns<T>(block.qkv, norm1, s.qkv, pass.level, team, s.shared, scratch);
  }
  team.barrier();
  T* const asked = pass.entropy_of(layer);
  // What decides between the halves needs them on every member, which is less work than a barrier.
  const bool middle = pass.has_middle(layer), on_all = middle || pass.chooses(layer);
  T* const entropy = on_all ? scratch.allocate<T>(pass.rows) : team.index() == 0 ? asked : nullptr;
  attend_part(spec, pass, layer, s.qkv, s.attended, asked || on_all ? s.nats : nullptr, scratch);
  team.barrier();
  if (entropy) {
    for (const auto& segment : pass.segments) segment_entropies(spec, segment, s.nats, entropy);
    if (on_all && asked && team.index() == 0) std::copy_n(entropy, pass.rows, asked);
  }
  // Every member decides for itself and, where levels differ, sorts rows for itself.
  const LevelRows levels = levels_after_attention(pass, layer, entropy, x, scratch);
  {
    const ProfileScope profile(kProjections);
    const Matrix<T> out = room_in_order(levels, s.x_mid, scratch);
    linear_columns<T>(block.attention_out, in_order(levels, s.attended, scratch), out, levels.groups, team,
                      s.shared, scratch);
    put_columns_back<T>(levels, out, s.x_mid, team);
  }
  add_columns(x, s.x_mid, team);
  team.barrier();
  if (middle) pass.middle->forward(pass, entropy, s.x_mid, scratch);
  const Matrix<T> norm2 = normalised<T>(block.feed_forward_norm, s.x_mid, scratch);
  const ProfileScope profile(kFeedForward);
  fan_columns<T>(block.up, in_order(levels, norm2, scratch), s.up, levels.groups, team, s.shared, scratch);
  activate_columns(spec.activation, s.up, s.hidden, team);
  team.barrier();
  const Matrix<T> out = room_in_order(levels, y, scratch);
  linear_columns<T>(block.down, s.hidden, out, levels.groups, team, s.shared, scratch);
  put_columns_back<T>(levels, out, y, team);
  add_columns<T>(s.x_mid, y, team);
  team.barrier();
}

#define QTF_INSTANTIATE_DECODE(T)                                                                      \
  template void linear_columns<T>(const Linear<T>&, ConstMatrix<T>, Matrix<T>, int, TeamMember&, T*,   \
                                  Arena&);                                                             \
  template TeamActivations<T> make_team_activations<T>(std::span<const Block<T>>, const BlockSpec<T>&, \
                                                       int64_t, int64_t, Arena&);                      \
  template void block_decode<T>(const Block<T>&, const BlockSpec<T>&, const Pass<T>&, int64_t,         \
                                ConstMatrix<T>, Matrix<T>, const TeamActivations<T>&, Arena&);
QTF_INSTANTIATE_DECODE(float)
QTF_INSTANTIATE_DECODE(double)
#undef QTF_INSTANTIATE_DECODE

}  // namespace qtf::nn
