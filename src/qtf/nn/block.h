// One transformer block, x + attention(norm(x)) then x + feed_forward(norm(x)), forward and backward, for
// both families: Llama (RMSNorm, rotary positions, SwiGLU, grouped-query attention) and GPT-2 (LayerNorm,
// GELU, biases).
#pragma once

#include <span>
#include <vector>

#include "qtf/base/arena.h"
#include "qtf/base/team.h"
#include "qtf/nn/kv_cache.h"
#include "qtf/nn/level_rows.h"
#include "qtf/nn/linear.h"
#include "qtf/nn/norm.h"

namespace qtf::nn {

enum class Activation { swiglu, gelu };

/// Weights of one block.
/// Of the parts of a block in a profile (base/profile.h).
inline constexpr const char* kProjections = "attention projections";
inline constexpr const char* kAttention = "attention";
inline constexpr const char* kFeedForward = "feed-forward";
inline constexpr const char* kActivation = "activation";

template <class T>
struct Block {
  Norm<T> attention_norm;
  std::vector<Linear<T>> qkv;  ///< q, k, v, or one map with all three; their outputs lie side by side
  Linear<T> attention_out;
  Norm<T> feed_forward_norm;
  std::vector<Linear<T>> up;  ///< gate and up (SwiGLU), or one map (GELU)
  Linear<T> down;
};

/// Sizes and tables that all blocks of a model share.
template <class T>
struct BlockSpec {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  Activation activation = Activation::swiglu;
  std::span<const T> cosines;  ///< [context, head_dim/2], empty without rotary positions
  std::span<const T> sines;

  int64_t qkv_width() const { return (heads + 2 * kv_heads) * head_dim; }
};

/// Consecutive rows of a block's input that belong to one sequence.
template <class T>
struct Segment {
  int64_t row = 0;
  int64_t rows = 0;
  int64_t position = 0;         ///< of the first row
  KvCache<T>* cache = nullptr;  ///< null in training: the rows are the whole sequence
};

/// Which numbers are dropped: a pure function of (key, layer, site, token, coordinate).
struct Dropout {
  double rate = 0;
  uint64_t key = 0;         ///< of the training step
  int64_t first_token = 0;  ///< number of the first row's token in the step's batch
  /// Rows of consecutive tokens, and from the first token of one such run to that of the next; 0: all rows
  /// are consecutive.
  int64_t run_rows = 0, run_step = 0;

  int64_t token_of(int64_t row) const {
    return first_token + (run_rows ? row / run_rows * run_step + row % run_rows : row);
  }
};

/// What forward keeps for backward; all in the worker's arena.
template <class T>
struct BlockSaved {
  const T* x = nullptr;
  T *norm1_stats, *norm1, *qkv, *qkv_saved, *log_sum_exp, *attended, *out_saved;
  T *x_mid, *norm2_stats, *norm2, *up, *up_saved, *hidden, *down_saved;
  /// Levels of the output projection and the feed-forward layer; attended, norm2, up and hidden lie in its
  /// order.
  LevelRows levels;
};

template <class T>
struct Pass;

/// What a model does to the residual between a block's attention and its feed-forward layer.
template <class T>
class MidLayer {
 public:
  virtual ~MidLayer() = default;

  /// Changes x[rows, D] in place. entropy[rows]: the block's attention entropies. What backward needs stays
  /// in the arena. In block_decode every member of the team calls it with the same x, which is complete.
  virtual void forward(const Pass<T>& pass, const T* entropy, Matrix<T> x, Arena& arena) = 0;

  /// dx[rows, D] holds the gradient by the output on entry and by the input on return.
  virtual void backward(const Pass<T>& pass, Matrix<T> dx, T* gradients, Arena& arena) = 0;
};

/// What picks a nested level for every row once a block's attention is known: that of the block's output
/// projection and feed-forward layer.
template <class T>
class LevelChooser {
 public:
  virtual ~LevelChooser() = default;

  /// Whether it picks levels in this block. The same for all members of a team.
  virtual bool governs(int64_t layer) const = 0;

  /// levels[rows] = 1 (the smallest) or more. entropy[rows]: the block's attention entropies; x[rows, D]: the
  /// block's input. In block_decode every member of the team calls it with the same rows.
  virtual void choose(const Pass<T>& pass, int64_t layer, const T* entropy, ConstMatrix<T> x, uint8_t* levels,
                      Arena& arena) = 0;
};

/// How one pass over some rows runs.
template <class T>
struct Pass {
  std::span<const Segment<T>> segments;
  int64_t rows = 0;
  int level = 0;  ///< of nested maps, 0: the largest; where `chooser` governs, not of what it picks for
  Dropout dropout;
  TeamMember* team = nullptr;  ///< of workers that extend the same caches, each by rows of its own
  /// Where each layer writes its attention entropies (nn/attention.h), entropy[layer][row]; a null pointer,
  /// or no entry: they are not computed.
  std::span<T* const> entropy = {};
  MidLayer<T>* middle = nullptr;  ///< of one block, or null
  int64_t middle_layer = -1;      ///< of which one
  LevelChooser<T>* chooser = nullptr;

  bool chooses(int64_t layer) const { return chooser && chooser->governs(layer); }
  bool has_middle(int64_t layer) const { return middle && middle_layer == layer; }
  T* entropy_of(int64_t layer) const {
    return layer < static_cast<int64_t>(entropy.size()) ? entropy[static_cast<size_t>(layer)] : nullptr;
  }
};

/// y[rows, D] = block(x). saved: filled for backward, or null (inference; then nothing stays in the arena).
template <class T>
void block_forward(const Block<T>& block, const BlockSpec<T>& spec, const Pass<T>& pass, int64_t layer,
                   ConstMatrix<T> x, Matrix<T> y, BlockSaved<T>* saved, Arena& arena);

/// dx[rows, D] holds dy on entry and the gradient by x on return; the weights' is added to `gradients`.
template <class T>
void block_backward(const Block<T>& block, const BlockSpec<T>& spec, const Pass<T>& pass, int64_t layer,
                    const BlockSaved<T>& saved, Matrix<T> dx, T* gradients, Arena& arena);

/// The levels of a block's maps after its attention: the chooser's, where it governs, else the pass'.
template <class T>
LevelRows levels_after_attention(const Pass<T>& pass, int64_t layer, const T* entropy, ConstMatrix<T> x,
                                 Arena& arena);

/// Where a head's numbers of a segment's rows begin, one a row, in arrays of [rows, heads] numbers.
template <class T>
int64_t head_place(const BlockSpec<T>& spec, const Segment<T>& segment, int64_t head) {
  return segment.row * spec.heads + head * segment.rows;
}

/// entropy[row] of a segment's rows from all heads' entropies in nats, which lie as head_place() says.
template <class T>
void segment_entropies(const BlockSpec<T>& spec, const Segment<T>& segment, const T* nats, T* entropy);

/// Drops numbers of x[rows, D] at one of a model's dropout sites (a block has sites 2·layer and 2·layer + 1;
/// the embedding is site -1). The same call on a gradient is its backward.
template <class T>
void apply_dropout(const Dropout& dropout, int64_t site, Matrix<T> x);

}  // namespace qtf::nn
