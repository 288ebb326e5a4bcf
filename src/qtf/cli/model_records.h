// What a model folder's audit.sqlite says of how the model was made, each record with its number and hash.
// The model card and the auditor's report are made of it.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "qtf/audit/verify.h"
#include "qtf/base/json.h"

namespace qtf::cli {

struct NumberedRecord {
  int64_t number = 0;
  std::string hash, kind, time;  ///< hexadecimal; as `qtf audit show` has it; UTC
  nlohmann::json data;
};

struct ModelRecords {
  audit::Verification found;
  std::vector<NumberedRecord> making;         ///< making.start and making.end, in order
  std::map<std::string, int64_t> decisions;   ///< how many of each kind
  std::optional<NumberedRecord> allocation;   ///< the last
  std::optional<NumberedRecord> measurement;  ///< the last budget_measurement
  int64_t explanations = 0;

  /// The last making.end whose figures have the key, and something under it; null if none has.
  const NumberedRecord* made(const char* figure) const;
  /// The last making.end, with the hashes of the files; null if there is none.
  const NumberedRecord* finished() const;
  /// The last making.start of a command; null if there is none.
  const NumberedRecord* started(std::string_view command) const;
};

/// Verifies the file on the way. Throws like audit::verify; problems are in `found`.
ModelRecords read_model_records(const std::filesystem::path& folder);

/// A figure of a record, or empty.
std::string figure(const NumberedRecord* record, const char* key);

}  // namespace qtf::cli
