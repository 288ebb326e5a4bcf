#include "qtf/cli/model_records.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "qtf/audit/record.h"
#include "qtf/audit/store.h"
#include "qtf/cli/making_records.h"

namespace qtf::cli {

namespace {

constexpr std::string_view kOfDecision = "decision.";

NumberedRecord numbered(const audit::StoredRecord& row, const audit::RecordFields& fields) {
  const auto* hash = reinterpret_cast<const uint8_t*>(row.hash.data());
  return {row.sequence, to_hex({hash, row.hash.size()}), std::string(fields.kind),
          fmt::format("{:%Y-%m-%d %H:%M} UTC",
                      fmt::gmtime(static_cast<std::time_t>(fields.time_ns / 1'000'000'000))),
          nlohmann::json::parse(fields.data)};
}

}  // namespace

const NumberedRecord* ModelRecords::made(const char* key) const {
  for (auto record = making.rbegin(); record != making.rend(); ++record)
    if (record->kind == "making.end" && record->data.contains("figures") &&
        record->data["figures"].contains(key) && !record->data["figures"][key].empty())
      return &*record;
  return nullptr;
}

const NumberedRecord* ModelRecords::finished() const {
  for (auto record = making.rbegin(); record != making.rend(); ++record)
    if (record->kind == "making.end") return &*record;
  return nullptr;
}

const NumberedRecord* ModelRecords::started(std::string_view command) const {
  for (auto record = making.rbegin(); record != making.rend(); ++record)
    if (record->kind == "making.start" && record->data.value("command", "") == command) return &*record;
  return nullptr;
}

std::string figure(const NumberedRecord* record, const char* key) {
  if (!record || !record->data.contains("figures")) return {};
  const auto found = record->data["figures"].find(key);
  return found != record->data["figures"].end() && found->is_string() ? found->get<std::string>()
                                                                      : std::string();
}

ModelRecords read_model_records(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / kAuditFile;
  ModelRecords records;
  records.found = audit::verify(file);
  if (!records.found.problems.empty()) return records;
  for (const int segment : audit::present_segments(file)) {
    audit::SegmentReader reader(audit::segment_path(file, segment));
    for (audit::StoredRecord row; reader.next(row);) {
      const audit::RecordFields fields = audit::parse_record(row.bytes);
      if (fields.kind.starts_with("making.")) records.making.push_back(numbered(row, fields));
      records.explanations += fields.kind == "explanation";
      if (!fields.kind.starts_with(kOfDecision)) continue;
      const std::string kind(fields.kind.substr(kOfDecision.size()));
      ++records.decisions[kind];
      if (kind == "allocation") records.allocation = numbered(row, fields);
      if (kind == "budget_measurement") records.measurement = numbered(row, fields);
    }
  }
  return records;
}

}  // namespace qtf::cli
