#include "qtf/model/transformer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <type_traits>
#include <utility>

#include "qtf/base/error.h"
#include "qtf/base/profile.h"
#include "qtf/kernels/vector.h"
#include "qtf/model/output_signal.h"

namespace qtf::model {

namespace {
constexpr const char* kEmbedding = "embedding";
}

template <class T>
Transformer<T>::Transformer(const ModelConfig& config) : config_(config) {
  validate(config_);
  layout_ = make_layout(config_);
  parameters_ = ZeroedArray<T>(static_cast<size_t>(layout_.size));
  build();
}

template <class T>
std::unique_ptr<tt::LinearMap<T>> Transformer<T>::make_map(size_t map_index) const {
  const MapParameters& map = layout_.maps[map_index];
  return tt::make_linear_map<T>(map.shape, merged_levels(config_, map.spec.name));
}

template <class T>
void Transformer<T>::set_plan(std::map<std::string, std::vector<int>> plan) {
  QTF_ASSERT(!guided());
  ModelConfig config = config_;
  config.plan = std::move(plan);
  validate(config);
  config_ = std::move(config);
  for (size_t i = 0; i < linears_.size(); ++i) linears_[i]->map = make_map(i);
}

template <class T>
nn::Linear<T> Transformer<T>::make_linear(size_t map_index) {
  const MapParameters& map = layout_.maps[map_index];
  nn::Linear<T> linear;
  linear.map = make_map(map_index);
  if (linear.map->factors_are_cores()) {
    linear.map_gradient = map.offset;
  } else {
    linear.map_gradient = gradient_size_;
    gradient_size_ += linear.map->factor_size();
  }
  if (map.bias >= 0) {
    linear.bias = parameters_.data() + map.bias;
    linear.bias_gradient = map.bias;
  }
  return linear;
}

template <class T>
nn::Norm<T> Transformer<T>::make_norm(const std::string& name) {
  nn::Norm<T> norm;
  norm.epsilon = static_cast<T>(config_.norm_epsilon);
  norm.weight_gradient = layout_.find(name + ".weight").offset;
  norm.weight = parameters_.data() + norm.weight_gradient;
  if (config_.family == Family::gpt2) {
    norm.kind = nn::NormKind::layer;
    norm.bias_gradient = layout_.find(name + ".bias").offset;
    norm.bias = parameters_.data() + norm.bias_gradient;
  }
  return norm;
}

template <class T>
void Transformer<T>::make_rope_tables() {
  const int64_t half = config_.head_dim() / 2;
  for (int64_t position = 0; position < config_.context; ++position) {
    for (int64_t i = 0; i < half; ++i) {
      const double frequency = std::pow(
          config_.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(config_.head_dim()));
      const double angle = static_cast<double>(position) * frequency;
      cosines_.push_back(static_cast<T>(std::cos(angle)));
      sines_.push_back(static_cast<T>(std::sin(angle)));
    }
  }
}

template <class T>
void Transformer<T>::build() {
  const bool llama = config_.family == Family::llama;
  gradient_size_ = layout_.size;
  spec_ = {.heads = config_.heads,
           .kv_heads = config_.kv_heads,
           .head_dim = config_.head_dim(),
           .activation = llama ? nn::Activation::swiglu : nn::Activation::gelu,
           .cosines = {},
           .sines = {}};
  size_t map = 0;
  embedding_ = make_linear(map++);
  if (llama) {
    make_rope_tables();
    spec_.cosines = cosines_, spec_.sines = sines_;
  } else {
    positions_offset_ = layout_.find("transformer.wpe.weight").offset;
    positions_ = parameters_.data() + positions_offset_;
  }
  blocks_.resize(static_cast<size_t>(config_.layers));
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    nn::Block<T>& block = blocks_[static_cast<size_t>(layer)];
    const std::string at = block_prefix(config_.family, layer);
    block.attention_norm = make_norm(at + (llama ? "input_layernorm" : "ln_1"));
    block.feed_forward_norm = make_norm(at + (llama ? "post_attention_layernorm" : "ln_2"));
    for (int i = 0; i < (llama ? 3 : 1); ++i) block.qkv.push_back(make_linear(map++));
    block.attention_out = make_linear(map++);
    for (int i = 0; i < (llama ? 2 : 1); ++i) block.up.push_back(make_linear(map++));
    block.down = make_linear(map++);
  }
  for (const MapParameters& parameters : layout_.maps)
    if (parameters.spec.layer == 0) block_macs_ += tt::macs(parameters.shape);
  final_norm_ = make_norm(llama ? "model.norm" : "transformer.ln_f");
  if (!config_.tied) head_ = make_linear(map++);
  if (config_.quantum) quantum_ = std::make_unique<QuantumPath<T>>(config_, layout_, parameters_.data());

  linears_.push_back(&embedding_);
  for (nn::Block<T>& block : blocks_) {
    for (auto& linear : block.qkv) linears_.push_back(&linear);
    linears_.push_back(&block.attention_out);
    for (auto& linear : block.up) linears_.push_back(&linear);
    linears_.push_back(&block.down);
  }
  if (!config_.tied) linears_.push_back(&head_);
}

template <class T>
std::span<const T> Transformer<T>::parameters() const {
  if constexpr (std::is_same_v<T, float>) {
    const std::lock_guard lock(decoding_);
    if (codes_ && !decoded_) decode(*codes_, layout_, parameters_);
    decoded_ = true;
  }
  return parameters_;
}

template <class T>
std::span<T> Transformer<T>::parameters() {
  std::as_const(*this).parameters();
  codes_.reset();
  return parameters_;
}

template <class T>
void Transformer<T>::set_codes(QuantizedWeights codes) {
  QTF_ASSERT((std::is_same_v<T, float>)&&!codes_ && codes.maps.size() == layout_.maps.size());
  set_plan({});
  codes_ = std::move(codes);
  codes_memory_ = codes_->memory;
  decoded_ = false;
}

template <class T>
void Transformer<T>::initialise(uint64_t seed) {
  const AlignedVector<T> values = initial_parameters<T>(layout_, seed);
  std::copy(values.begin(), values.end(), parameters_.begin());
}

template <class T>
void Transformer<T>::prepare(tt::Use use, ThreadPool& pool) {
  const ProfileScope profile("preparing weights");
  if (use == tt::Use::training) parameters();  // trains floats
  if (quantum_) quantum_->prepare();
  // Maps are dealt out round robin: their sizes repeat every block.
  pool.run([&](int worker) {
    for (size_t i = static_cast<size_t>(worker); i < linears_.size(); i += static_cast<size_t>(pool.size())) {
      if (codes_)
        linears_[i]->map->prepare_quantized(codes_->maps[i]);
      else
        linears_[i]->map->prepare(parameters_.data() + layout_.maps[i].offset, use);
    }
  });
}

template <class T>
Range Transformer<T>::block_gradients(size_t block) const {
  const auto begin = [&](size_t i) {
    return i < blocks_.size() ? blocks_[i].attention_norm.weight_gradient : final_norm_.weight_gradient;
  };
  return {begin(block), begin(block + 1)};
}

template <class T>
void Transformer<T>::pull_back(T* gradients, ThreadPool& pool) const {
  const ProfileScope profile("gradients of cores");
  pool.run([&](int worker) {
    Arena scratch;
    for (size_t i = static_cast<size_t>(worker); i < linears_.size(); i += static_cast<size_t>(pool.size())) {
      const nn::Linear<T>& linear = *linears_[i];
      if (linear.map->factors_are_cores()) continue;
      const ArenaScope scope(scratch);
      const int64_t offset = layout_.maps[i].offset;
      linear.map->pull_back(parameters_.data() + offset, gradients + linear.map_gradient, gradients + offset,
                            scratch);
    }
  });
}

template <class T>
void Transformer<T>::check_tokens(std::span<const int32_t> tokens) const {
  for (int32_t token : tokens) {
    if (token < 0) throw_input_error("model", "token {} is negative", token);
  }
  check_targets(tokens);
}

template <class T>
void Transformer<T>::check_targets(std::span<const int32_t> tokens) const {
  for (int32_t token : tokens) {
    if (token >= config_.vocabulary) {
      throw_input_error("model",
                        "token {} is outside the vocabulary of {}: is this the model's own tokenizer?", token,
                        config_.vocabulary);
    }
  }
}

template <class T>
void Transformer<T>::embed(std::span<const int32_t> tokens, std::span<const nn::Segment<T>> segments,
                           Matrix<T> x, T* saved, int level, Arena& arena) const {
  const ProfileScope profile(kEmbedding);
  embedding_.map->gather(tokens, x, saved, embedding_.level(level), arena);
  if (!positions_) return;
  for (const auto& segment : segments) {
    for (int64_t i = 0; i < segment.rows; ++i) {
      kernels::add<T>(config_.width, positions_ + (segment.position + i) * config_.width,
                      x.row(segment.row + i));
    }
  }
}

template <class T>
void Transformer<T>::embed_backward(const TokenBatch& batch, ConstMatrix<T> dx, const T* saved, T* gradients,
                                    int level, Arena& arena) const {
  const ProfileScope profile(kEmbedding);
  embedding_.map->gather_backward(batch.inputs, dx, saved, gradients + embedding_.map_gradient,
                                  embedding_.level(level), arena);
  if (!positions_) return;
  for (int64_t row = 0; row < batch.rows(); ++row) {
    kernels::add<T>(config_.width, dx.data + row * config_.width,
                    gradients + positions_offset_ + row % batch.length * config_.width);
  }
}

template <class T>
struct Transformer<T>::Forward {
  std::vector<nn::BlockSaved<T>> blocks;
  ConstMatrix<T> last;  // input of the final norm
  T* final_stats = nullptr;
};

template <class T>
void Transformer<T>::run_blocks(const nn::Pass<T>& pass, Matrix<T> x, Matrix<T> hidden, Forward* keep,
                                Arena& arena) const {
  // Inference goes back and forth between two buffers; training keeps every block's input.
  Matrix<T> other;
  if (!keep) other = Matrix<T>(arena.allocate<T>(x.rows * x.cols), x.rows, x.cols);
  if (keep) keep->blocks.resize(blocks_.size());
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const Matrix<T> y = keep ? Matrix<T>(arena.allocate<T>(x.rows * x.cols), x.rows, x.cols) : other;
    nn::block_forward<T>(blocks_[i], spec_, pass, static_cast<int64_t>(i), x, y,
                         keep ? &keep->blocks[i] : nullptr, arena);
    other = x;
    x = y;
  }
  T* stats = arena.allocate<T>(final_norm_.stats_size(x.rows));
  nn::norm_forward<T>(final_norm_, x, hidden, stats);
  if (keep) keep->last = x, keep->final_stats = stats;
}

namespace {

template <class T>
std::vector<nn::Segment<T>> whole_sequences(const TokenBatch& batch) {
  std::vector<nn::Segment<T>> segments;
  for (int64_t i = 0; i < batch.sequences; ++i)
    segments.push_back({i * batch.length, batch.length, 0, nullptr});
  return segments;
}

/// What decides in a pass of one thread: the router of a model with a quantum layer, and the scheduler of
/// ranks, if there is one.
template <class T>
class Deciders {
 public:
  Deciders(const QuantumPath<T>* path, const Levels& levels, std::span<const nn::Segment<T>> segments,
           RouteTrace<T> trace)
      : path_(path) {
    if (levels.scheduler) ranks_.emplace(levels, segments);
    if (path && ranks_ && levels.scheduler->asks_circuit()) {
      if (!trace.circuit_entropy) {
        own_nats_.resize(static_cast<size_t>(segments.back().row + segments.back().rows));
        trace.circuit_entropy = own_nats_.data();
      }
      ranks_->take_circuit(trace.circuit_entropy);
    }
    if (path) routing_.emplace(*path, segments, trace);
  }

  /// The pass with these, which must outlive it.
  nn::Pass<T> in(nn::Pass<T> pass) {
    if (routing_) pass.middle = &*routing_, pass.middle_layer = path_->block();
    if (ranks_) pass.chooser = &*ranks_;
    return pass;
  }

 private:
  const QuantumPath<T>* path_;
  std::vector<T> own_nats_;
  std::optional<RoutedPass<T>> routing_;
  std::optional<RankedPass<T>> ranks_;
};

}  // namespace

template <class T>
void Transformer<T>::hidden_states(const TokenBatch& batch, const Levels& levels, Matrix<T> hidden,
                                   Arena& arena, Matrix<T> entropy, const RouteTrace<T>& routes) const {
  if (batch.length > config_.context) {
    throw_input_error("model", "sequences of {} tokens are longer than the model's context of {}",
                      batch.length, config_.context);
  }
  check_tokens(batch.inputs);
  if (cache_type_ || (levels.scheduler && levels.scheduler->asks_output()))
    return hidden_states_by_caches(batch, levels, hidden, arena, entropy, routes);
  const ArenaScope scope(arena);
  const auto segments = whole_sequences<T>(batch);
  const Matrix<T> x(arena.allocate<T>(batch.rows() * config_.width), batch.rows(), config_.width);
  embed(batch.inputs, segments, x, nullptr, levels.level, arena);
  const auto entropies = row_pointers(entropy);
  Deciders<T> deciders(quantum_.get(), levels, segments, routes);
  run_blocks(deciders.in({segments, batch.rows(), levels.level, {}, nullptr, entropies}), x, hidden, nullptr,
             arena);
}

template <class T>
void Transformer<T>::hidden_states(const TokenBatch& batch, nn::LevelChooser<T>& chooser, Matrix<T> hidden,
                                   Arena& arena) const {
  check_tokens(batch.inputs);
  const ArenaScope scope(arena);
  const auto segments = whole_sequences<T>(batch);
  const Matrix<T> x(arena.allocate<T>(batch.rows() * config_.width), batch.rows(), config_.width);
  embed(batch.inputs, segments, x, nullptr, 0, arena);
  Deciders<T> deciders(quantum_.get(), 0, segments, {});
  nn::Pass<T> pass = deciders.in({segments, batch.rows(), 0, {}, nullptr, {}});
  pass.chooser = &chooser;
  run_blocks(pass, x, hidden, nullptr, arena);
}

template <class T>
void Transformer<T>::hidden_states_by_caches(const TokenBatch& batch, const Levels& levels, Matrix<T> hidden,
                                             Arena& arena, Matrix<T> entropy,
                                             const RouteTrace<T>& routes) const {
  std::vector<nn::KvCache<T>> caches(static_cast<size_t>(batch.sequences), make_cache(batch.length));
  std::vector<Chunk<T>> chunks;
  for (size_t i = 0; i < caches.size(); ++i) {
    const auto length = static_cast<size_t>(batch.length);
    chunks.push_back({batch.inputs.subspan(i * length, length), &caches[i]});
  }
  if (levels.scheduler && levels.scheduler->asks_output()) {
    forward(chunks, levels, hidden, arena,
            entropy);  // one token after the other, whose circuits it does not tell
    if (routes.circuit_entropy) std::fill_n(routes.circuit_entropy, batch.rows(), T{0});
  } else {
    forward_pass(chunks, levels, hidden, arena, entropy, routes.circuit_entropy);
  }
  for (int64_t row = 0; routes.routed && row < batch.rows(); ++row) {
    const nn::KvCache<T>& cache = caches[static_cast<size_t>(row / batch.length)];
    const int64_t t = row % batch.length;
    routes.routed[row] = cache.routed_before(t + 1) > cache.routed_before(t);
  }
}

template <class T>
double Transformer<T>::loss(const TokenBatch& batch, const Levels& levels, T* token_nats, Arena& arena,
                            int64_t skip, const RouteTrace<T>& routes, Matrix<T> entropy) const {
  check_targets(batch.targets);
  const ArenaScope scope(arena);
  const int64_t scored = batch.rows() - skip;
  const Matrix<T> hidden(arena.allocate<T>(batch.rows() * config_.width), batch.rows(), config_.width);
  hidden_states(batch, levels, hidden, arena, entropy, routes);
  nn::HeadTask<T> task;
  task.targets = batch.targets.subspan(static_cast<size_t>(skip));
  task.token_nats = token_nats ? token_nats + skip : nullptr;
  if (token_nats) std::fill_n(token_nats, skip, T{0});
  return nn::head_loss<T>(head(), hidden.row_block(skip, scored), task, levels.level, arena);
}

namespace {

/// Adds entropy[layers, rows] of sequences of one length, their first tokens left out.
template <class T>
void keep_entropies(ConstMatrix<T> entropy, int64_t length, RankSamples& samples) {
  samples.resize(static_cast<size_t>(entropy.rows));
  for (int64_t layer = 0; layer < entropy.rows; ++layer)
    for (int64_t row = 0; row < entropy.cols; ++row)
      if (row % length != 0)
        samples[static_cast<size_t>(layer)].push_back(static_cast<float>(entropy(layer, row)));
}

}  // namespace

/// One level's forward and backward pass; `task`: what the head learns, its gradients left out.
template <class T>
double Transformer<T>::pass_forward_backward(const TokenBatch& batch, const StepOptions& options,
                                             const Levels& levels, nn::HeadTask<T> task, T* gradients,
                                             Arena& arena) const {
  const ArenaScope scope(arena);
  const int level = levels.level;
  const bool whole = level == 0 && !levels.scheduler;
  const int64_t rows = batch.rows(), width = config_.width;
  const auto segments = whole_sequences<T>(batch);
  RouterSamples* samples = whole ? options.router_samples : nullptr;
  RouteTrace<T> routes;
  if (quantum_ && samples) {
    routes = {.routed = arena.allocate<uint8_t>(rows),
              .open = arena.allocate<uint8_t>(rows),
              .entropy = arena.allocate<T>(rows),
              .selection = arena.allocate<T>(rows)};
  }
  Deciders<T> deciders(quantum_.get(), levels, segments, routes);
  Matrix<T> entropy;
  if (whole && options.rank_samples)
    entropy = {arena.allocate<T>(config_.layers * rows), config_.layers, rows};
  const auto entropies = row_pointers(entropy);
  const nn::Pass<T> pass = deciders.in({segments, rows, level, options.dropout, nullptr, entropies});
  const auto matrix = [&] { return Matrix<T>(arena.allocate<T>(rows * width), rows, width); };
  const Matrix<T> x = matrix(), hidden = matrix();
  T* embed_saved = arena.allocate<T>(embedding_.map->gather_saved_size(rows));
  Forward keep;
  embed(batch.inputs, segments, x, embed_saved, level, arena);
  nn::apply_dropout(pass.dropout, -1, x);
  run_blocks(pass, x, hidden, &keep, arena);
  if (routes.any()) {
    samples->tokens += rows;
    for (int64_t i = 0; i < rows; ++i)
      if (routes.open[i]) samples->selections.push_back(static_cast<float>(routes.selection[i]));
    samples->entropies.insert(samples->entropies.end(), routes.entropy, routes.entropy + rows);
    samples->routed += std::count(routes.routed, routes.routed + rows, uint8_t{1});
  }

  if (entropy.data) keep_entropies<T>(entropy, batch.length, *options.rank_samples);

  const Matrix<T> dhidden = matrix();
  task.targets = batch.targets;
  task.gradient_scale = static_cast<T>(options.gradient_scale);
  task.dhidden = dhidden;
  task.gradients = gradients;
  const double nats = nn::head_loss<T>(head(), hidden, task, level, arena);

  const Matrix<T> dx = matrix();
  std::fill_n(dx.data, rows * width, T{0});
  nn::norm_backward<T>(final_norm_, dhidden, keep.last, keep.final_stats, dx, gradients);
  for (size_t i = blocks_.size(); i-- > 0;) {
    nn::block_backward<T>(blocks_[i], spec_, pass, static_cast<int64_t>(i), keep.blocks[i], dx, gradients,
                          arena);
    if (options.block_done) options.block_done();
  }
  nn::apply_dropout(pass.dropout, -1, dx);
  embed_backward(batch, dx, embed_saved, gradients, level, arena);
  return nats;
}

/// The pass of distilled_levels[index], or of the scheduler's levels after these, over its sequences.
/// probabilities[rows, V]: the largest level's.
template <class T>
void Transformer<T>::distill(const TokenBatch& batch, const StepOptions& options, size_t index,
                             ConstMatrix<T> probabilities, T* gradients, Arena& arena) const {
  const ArenaScope scope(arena);
  const auto count = static_cast<int64_t>(options.in_turns ? options.distillations() : 1);
  const auto turn = static_cast<int64_t>(options.in_turns ? index : 0);
  const int64_t first = (turn - options.first_sequence % count + count) % count, length = batch.length;
  const int64_t sequences = (batch.sequences - first + count - 1) / count, rows = sequences * length;
  if (sequences <= 0) return;
  auto* inputs = arena.allocate<int32_t>(rows);
  auto* targets = arena.allocate<int32_t>(rows);
  auto* teacher_rows = arena.allocate<int64_t>(rows);
  for (int64_t i = 0; i < sequences; ++i) {
    const int64_t from = (first + i * count) * length;
    std::copy_n(batch.inputs.begin() + from, length, inputs + i * length);
    std::copy_n(batch.targets.begin() + from, length, targets + i * length);
    std::iota(teacher_rows + i * length, teacher_rows + (i + 1) * length, from);
  }
  const auto size = static_cast<size_t>(rows);
  StepOptions own = options;
  if (index + 1 < options.distillations()) own.block_done = nullptr;
  own.gradient_scale *= static_cast<double>(count);
  own.dropout.first_token += first * length;
  own.dropout.run_rows = length, own.dropout.run_step = count * length;
  nn::HeadTask<T> task;
  task.teacher.probabilities = probabilities;
  task.teacher.rows = {teacher_rows, size};
  const Levels levels = index < options.distilled_levels.size() ? Levels(options.distilled_levels[index])
                                                                : Levels(0, options.scheduler);
  pass_forward_backward({{inputs, size}, {targets, size}, sequences, length}, own, levels, task, gradients,
                        arena);
}

template <class T>
double Transformer<T>::forward_backward(const TokenBatch& batch, const StepOptions& options, T* gradients,
                                        Arena& arena, const Teacher<T>& teacher) const {
  check_tokens(batch.inputs);
  check_targets(batch.targets);
  const ArenaScope scope(arena);
  const auto new_matrix = [&](int64_t cols) {
    return Matrix<T>(arena.allocate<T>(batch.rows() * cols), batch.rows(), cols);
  };
  nn::HeadTask<T> task;
  if (teacher.model) {
    const Matrix<T> hidden = new_matrix(teacher.model->config().width);
    teacher.model->hidden_states(batch, 0, hidden, arena);
    task.teacher.head = &teacher.model->head(), task.teacher.hidden = hidden;
    task.teacher.weight = static_cast<T>(teacher.weight);
    task.teacher.temperature = static_cast<T>(teacher.temperature);
  }
  if (options.distillations() > 0) task.probabilities = new_matrix(config_.vocabulary);
  StepOptions largest = options;
  if (options.distillations() > 0) largest.block_done = nullptr;
  const double nats = pass_forward_backward(batch, largest, 0, task, gradients, arena);
  for (size_t i = 0; i < options.distillations(); ++i)
    distill(batch, options, i, task.probabilities, gradients, arena);
  return nats;
}

template <class T>
NewTokens<T> Transformer<T>::new_tokens(std::span<const Chunk<T>> chunks) const {
  NewTokens<T> result;
  for (const Chunk<T>& chunk : chunks) {
    const auto rows = static_cast<int64_t>(chunk.tokens.size()), position = chunk.cache->length();
    if (position + rows > std::min(config_.context, chunk.cache->capacity())) {
      throw_input_error("model", "{} tokens do not fit: the context is {} and the cache holds {} of {}", rows,
                        config_.context, position, chunk.cache->capacity());
    }
    result.segments.push_back({result.rows(), rows, position, chunk.cache});
    result.tokens.insert(result.tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
  }
  check_tokens(result.tokens);
  return result;
}

template <class T>
void Transformer<T>::forward(std::span<const Chunk<T>> chunks, const Levels& levels, Matrix<T> hidden,
                             Arena& arena, Matrix<T> entropy) const {
  if (!levels.scheduler || !levels.scheduler->asks_output())
    return forward_pass(chunks, levels, hidden, arena, entropy);
  new_tokens(chunks);  // checks them
  forward_by_token<T>(
      chunks, levels, config_, hidden, entropy,
      [&](std::span<const Chunk<T>> step, const Levels& here, Matrix<T> to, Matrix<T> nats) {
        forward_pass(step, here, to, arena, nats);
      },
      [&](Matrix<T> of, Matrix<T> to) { this->logits(of, levels.level, to, arena); });
}

template <class T>
void Transformer<T>::forward_pass(std::span<const Chunk<T>> chunks, const Levels& levels, Matrix<T> hidden,
                                  Arena& arena, Matrix<T> entropy, T* circuit_entropy) const {
  const ArenaScope scope(arena);
  const NewTokens<T> tokens = new_tokens(chunks);
  const Matrix<T> x(arena.allocate<T>(tokens.rows() * config_.width), tokens.rows(), config_.width);
  embed(tokens.tokens, tokens.segments, x, nullptr, levels.level, arena);
  const auto entropies = row_pointers(entropy);
  auto* routed = arena.allocate<uint8_t>(tokens.rows());
  Deciders<T> deciders(quantum_.get(), levels, tokens.segments,
                       {.routed = routed, .circuit_entropy = circuit_entropy});
  run_blocks(deciders.in({tokens.segments, tokens.rows(), levels.level, {}, nullptr, entropies}), x, hidden,
             nullptr, arena);
  if (quantum_) keep_routes<T>(tokens.segments, routed);
  for (size_t i = 0; i < chunks.size(); ++i) chunks[i].cache->advance(tokens.segments[i].rows);
}

template <class T>
void Transformer<T>::logits(ConstMatrix<T> hidden, int level, Matrix<T> logits, Arena& arena) const {
  const ProfileScope profile("head");
  nn::linear_forward<T>(head(), hidden, logits, nullptr, level, arena);
}

template class Transformer<float>;
template class Transformer<double>;

}  // namespace qtf::model
