// The decoder-only transformer: parameters, training step of one worker, and inference with caches. The same
// layers and products serve both, so that a token's result does not depend on how its sequence was cut or
// batched.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "qtf/base/arena.h"
#include "qtf/base/thread_pool.h"
#include "qtf/base/zeroed_array.h"
#include "qtf/model/config.h"
#include "qtf/model/parameters.h"
#include "qtf/model/quantized_weights.h"
#include "qtf/model/quantum_path.h"
#include "qtf/model/rank_scheduler.h"
#include "qtf/nn/block.h"
#include "qtf/nn/head.h"
#include "qtf/nn/kv_cache.h"
#include "qtf/tt/guided.h"

namespace qtf::model {

/// Sequences of equal length for one worker. Row-major [sequences, length].
struct TokenBatch {
  std::span<const int32_t> inputs;
  std::span<const int32_t> targets;  ///< the next tokens; negative: left out of the loss
  int64_t sequences = 0;
  int64_t length = 0;
  int64_t rows() const { return sequences * length; }
};

/// What a quantum layer's router saw in a step, to be calibrated by.
struct RouterSamples {
  int64_t tokens = 0, routed = 0;
  std::vector<float> entropies;   ///< of every token
  std::vector<float> selections;  ///< of those for which the quota had room
};

/// Attention entropies of a step's tokens but the first of each sequence, a layer each, to move a rank
/// policy's distributions by.
using RankSamples = std::vector<std::vector<float>>;

/// How one worker's part of a training step runs.
struct StepOptions {
  double gradient_scale = 1;  ///< the loss is Σ nats · gradient_scale
  nn::Dropout dropout;
  /// Nested training (sandwich): after the largest level, these levels learn from it by distillation.
  std::vector<int> distilled_levels;
  /// Adaptive training: after these, the levels that this policy picks learn from the largest too.
  const RankScheduler* scheduler = nullptr;
  RankSamples* rank_samples = nullptr;  ///< gets the tokens' entropies at the largest level
  size_t distillations() const { return distilled_levels.size() + (scheduler ? 1 : 0); }
  /// Each from every n-th sequence only, with n times the weight, n being their number.
  bool in_turns = false;
  int64_t first_sequence = 0;  ///< its number, which says whose turn it is: from 0 on, level after level
  RouterSamples* router_samples = nullptr;  ///< gets the tokens' numbers at the largest level
  std::function<void()>
      block_done;  ///< called as a block's gradients are final, from the last block to the first
};

template <class T>
class Transformer;

/// A trained model that a step learns from, beside the text. It may have another architecture and width, but
/// must have the vocabulary and at least the sequences' context, and be prepared.
template <class T>
struct Teacher {
  const Transformer<T>* model = nullptr;  ///< null: none
  double weight = 0.5;     ///< w of (1 − w)·cross-entropy + w·τ²·KL(teacher ‖ student)
  double temperature = 1;  ///< τ
};

/// New tokens of one sequence for inference.
template <class T>
struct Chunk {
  std::span<const int32_t> tokens;
  nn::KvCache<T>* cache = nullptr;
};

/// The tokens of a batch of chunks, end to end.
template <class T>
struct NewTokens {
  std::vector<nn::Segment<T>> segments;  ///< one a chunk
  std::vector<int32_t> tokens;
  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
};

/// Pointers to the rows of a matrix [layers, rows], as nn::Pass takes them; none if its data is null.
template <class T>
std::vector<T*> row_pointers(Matrix<T> matrix) {
  std::vector<T*> rows;
  for (int64_t i = 0; matrix.data && i < matrix.rows; ++i) rows.push_back(matrix.row(i));
  return rows;
}

template <class T>
class Inference;

/// Not copyable: layers point into the parameters. Const members may run on many threads, each with its own
/// arena.
template <class T>
class Transformer {
 public:
  /// Allocates zero parameters; call initialise() or fill parameters() and then prepare().
  explicit Transformer(const ModelConfig& config);
  Transformer(const Transformer&) = delete;
  Transformer& operator=(const Transformer&) = delete;

  const ModelConfig& config() const { return config_; }
  const ParameterLayout& layout() const { return layout_; }
  /// Of a quantized model what the codes stand for, written out at the first call. Who may change them leaves
  /// a model of floats: it is quantized no more.
  std::span<T> parameters();
  std::span<const T> parameters() const;

  /// Gives the model its cores as codes, which inference runs as they are; the other parameters stay. Drops
  /// the execution plan: merged matrices are not what the codes are of. T: float.
  void set_codes(QuantizedWeights codes);
  /// Null: the cores are floats.
  const QuantizedWeights* codes() const { return codes_ ? &*codes_ : nullptr; }

  void initialise(uint64_t seed);

  /// Replaces the execution plan (ModelConfig::plan); prepare() comes next. Throws InputError for a plan that
  /// does not fit.
  void set_plan(std::map<std::string, std::vector<int>> plan);

  /// Packs the weights after a change of the parameters, split over the pool's workers.
  void prepare(tt::Use use, ThreadPool& pool);

  /// Length of a worker's gradient buffer: parameters(), then the factors of maps whose factors are not their
  /// cores, then the guides.
  int64_t gradient_size() const { return gradient_size_; }

  /// Where the gradients of a block's own cores, norms and biases lie.
  Range block_gradients(size_t block) const;

  /// Takes the summed factor gradients of such maps to their cores, in place (split over the pool).
  void pull_back(T* gradients, ThreadPool& pool) const;

  /// Adds the gradients of a batch to gradients[gradient_size()]; returns Σ nats of the largest level with
  /// the targets (with the teacher, where its weight is 1). The largest level learns from the teacher.
  double forward_backward(const TokenBatch& batch, const StepOptions& options, T* gradients, Arena& arena,
                          const Teacher<T>& teacher = {}) const;

  /// Losses in nats per token of whole sequences, no gradients. Returns their sum; token_nats[rows] may be
  /// null. skip: rows at the start of the batch that are not scored (and cost no logits). routes: what it
  /// gets is of all rows. entropy: as in hidden_states.
  double loss(const TokenBatch& batch, const Levels& levels, T* token_nats, Arena& arena, int64_t skip = 0,
              const RouteTrace<T>& routes = {}, Matrix<T> entropy = {}) const;

  /// Last hidden states [rows, D] of whole sequences, without caches unless their type is set.
  /// entropy[layers, rows]: attention of every layer (nn/attention.h), unless its data is null. routes: of a
  /// model with a quantum layer.
  void hidden_states(const TokenBatch& batch, const Levels& levels, Matrix<T> hidden, Arena& arena,
                     Matrix<T> entropy = {}, const RouteTrace<T>& routes = {}) const;

  /// Of whole sequences with levels that anything else chooses.
  void hidden_states(const TokenBatch& batch, nn::LevelChooser<T>& chooser, Matrix<T> hidden,
                     Arena& arena) const;

  /// Extends each chunk's cache by its tokens; hidden[Σ tokens, D] are the last hidden states, chunk after
  /// chunk; entropy as in hidden_states. Throws InputError if a cache's capacity or the context is exceeded,
  /// or a token is out of range.
  void forward(std::span<const Chunk<T>> chunks, const Levels& levels, Matrix<T> hidden, Arena& arena,
               Matrix<T> entropy = {}) const;

  /// logits[M, V] of hidden[M, D]. level: the pass' for what no scheduler governs.
  void logits(ConstMatrix<T> hidden, int level, Matrix<T> logits, Arena& arena) const;

  nn::KvCache<T> make_cache(int64_t capacity) const {
    return {config_.layers, config_.kv_heads, config_.head_dim(), capacity, cache_type_};
  }

  /// What caches made from now on hold: codes of a type, or numbers. Whole sequences then go through caches
  /// too, so that their losses are those of the text's tokens read one by one. T: float.
  void set_cache_type(std::optional<CodeType> type) { cache_type_ = type; }
  std::optional<CodeType> cache_type() const { return cache_type_; }

  /// The embedding's, blocks' and head's maps in layout().maps order.
  std::span<const nn::Linear<T>* const> linears() const { return linears_; }

  /// The quantum layer and its router; null without one.
  const QuantumPath<T>* quantum() const { return quantum_.get(); }
  QuantumPath<T>* quantum() { return quantum_.get(); }

  /// A self-guided start (model/guides.h): until remove_guides(), training passes mix every map that is not
  /// dense with a matrix of its own. values: the matrices, in guide_layout()'s order.
  void add_guides(std::span<const T> values);
  void remove_guides();
  bool guided() const { return !guided_.empty(); }
  /// The matrices' share in [0, 1] from the next prepare() on; inference leaves them out.
  void set_guide_share(double share);
  std::span<T> guides() { return guides_; }
  const ParameterLayout& guide_layout() const { return guide_layout_; }
  /// Where their gradients begin in the gradient buffer.
  int64_t guide_gradient() const { return gradient_size_ - guide_layout_.size; }

  /// The parts, for passes that go block by block and see what lies between them (compress/).
  std::span<const nn::Block<T>> blocks() const { return blocks_; }
  const nn::BlockSpec<T>& block_spec() const { return spec_; }
  const nn::Norm<T>& final_norm() const { return final_norm_; }
  const nn::Linear<T>& head() const { return config_.tied ? embedding_ : head_; }

  /// x[rows, D] = the blocks' input. saved: the embedding map's gather_saved_size numbers, or null.
  void embed(std::span<const int32_t> tokens, std::span<const nn::Segment<T>> segments, Matrix<T> x, T* saved,
             int level, Arena& arena) const;

 private:
  friend class Inference<T>;  // the same passes, by a team
  struct Forward;             // what one pass keeps for backward

  void build();
  nn::Linear<T> make_linear(size_t map_index);
  std::unique_ptr<tt::LinearMap<T>> make_map(size_t map_index) const;
  nn::Norm<T> make_norm(const std::string& name);
  void make_rope_tables();
  void embed_backward(const TokenBatch& batch, ConstMatrix<T> dx, const T* saved, T* gradients, int level,
                      Arena& arena) const;
  void run_blocks(const nn::Pass<T>& pass, Matrix<T> x, Matrix<T> hidden, Forward* keep, Arena& arena) const;
  double pass_forward_backward(const TokenBatch& batch, const StepOptions& options, const Levels& levels,
                               nn::HeadTask<T> task, T* gradients, Arena& arena) const;
  void distill(const TokenBatch& batch, const StepOptions& options, size_t index,
               ConstMatrix<T> probabilities, T* gradients, Arena& arena) const;
  NewTokens<T> new_tokens(std::span<const Chunk<T>> chunks) const;
  void forward_pass(std::span<const Chunk<T>> chunks, const Levels& levels, Matrix<T> hidden, Arena& arena,
                    Matrix<T> entropy, T* circuit_entropy = nullptr) const;
  void hidden_states_by_caches(const TokenBatch& batch, const Levels& levels, Matrix<T> hidden, Arena& arena,
                               Matrix<T> entropy, const RouteTrace<T>& routes) const;
  void check_tokens(std::span<const int32_t> tokens) const;
  void check_targets(std::span<const int32_t> tokens) const;

  ModelConfig config_;
  ParameterLayout layout_;
  mutable ZeroedArray<T> parameters_;  // the cores of a quantized model: zero until someone asks for them
  std::optional<QuantizedWeights> codes_;
  std::shared_ptr<const void> codes_memory_;  // maps point into it until they are prepared again
  mutable std::mutex decoding_;
  mutable bool decoded_ = false;  // parameters_ are what the codes stand for
  int64_t gradient_size_ = 0;
  nn::Linear<T> embedding_, head_;
  const T* positions_ = nullptr;  // [context, D], GPT-2 family
  int64_t positions_offset_ = 0;
  std::vector<nn::Block<T>> blocks_;
  nn::Norm<T> final_norm_;
  nn::BlockSpec<T> spec_;
  std::unique_ptr<QuantumPath<T>> quantum_;
  std::optional<CodeType> cache_type_;
  int64_t block_macs_ = 0;  // multiply-adds of the first block's products for one token
  AlignedVector<T> cosines_, sines_;
  std::vector<nn::Linear<T>*> linears_;
  ParameterLayout guide_layout_;
  AlignedVector<T> guides_;
  std::vector<tt::GuidedMap<T>*> guided_;  // a map each of guide_layout_.maps
};

}  // namespace qtf::model
