// How a model was made, in audit.sqlite of its folder: "making.start" with what it was made of, the decisions
// taken, and "making.end" with the hashes of its files and what was measured (docs/audit.md).
#pragma once

#include <filesystem>
#include <string_view>

#include "qtf/audit/decision.h"
#include "qtf/base/json.h"
#include "qtf/train/evaluate.h"

namespace qtf::cli {

inline constexpr std::string_view kAuditFile = "audit.sqlite";

/// facts: strings, as records hold them. Throws like audit::Log.
void record_decisions(const std::filesystem::path& file, std::string_view command, nlohmann::json facts,
                      const audit::DecisionList& decisions);
/// The same in the folder's audit.sqlite.
void record_start(const std::filesystem::path& folder, std::string_view command, nlohmann::json facts,
                  const audit::DecisionList& decisions);

/// Once the folder's config.json, weights and tokenizer are as they stay. figures: what was measured.
void record_made(const std::filesystem::path& folder, nlohmann::json figures);

/// An evaluation's figures, the exact bits and digits to read.
nlohmann::json measured_facts(const train::Evaluation& evaluation);

}  // namespace qtf::cli
