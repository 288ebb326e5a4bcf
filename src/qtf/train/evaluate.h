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

/// Protocol: windows of `context` tokens, `stride` apart; each scores the tokens that no earlier window
/// scored.
struct EvaluateOptions {
  int64_t context = 0;     ///< 0: the model's
  int64_t stride = 0;      ///< 0: half the context
  int64_t max_tokens = 0;  ///< score about this many from the start; 0: all
  int level = 0;
  const model::RankScheduler* scheduler = nullptr;  ///< what picks the levels after attention, if not `level`
  bool circuit_entropy = false;  ///< also the mean entanglement of the routed tokens' states
  bool trace = false;            ///< also what was decided for every token
};

/// What was measured and decided for a token that a window read, in one layer.
struct TokenTrace {
  int64_t sequence = 0;  ///< number of the window, from 0
  int64_t position = 0;  ///< in the window, from 0
  int64_t layer = 0;
  float entropy = 0;           ///< attention entropy, in [0, 1]
  int level = 0;               ///< 0: none was chosen, it has the options'
  std::optional<bool> routed;  ///< in the block of the quantum layer
  float score = 0;             ///< there: what the router compared with its threshold
  float circuit_entropy = 0;   ///< nats, of a routed token
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
  double same_top = 0;         ///< share of tokens whose most likely token agrees
  double routed_share = 0;     ///< of the tokens that windows read, with a quantum layer
  double circuit_entropy = 0;  ///< mean nats of the routed tokens, where it was asked for
  model::RankMix ranks;        ///< levels of the tokens that windows read, with a scheduler
  /// Of every token that windows read, layer after layer, where it was asked for.
  std::vector<TokenTrace> trace;

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
