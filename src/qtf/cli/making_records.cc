#include "qtf/cli/making_records.h"

#include "qtf/audit/fields.h"
#include "qtf/audit/replay.h"
#include "qtf/cli/help.h"
#include "qtf/model/model_files.h"

namespace qtf::cli {

void record_decisions(const std::filesystem::path& file, std::string_view command, nlohmann::json facts,
                      const audit::DecisionList& decisions) {
  audit::Log log(file);
  facts["command"] = command;
  facts["qtf"] = version();
  log.append("making.start", facts);
  for (const audit::Decision& decision : decisions.records) audit::append_decision(log, decision);
  log.flush();
}

void record_start(const std::filesystem::path& folder, std::string_view command, nlohmann::json facts,
                  const audit::DecisionList& decisions) {
  record_decisions(folder / kAuditFile, command, std::move(facts), decisions);
}

void record_made(const std::filesystem::path& folder, nlohmann::json figures) {
  const std::vector<model::ModelFile> files = model::model_files(folder);
  nlohmann::json hashes = nlohmann::json::object();
  for (const model::ModelFile& file : files) hashes[file.name] = file.sha256;
  audit::Log log(folder / kAuditFile);
  log.append("making.end",
             {{"model_hash", model::hash_of(files)}, {"files", hashes}, {"figures", std::move(figures)}});
  log.flush();
}

nlohmann::json measured_facts(const train::Evaluation& e) {
  return {{"nats_per_token", fmt::format("{:.4f}", e.nats_per_token)},
          {"nats_per_token_bits", audit::float_bits(e.nats_per_token)},
          {"standard_error_bits", audit::float_bits(e.standard_error)},
          {"tokens", std::to_string(e.tokens)},
          {"context", std::to_string(e.context)},
          {"stride", std::to_string(e.stride)}};
}

}  // namespace qtf::cli
