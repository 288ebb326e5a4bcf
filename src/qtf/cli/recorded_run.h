// A recorded evaluation or generation, read back: to be run again (run_records.h) and explained.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "qtf/base/json.h"
#include "qtf/cli/command.h"
#include "qtf/cli/run_records.h"

namespace qtf::cli {

struct RecordedRun {
  std::string name;
  nlohmann::json start;                ///< data of run.start
  std::vector<nlohmann::json> tokens;  ///< data of each "tokens" record
  std::vector<int64_t> numbers;        ///< of these records in the file
  std::vector<std::string> payloads;   ///< theirs, where they were asked for; empty ones at the level summary
};

/// The last evaluation or generation of a file. Throws InputError for a file without one.
RecordedRun last_run(const std::filesystem::path& file, bool with_payloads = false);

/// The options that bear on decisions or the order of the tokens; start records those that were given.
std::vector<const Option*> recorded_options(std::string_view command);

/// The run's call, on this model and text (of a generation: the prompt itself), recorded into `audit`.
std::vector<std::string> call_of(const RecordedRun& run, const std::string& model, const std::string& text,
                                 const std::string& audit);

/// What a payload holds (docs/audit.md). Throws InputError for one of another size than the record says.
TokenColumns columns_of(const nlohmann::json& data, std::string_view payload);

}  // namespace qtf::cli
