#include "qtf/nn/block.h"

#include <algorithm>
#include <cmath>

#include "qtf/base/profile.h"
#include "qtf/base/random.h"
#include "qtf/kernels/rope.h"
#include "qtf/kernels/vector.h"
#include "qtf/nn/attention.h"

namespace qtf::nn {

namespace {

constexpr const char* kResidual = "residual additions";

template <class T>
int64_t width_of(const std::vector<Linear<T>>& layers) {
  int64_t width = 0;
  for (const auto& layer : layers) width += layer.out();
  return width;
}

template <class T>
int64_t saved_size(const std::vector<Linear<T>>& layers, int64_t rows) {
  int64_t size = 0;
  for (const auto& layer : layers) size += layer.map->saved_size(rows);
  return size;
}

/// Layers with one input, outputs side by side in y. levels: one, or the rows' groups.
template <class T, class Levels>
void fan_forward(const std::vector<Linear<T>>& layers, ConstMatrix<T> x, Matrix<T> y, T* saved,
                 const Levels& levels, Arena& scratch) {
  int64_t column = 0;
  for (const auto& layer : layers) {
    linear_forward<T>(layer, x, y.col_block(column, layer.out()), saved, levels, scratch);
    column += layer.out();
    if (saved) saved += layer.map->saved_size(x.rows);
  }
}

template <class T, class Levels>
void fan_backward(const std::vector<Linear<T>>& layers, ConstMatrix<T> dy, ConstMatrix<T> x, const T* saved,
                  Matrix<T> dx, T* gradients, const Levels& levels, Arena& scratch) {
  int64_t column = 0;
  Into into = Into::overwrite;
  for (const auto& layer : layers) {
    linear_backward<T>(layer, dy.col_block(column, layer.out()), x, saved, dx, into, gradients, levels,
                       scratch);
    column += layer.out();
    saved += layer.map->saved_size(x.rows);
    into = Into::accumulate;
  }
}

/// Rotates the queries and keys of every row; direction -1 rotates gradients back.
template <class T>
void rotate(const BlockSpec<T>& spec, std::span<const Segment<T>> segments, Matrix<T> qkv, T direction) {
  if (spec.cosines.empty()) return;
  const ProfileScope profile("rotary positions");
  const int64_t half = spec.head_dim / 2;
  for (const auto& segment : segments) {
    for (int64_t i = 0; i < segment.rows; ++i) {
      const int64_t at = (segment.position + i) * half;
      kernels::rope<T>(spec.heads + spec.kv_heads, spec.head_dim, &spec.cosines[static_cast<size_t>(at)],
                       &spec.sines[static_cast<size_t>(at)], direction, qkv.row(segment.row + i));
    }
  }
}

/// The columns of one head in qkv, and in attended.
template <class T>
struct HeadViews {
  const BlockSpec<T>& spec;
  int64_t kv_of(int64_t head) const { return head / (spec.heads / spec.kv_heads); }
  Matrix<T> q(Matrix<T> qkv, int64_t head) const {
    return qkv.col_block(head * spec.head_dim, spec.head_dim);
  }
  Matrix<T> k(Matrix<T> qkv, int64_t kv) const {
    return qkv.col_block((spec.heads + kv) * spec.head_dim, spec.head_dim);
  }
  Matrix<T> v(Matrix<T> qkv, int64_t kv) const {
    return qkv.col_block((spec.heads + spec.kv_heads + kv) * spec.head_dim, spec.head_dim);
  }
};

template <class T>
void store_in_cache(const BlockSpec<T>& spec, const Segment<T>& segment, int64_t layer, Matrix<T> qkv) {
  const HeadViews<T> views{spec};
  for (int64_t kv = 0; kv < spec.kv_heads; ++kv) {
    for (int64_t i = 0; i < segment.rows; ++i) {
      segment.cache->store(layer, kv, segment.position + i, views.k(qkv, kv).row(segment.row + i),
                           views.v(qkv, kv).row(segment.row + i));
    }
  }
}

template <class T>
T attention_scale(const BlockSpec<T>& spec) {
  return T{1} / std::sqrt(static_cast<T>(spec.head_dim));
}

template <class T>
void attend(const BlockSpec<T>& spec, const Pass<T>& pass, int64_t layer, Matrix<T> qkv, Matrix<T> attended,
            T* log_sum_exp, T* entropy, Arena& scratch) {
  const ArenaScope scope(scratch);
  const HeadViews<T> views{spec};
  const ProfileScope profile(kAttention);
  T* const nats = entropy ? scratch.allocate<T>(pass.rows * spec.heads) : nullptr;
  for (const auto& segment : pass.segments)
    if (segment.cache) store_in_cache(spec, segment, layer, qkv);
  if (pass.team) pass.team->barrier();  // a sequence's rows may be dealt out over the team
  for (const auto& segment : pass.segments) {
    const auto rows = qkv.row_block(segment.row, segment.rows);
    for (int64_t head = 0; head < spec.heads; ++head) {
      const int64_t kv = views.kv_of(head);
      const auto out =
          attended.row_block(segment.row, segment.rows).col_block(head * spec.head_dim, spec.head_dim);
      const int64_t at = head_place(spec, segment, head);
      T* const entropies = nats ? nats + at : nullptr;
      if (segment.cache) {
        cached_attention_forward<T>(views.q(rows, head), *segment.cache, layer, kv, segment.position,
                                    attention_scale(spec), out, log_sum_exp + at, entropies, scratch);
      } else {
        attention_forward<T>(views.q(rows, head), views.k(rows, kv).transposed(), views.v(rows, kv),
                             segment.position, attention_scale(spec), out, log_sum_exp + at, entropies,
                             scratch);
      }
    }
    if (nats) segment_entropies(spec, segment, nats, entropy);
  }
}

template <class T>
void attend_backward(const BlockSpec<T>& spec, std::span<const Segment<T>> segments, Matrix<T> qkv,
                     const T* log_sum_exp, ConstMatrix<T> dattended, Matrix<T> dqkv, Arena& scratch) {
  const ProfileScope profile(kAttention);
  const HeadViews<T> views{spec};
  std::fill_n(dqkv.data, dqkv.rows * dqkv.row_stride, T{0});
  for (const auto& segment : segments) {
    const auto rows = qkv.row_block(segment.row, segment.rows),
               drows = dqkv.row_block(segment.row, segment.rows);
    for (int64_t head = 0; head < spec.heads; ++head) {
      const int64_t kv = views.kv_of(head);
      const auto dout =
          dattended.row_block(segment.row, segment.rows).col_block(head * spec.head_dim, spec.head_dim);
      attention_backward<T>(views.q(rows, head), views.k(rows, kv), views.v(rows, kv), attention_scale(spec),
                            log_sum_exp + head_place(spec, segment, head), dout, views.q(drows, head),
                            views.k(drows, kv), views.v(drows, kv), scratch);
    }
  }
}

template <class T>
void activate(Activation activation, Matrix<T> up, Matrix<T> hidden) {
  const ProfileScope profile(kActivation);
  if (activation == Activation::gelu) return kernels::gelu<T>(up.rows * up.cols, up.data, hidden.data);
  for (int64_t i = 0; i < up.rows; ++i) {
    kernels::silu_mul<T>(hidden.cols, up.row(i), up.row(i) + hidden.cols, hidden.row(i));
  }
}

template <class T>
void activate_backward(Activation activation, Matrix<T> up, Matrix<T> dhidden, Matrix<T> dup) {
  const ProfileScope profile(kActivation);
  if (activation == Activation::gelu) {
    return kernels::gelu_backward<T>(up.rows * up.cols, up.data, dhidden.data, dup.data);
  }
  const int64_t n = dhidden.cols;
  for (int64_t i = 0; i < up.rows; ++i) {
    kernels::silu_mul_backward<T>(n, up.row(i), up.row(i) + n, dhidden.row(i), dup.row(i), dup.row(i) + n);
  }
}

template <class T>
void add_into(ConstMatrix<T> a, Matrix<T> sum) {
  const ProfileScope profile(kResidual);
  kernels::add<T>(a.rows * a.cols, a.data, sum.data);
}

/// The gradient that enters a branch: dx itself, or a dropped copy.
template <class T>
Matrix<T> branch_gradient(const Dropout& dropout, int64_t site, Matrix<T> dx, Arena& arena) {
  if (dropout.rate == 0) return dx;
  const Matrix<T> copy(arena.allocate<T>(dx.rows * dx.cols), dx.rows, dx.cols);
  std::copy_n(dx.data, dx.rows * dx.cols, copy.data);
  apply_dropout(dropout, site, copy);
  return copy;
}

}  // namespace

template <class T>
LevelRows levels_after_attention(const Pass<T>& pass, int64_t layer, const T* entropy, ConstMatrix<T> x,
                                 Arena& arena) {
  if (!pass.chooses(layer)) return rows_at(pass.level, pass.rows, arena);
  const ProfileScope profile("choice of ranks");
  auto* levels = arena.allocate<uint8_t>(pass.rows);
  pass.chooser->choose(pass, layer, entropy, x, levels, arena);
  return sort_by_level({levels, static_cast<size_t>(pass.rows)}, arena);
}

template <class T>
void segment_entropies(const BlockSpec<T>& spec, const Segment<T>& segment, const T* nats, T* entropy) {
  const T* of_heads = nats + head_place(spec, segment, 0);
  for (int64_t i = 0; i < segment.rows; ++i) {
    entropy[segment.row + i] =
        attention_entropy<T>(of_heads + i, spec.heads, segment.rows, segment.position + i);
  }
}

template <class T>
void apply_dropout(const Dropout& dropout, int64_t site, Matrix<T> x) {
  if (dropout.rate == 0) return;
  const ProfileScope profile("dropout");
  const uint64_t key = Random{dropout.key, 0xD609}.bits(static_cast<uint64_t>(site + 1));
  const int64_t run = dropout.run_rows ? dropout.run_rows : x.rows;
  for (int64_t row = 0, token = dropout.first_token; row < x.rows; row += run, token += dropout.run_step) {
    kernels::dropout<T>(std::min(run, x.rows - row) * x.cols, key, static_cast<uint64_t>(token * x.cols),
                        static_cast<T>(dropout.rate), x.row(row), x.row(row));
  }
}

template <class T>
void block_forward(const Block<T>& block, const BlockSpec<T>& spec, const Pass<T>& pass, int64_t layer,
                   ConstMatrix<T> x, Matrix<T> y, BlockSaved<T>* saved, Arena& arena) {
  const int64_t rows = pass.rows, width = x.cols, hidden_width = block.down.in();
  const Arena::Mark start = arena.mark();
  BlockSaved<T> s{};
  const auto matrix = [&](T*& data, int64_t cols) {
    data = arena.allocate<T>(rows * cols);
    return Matrix<T>(data, rows, cols);
  };
  const auto keep = [&](int64_t size) { return saved ? arena.allocate<T>(size) : nullptr; };
  s.x = x.data;

  const Matrix<T> norm1 = matrix(s.norm1, width);
  norm_forward(block.attention_norm, x, norm1,
               s.norm1_stats = arena.allocate<T>(block.attention_norm.stats_size(rows)));
  const Matrix<T> qkv = matrix(s.qkv, spec.qkv_width());
  {
    const ProfileScope profile(kProjections);
    fan_forward<T>(block.qkv, norm1, qkv, s.qkv_saved = keep(saved_size(block.qkv, rows)), pass.level, arena);
  }
  rotate<T>(spec, pass.segments, qkv, T{1});
  const Matrix<T> attended = matrix(s.attended, spec.heads * spec.head_dim);
  T* entropy = pass.entropy_of(layer);
  if (!entropy && (pass.has_middle(layer) || pass.chooses(layer))) entropy = arena.allocate<T>(rows);
  attend(spec, pass, layer, qkv, attended, s.log_sum_exp = arena.allocate<T>(rows * spec.heads), entropy,
         arena);
  s.levels = levels_after_attention(pass, layer, entropy, x, arena);
  const std::span<const LevelGroup> groups = s.levels.groups;
  const Matrix<T> x_mid = matrix(s.x_mid, width);
  {
    const ProfileScope profile(kProjections);
    const Matrix<T> sorted = in_order(s.levels, attended, arena), out = room_in_order(s.levels, x_mid, arena);
    s.attended = sorted.data;
    linear_forward<T>(block.attention_out, sorted, out,
                      s.out_saved = keep(block.attention_out.map->saved_size(rows)), groups, arena);
    put_back<T>(s.levels, out, x_mid);
  }
  apply_dropout(pass.dropout, 2 * layer, x_mid);
  add_into(x, x_mid);
  if (pass.has_middle(layer)) pass.middle->forward(pass, entropy, x_mid, arena);

  const Matrix<T> norm2 = matrix(s.norm2, width);
  norm_forward<T>(block.feed_forward_norm, x_mid, norm2,
                  s.norm2_stats = arena.allocate<T>(block.feed_forward_norm.stats_size(rows)));
  const Matrix<T> up = matrix(s.up, width_of(block.up));
  const Matrix<T> hidden = matrix(s.hidden, hidden_width);
  {
    const ProfileScope profile(kFeedForward);
    const Matrix<T> sorted = in_order(s.levels, norm2, arena), out = room_in_order(s.levels, y, arena);
    s.norm2 = sorted.data;
    fan_forward<T>(block.up, sorted, up, s.up_saved = keep(saved_size(block.up, rows)), groups, arena);
    activate(spec.activation, up, hidden);
    linear_forward<T>(block.down, hidden, out, s.down_saved = keep(block.down.map->saved_size(rows)), groups,
                      arena);
    put_back<T>(s.levels, out, y);
  }
  apply_dropout(pass.dropout, 2 * layer + 1, y);
  add_into<T>(x_mid, y);

  if (saved) {
    *saved = s;
  } else {
    arena.release(start);
  }
}

template <class T>
void block_backward(const Block<T>& block, const BlockSpec<T>& spec, const Pass<T>& pass, int64_t layer,
                    const BlockSaved<T>& saved, Matrix<T> dx, T* gradients, Arena& arena) {
  const ArenaScope scope(arena);
  const int64_t rows = pass.rows, width = dx.cols;
  const auto view = [&](auto* data, int64_t cols) { return Matrix<T>(const_cast<T*>(data), rows, cols); };
  const auto scratch = [&](int64_t cols) { return Matrix<T>(arena.allocate<T>(rows * cols), rows, cols); };
  const Matrix<T> dnorm = scratch(width);
  const LevelRows& levels = saved.levels;

  {
    const ArenaScope branch(arena);
    const Matrix<T> hidden = view(saved.hidden, block.down.in()), up = view(saved.up, width_of(block.up));
    const Matrix<T> dhidden = scratch(hidden.cols), dup = scratch(up.cols);
    const Matrix<T> dy = in_order(levels, branch_gradient(pass.dropout, 2 * layer + 1, dx, arena), arena);
    const Matrix<T> dsorted = room_in_order(levels, dnorm, arena);
    {
      const ProfileScope profile(kFeedForward);
      linear_backward<T>(block.down, dy, hidden, saved.down_saved, dhidden, Into::overwrite, gradients,
                         levels.groups, arena);
      activate_backward(spec.activation, up, dhidden, dup);
      fan_backward<T>(block.up, dup, view(saved.norm2, width), saved.up_saved, dsorted, gradients,
                      levels.groups, arena);
    }
    put_back<T>(levels, dsorted, dnorm);
    norm_backward<T>(block.feed_forward_norm, dnorm, view(saved.x_mid, width), saved.norm2_stats, dx,
                     gradients);
  }
  if (pass.has_middle(layer)) pass.middle->backward(pass, dx, gradients, arena);
  {
    const ArenaScope branch(arena);
    const Matrix<T> attended = view(saved.attended, spec.heads * spec.head_dim);
    const Matrix<T> qkv = view(saved.qkv, spec.qkv_width());
    const Matrix<T> dattended = scratch(attended.cols), dqkv = scratch(qkv.cols);
    const Matrix<T> dy = in_order(levels, branch_gradient(pass.dropout, 2 * layer, dx, arena), arena);
    const Matrix<T> dsorted = room_in_order(levels, dattended, arena);
    {
      const ProfileScope profile(kProjections);
      linear_backward<T>(block.attention_out, dy, attended, saved.out_saved, dsorted, Into::overwrite,
                         gradients, levels.groups, arena);
    }
    put_back<T>(levels, dsorted, dattended);
    attend_backward<T>(spec, pass.segments, qkv, saved.log_sum_exp, dattended, dqkv, arena);
    rotate<T>(spec, pass.segments, dqkv, T{-1});
    {
      const ProfileScope profile(kProjections);
      fan_backward<T>(block.qkv, dqkv, view(saved.norm1, width), saved.qkv_saved, dnorm, gradients,
                      pass.level, arena);
    }
    norm_backward<T>(block.attention_norm, dnorm, view(saved.x, width), saved.norm1_stats, dx, gradients);
  }
}

#define QTF_INSTANTIATE_BLOCK(T)                                                                           \
  template LevelRows levels_after_attention<T>(const Pass<T>&, int64_t, const T*, ConstMatrix<T>, Arena&); \
  template void segment_entropies<T>(const BlockSpec<T>&, const Segment<T>&, const T*, T*);                \
  template void apply_dropout<T>(const Dropout&, int64_t, Matrix<T>);                                      \
  template void block_forward<T>(const Block<T>&, const BlockSpec<T>&, const Pass<T>&, int64_t,            \
                                 ConstMatrix<T>, Matrix<T>, BlockSaved<T>*, Arena&);                       \
  template void block_backward<T>(const Block<T>&, const BlockSpec<T>&, const Pass<T>&, int64_t,           \
                                  const BlockSaved<T>&, Matrix<T>, T*, Arena&);
QTF_INSTANTIATE_BLOCK(float)
QTF_INSTANTIATE_BLOCK(double)
#undef QTF_INSTANTIATE_BLOCK

}  // namespace qtf::nn
