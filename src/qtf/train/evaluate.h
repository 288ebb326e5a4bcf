// How well a model predicts a text: nats per token with a standard error, and from them perplexities per
// token and word and bits per byte. Training's validation and `qtf eval` use it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "qtf/base/thread_pool.h"
#include "qtf/model/rank_mix.h"
#include "qtf/model/transformer.h"
#include "qtf/text/token_file.h"
#include "qtf/train/data.h"

namespace qtf::train {

/// How much an evaluation keeps of what it decided.
enum class Trace {
  none,
  decisions,  ///< levels and routes
  measures,   ///< and what they were decided by
};

/// Protocol: windows of `context` tokens, `stride` apart; each scores the tokens that no earlier window
/// scored.
struct EvaluateOptions {
  int64_t context = 0;     ///< 0: the model's
  int64_t stride = 0;      ///< 0: half the context
  int64_t max_tokens = 0;  ///< score about this many from the start; 0: all
  int level = 0;
  const model::RankScheduler* scheduler = nullptr;  ///< what picks the levels after attention, if not `level`
  bool circuit_entropy = false;  ///< also the mean entanglement of the routed tokens' states
  Trace trace = Trace::none;     ///< also what was decided for every token
};

/// What a window's pass measured and decided for the tokens that it read, layer after layer.
struct WindowTrace {
  int64_t rows = 0;
  std::vector<uint8_t>
      levels;  ///< [layers, rows]; 0: none was chosen, it has the options'; empty: no scheduler
  std::vector<uint8_t> routed;   ///< [rows]: 0 or 1; empty: no quantum layer
  std::vector<float> entropies;  ///< [layers, rows], attention entropies in [0, 1], with Trace::measures
  std::vector<float> scores;     ///< [rows], what the router compared with its threshold; the same
  std::vector<float> circuit_entropies;  ///< [rows], nats of the routed, where circuit_entropy asks for them
};

/// Several texts, each predicted on its own; token ids end to end.
struct Documents {
  std::vector<int32_t> tokens;
  std::vector<int64_t> ends;  ///< of each document in `tokens`
};

struct Evaluation {
  double nats_per_token = 0;
  double standard_error =
      0;               ///< of nats_per_token; windows (documents) are taken as independent, tokens are not
  int64_t tokens = 0;  ///< scored
  double seconds = 0;
  int64_t context = 0, stride = 0;
  double kl_divergence = 0;  ///< against another model: mean KL(other ‖ this) in nats
  /// This model's nats per token less the other's, over the same tokens, and the standard error of this
  /// paired difference: much smaller than either model's own, because the text's hard places are hard for
  /// both.
  double difference = 0, difference_error = 0;
  double same_top = 0;             ///< share of tokens whose most likely token agrees
  double routed_share = 0;         ///< of the tokens that windows read, with a quantum layer
  double circuit_entropy = 0;      ///< mean nats of the routed tokens, where it was asked for
  model::RankMix ranks;            ///< levels of the tokens that windows read, with a scheduler
  std::vector<WindowTrace> trace;  ///< of each window, where it was asked for

  double perplexity() const;
  /// exp of the text's nats by its words; the nats of unscored tokens are taken as average.
  double word_perplexity(const text::TextCounts& counts, int64_t text_tokens) const;
  double bits_per_byte(const text::TextCounts& counts, int64_t text_tokens) const;
};

/// Scores a range of tokens as one text. The model's bos_token, if any, goes before it; without one, the
/// first token is given, not predicted. `other`: also compare with this model. Throws InputError for a text
/// of under two tokens or a context beyond the model's.
Evaluation evaluate(const model::Transformer<float>& model, const TokenRange& range,
                    const EvaluateOptions& options, ThreadPool& pool,
                    const model::Transformer<float>* other = nullptr);

/// The same of tokens in memory.
Evaluation evaluate(const model::Transformer<float>& model, std::span<const int32_t> tokens,
                    const EvaluateOptions& options, ThreadPool& pool,
                    const model::Transformer<float>* other = nullptr);

/// Scores documents each alone, start token and all cut at `context` tokens.
Evaluation evaluate(const model::Transformer<float>& model, const Documents& documents,
                    const EvaluateOptions& options, ThreadPool& pool,
                    const model::Transformer<float>* other = nullptr);

/// Counts the bytes and words of a range's text by decoding it.
text::TextCounts count_text(const TokenRange& range, const text::Tokenizer& tokenizer);

}  // namespace qtf::train
