// A model's inference on the workers of a pool: prompts by rows, decoded tokens by the columns of every
// product. `qtf generate` and whatever serves a model use it.
#pragma once

#include <span>
#include <vector>

#include "qtf/base/arena.h"
#include "qtf/base/team.h"
#include "qtf/model/transformer.h"

namespace qtf::model {

/// Up to this many rows the products are split by columns, so that every weight is read once, by one worker.
/// Beyond, each worker takes rows of its own through all layers, with one barrier a layer.
inline constexpr int64_t kFewRows = 16;

struct InferenceOptions {
  /// Multiply-adds of a block, or of the head, that are worth another worker: a microsecond or two, against
  /// five barriers of some tenths.
  int64_t macs_per_worker = 40'000;
};

/// Holds the workers' scratch, so that a decoded token allocates nothing. Not thread-safe; many may share a
/// model. Results have the bits of Transformer::forward and logits, whatever the pool's size.
template <class T>
class Inference {
 public:
  /// model and pool must outlive it; the model must be prepared.
  Inference(const Transformer<T>& model, ThreadPool& pool, const InferenceOptions& options = {})
      : model_(model), options_(options), team_(pool), arenas_(static_cast<size_t>(pool.size())) {}

  /// As Transformer::forward.
  void forward(std::span<const Chunk<T>> chunks, const Levels& levels, Matrix<T> hidden,
               Matrix<T> entropy = {});

  /// As Transformer::logits.
  void logits(ConstMatrix<T> hidden, int level, Matrix<T> logits);

 private:
  void pass(std::span<const Chunk<T>> chunks, const Levels& levels, Matrix<T> hidden, Matrix<T> entropy);
  void forward_few(const NewTokens<T>& tokens, const Levels& levels, Matrix<T> hidden, Matrix<T> entropy);
  void forward_many(const NewTokens<T>& tokens, const Levels& levels, Matrix<T> hidden, Matrix<T> entropy);
  Arena& arena(const TeamMember& member) { return arenas_[static_cast<size_t>(member.index())]; }

  const Transformer<T>& model_;
  InferenceOptions options_;
  Team team_;
  std::vector<Arena> arenas_;    // one a worker
  std::vector<uint8_t> routed_;  // of the pass, with a quantum layer
  std::vector<T> selections_;
  std::vector<int64_t> standings_;  // of the pass, with a scheduler
  std::vector<T> circuit_nats_;     // of the pass, with one that asks for circuit states
};

}  // namespace qtf::model
