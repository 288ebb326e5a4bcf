// What an auditor is handed: one HTML file, made of a model folder's records, that says in plain language
// what was done to the model, shows its ranks, and a passage token by token, and how to check all of it. It
// needs nothing else: no script, no font, no network. `qtf explain MODEL --out report.html` writes it.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "qtf/audit/replay.h"
#include "qtf/cli/model_records.h"
#include "qtf/cli/token_decisions.h"
#include "qtf/explain/explainer.h"

namespace qtf::cli {

struct AuditorReport {
  std::string name;
  model::ModelConfig config;
  ModelRecords records;
  audit::Replay replay;  ///< all decisions, taken again
  std::vector<explain::Explanation> explanations;
  std::string tally;  ///< who explained, and how much of it held
  DecidedTokens passage;
  std::string passage_of;  ///< where the passage is from
  std::string policy;      ///< what picked the passage's levels, in words; empty: nothing did
};

std::string auditor_page(const AuditorReport& report);

/// A passage that everybody may use, for models explained without a text.
extern const std::string_view kUsualPassage;
extern const std::string_view kUsualPassageSource;

}  // namespace qtf::cli
