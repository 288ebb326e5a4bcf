// What a model decided for every token of a text: computed again with all that it was decided by, or read
// from a run's records. `qtf explain` and the server's "why" tell of it.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "qtf/audit/decision.h"
#include "qtf/explain/subject.h"
#include "qtf/model/rank_scheduler.h"
#include "qtf/model/transformer.h"

namespace qtf::explain {

struct DecidedTokens {
  int64_t sequence = 0, layers = 0, tokens = 0;
  std::vector<std::string> words;  ///< the tokens' bytes; none from records
  std::vector<float> entropy;      ///< [layers, tokens]; none of generations
  std::vector<uint8_t> levels;     ///< [layers, tokens]; 0: none was chosen
  std::vector<int64_t> signals;    ///< [layers, tokens]: RankScheduler::signal(); none from records
  std::vector<uint8_t> routed;     ///< [tokens]: 0, 1, or 2 without a quantum layer
  std::vector<float> scores;       ///< [tokens]; none where they are not known
  int64_t record = 0;              ///< the first record it comes from; 0: computed again

  size_t at(int64_t layer, int64_t token) const { return static_cast<size_t>(layer * tokens + token); }
};

/// One sequence, computed again: what was decided while it was read or written, by the invariants of
/// inference. ids: at least one, at most the model's context. scheduler: null if none picks levels; level: of
/// what it does not govern. `words` stays empty. The model must be prepared; any thread.
DecidedTokens decide_tokens(const model::Transformer<float>& model, const model::RankScheduler* scheduler,
                            int level, std::span<const int32_t> ids);

/// A token's decisions: its level in each governed layer, and its route where its score is known. Throws
/// InputError for a token that is not there, or decisions that are not those of the scheduler.
std::vector<audit::Decision> decisions_of(const DecidedTokens& decided, int64_t token,
                                          const model::Transformer<float>& model,
                                          const model::RankScheduler* scheduler);

/// The same as subjects, of one layer if `wanted` names one.
std::vector<Subject> subjects_of_token(const DecidedTokens& decided, int64_t token,
                                       const model::Transformer<float>& model,
                                       const model::RankScheduler* scheduler, Wanted wanted,
                                       std::span<const audit::DecisionKind> kinds);

/// All tokens, or in one layer.
TokenCounts counts_of(const DecidedTokens& decided, const model::ModelConfig& config,
                      std::optional<int64_t> layer);

/// `times` more decisions chose this level; none for 0 and what no policy has.
void count_level(TokenCounts& counts, int64_t level, int64_t times = 1);

}  // namespace qtf::explain
