// Policies that ask for what the model expected in a token's place: a text is read token by token, so that
// the output at the token before is known, whatever way it comes (whole, in chunks, in a batch).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "qtf/adapt/rank_policy.h"
#include "qtf/model/transformer.h"

namespace qtf::model {

/// In [0, 1], of the output's logits[V] and the token that came: for `output` the entropy of the
/// distribution over ln V; for `surprise` s/(1 + s), s the token's nats.
template <class T>
double output_signal(adapt::RankSignal signal, std::span<const T> logits, int32_t token);

/// Extends caches like Transformer::forward, one token of each chunk at a time. forward(chunks, levels,
/// hidden, entropy) passes one token a chunk; logits(hidden, logits) is the head.
template <class T, class Forward, class Logits>
void forward_by_token(std::span<const Chunk<T>> chunks, const Levels& levels, const ModelConfig& config,
                      Matrix<T> hidden, Matrix<T> entropy, const Forward& forward, const Logits& logits) {
  std::vector<int64_t> first;
  int64_t rows = 0, longest = 0;
  for (const Chunk<T>& chunk : chunks) {
    const auto size = static_cast<int64_t>(chunk.tokens.size());
    first.push_back(rows);
    rows += size, longest = std::max(longest, size);
  }
  const auto count = static_cast<int64_t>(chunks.size());
  std::vector<T> states(static_cast<size_t>(count * config.width)),
      scores(static_cast<size_t>(config.vocabulary)),
      entropies(static_cast<size_t>(entropy.data ? config.layers * count : 0));
  std::vector<uint8_t> chosen(static_cast<size_t>(config.layers * count));
  std::vector<int64_t> signals(chosen.size());
  for (int64_t i = 0; i < longest; ++i) {
    std::vector<Chunk<T>> step;
    std::vector<int64_t> to;
    for (size_t c = 0; c < chunks.size(); ++c) {
      if (i >= static_cast<int64_t>(chunks[c].tokens.size())) continue;
      step.push_back({chunks[c].tokens.subspan(static_cast<size_t>(i), 1), chunks[c].cache});
      to.push_back(first[c] + i);
    }
    for (const Chunk<T>& one : step) {
      const int64_t at = one.cache->length();
      if (at == 0 || at >= one.cache->capacity()) continue;
      std::span<T> before = one.cache->output(at - 1, config.width);
      logits(Matrix<T>(before.data(), 1, config.width), Matrix<T>(scores.data(), 1, config.vocabulary));
      one.cache->keep_hint(at, static_cast<T>(output_signal<T>(levels.scheduler->options().policy.signal,
                                                               scores, one.tokens[0])));
    }
    const auto n = static_cast<int64_t>(step.size());
    const Matrix<T> now(states.data(), n, config.width);
    const Matrix<T> now_entropy(entropy.data ? entropies.data() : nullptr, entropy.data ? config.layers : 0,
                                n);
    forward(std::span<const Chunk<T>>(step),
            Levels{levels.level, levels.scheduler, chosen.data(), signals.data()}, now, now_entropy);
    for (int64_t r = 0; r < n; ++r) {
      const int64_t row = to[static_cast<size_t>(r)];
      nn::KvCache<T>& cache = *step[static_cast<size_t>(r)].cache;
      std::copy_n(now.row(r), config.width, hidden.row(row));
      std::copy_n(now.row(r), config.width, cache.output(cache.length() - 1, config.width).data());
      for (int64_t layer = 0; layer < config.layers; ++layer) {
        if (entropy.data) entropy(layer, row) = now_entropy(layer, r);
        if (levels.chosen) levels.chosen[layer * rows + row] = chosen[static_cast<size_t>(layer * n + r)];
        if (levels.signals) levels.signals[layer * rows + row] = signals[static_cast<size_t>(layer * n + r)];
      }
    }
  }
}

}  // namespace qtf::model
