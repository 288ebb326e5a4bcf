// Texts and recorded runs as decided tokens (explain/token_decisions.h), for `qtf explain`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "qtf/cli/recorded_run.h"
#include "qtf/explain/token_decisions.h"
#include "qtf/model/model_folder.h"

namespace qtf::cli {

using explain::DecidedTokens;

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

/// Of a whole run, by its records' histograms.
explain::TokenCounts counts_of(const RecordedRun& run);

/// A token's bytes in one line: what cannot be shown as dots.
std::string shown_token(std::string bytes);

}  // namespace qtf::cli
