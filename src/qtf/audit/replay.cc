#include "qtf/audit/replay.h"

#include <algorithm>

#include "qtf/audit/fields.h"
#include "qtf/base/error.h"

namespace qtf::audit {

namespace {

constexpr std::string_view kPrefix = "decision.";
constexpr size_t kMostDifferences = 100;

void take_again(const StoredRecord& row, const RecordFields& fields, std::span<const DecisionKind> kinds,
                Replay& replay) {
  const std::string_view name = fields.kind.substr(kPrefix.size());
  const auto kind = std::ranges::find(kinds, name, &DecisionKind::name);
  if (kind == kinds.end()) {
    ++replay.unknown;
    return;
  }
  ++replay.decisions;
  std::string what;
  try {
    const nlohmann::json data = nlohmann::json::parse(fields.data);
    const nlohmann::json& recorded = member(data, "answer");
    const nlohmann::json answer = kind->decide(member(data, "question"));
    if (answer == recorded) {
      ++replay.same;
      return;
    }
    what = fmt::format("the answer differs at '{}'", first_difference(recorded, answer));
  } catch (const InputError& error) {
    what = error.what();
  }
  if (replay.differences.size() < kMostDifferences) replay.differences.push_back({row.sequence, what});
}

}  // namespace

void append_decision(Log& log, const Decision& decision) {
  log.append(std::string(kPrefix) + decision.kind,
             {{"question", decision.question}, {"answer", decision.answer}});
}

Replay replay(const std::filesystem::path& file, std::span<const DecisionKind> kinds) {
  Replay replay;
  for (const int segment : present_segments(file)) {
    SegmentReader reader(segment_path(file, segment));
    for (StoredRecord row; reader.next(row);) {
      RecordFields fields;
      try {
        fields = parse_record(row.bytes);
      } catch (const InputError& error) {
        throw_input_error("audit", "record {} is none ({}); run qtf audit verify", row.sequence,
                          error.what());
      }
      if (fields.kind.starts_with(kPrefix)) take_again(row, fields, kinds, replay);
    }
  }
  return replay;
}

std::string first_difference(const nlohmann::json& a, const nlohmann::json& b) {
  const nlohmann::json patch = nlohmann::json::diff(a, b);
  return patch.empty() ? "" : patch[0]["path"].get<std::string>();
}

}  // namespace qtf::audit
