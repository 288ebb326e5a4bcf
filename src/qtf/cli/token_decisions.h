// What a model decided for every token of a text: computed again with all that it was decided by, or read
// from a run's records. `qtf explain` tells of it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "qtf/adapt/router.h"
#include "qtf/audit/decision.h"
#include "qtf/cli/recorded_run.h"
#include "qtf/explain/subject.h"
#include "qtf/model/model_folder.h"

namespace qtf::cli {

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

/// A text's tokens as far as the model's context reaches, the start token first if the model has one.
/// scheduler: null if none picks levels. Throws InputError for an empty text.
DecidedTokens decide_text(const model::LoadedModel& loaded, const model::RankScheduler* scheduler,
                          const std::string& text);

/// Of one sequence of a run. Throws InputError for a sequence that it does not have, and for a run recorded
/// without every decision.
DecidedTokens recorded_tokens(const RecordedRun& run, int64_t sequence);

/// The scheduler that a recorded run had; null if none. Throws InputError for another model than the run's.
std::unique_ptr<model::RankScheduler> scheduler_of(const RecordedRun& run, const std::string& model,
                                                   const model::ModelConfig& config);

/// A token's decisions: its level in each governed layer, and its route where its score is known. Throws
/// InputError for a token that is not there, or decisions that are not those of the scheduler.
std::vector<audit::Decision> decisions_of(const DecidedTokens& decided, int64_t token,
                                          const model::LoadedModel& loaded,
                                          const model::RankScheduler* scheduler);

/// All tokens, or in one layer.
explain::TokenCounts counts_of(const DecidedTokens& decided, const model::ModelConfig& config,
                               std::optional<int64_t> layer);

/// Of a whole run, by its records' histograms.
explain::TokenCounts counts_of(const RecordedRun& run);

/// A token's bytes in one line: what cannot be shown as dots.
std::string shown_token(std::string bytes);

}  // namespace qtf::cli
