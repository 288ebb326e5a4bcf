// Writing decisions into an audit file and taking them again from it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "qtf/audit/decision.h"
#include "qtf/audit/store.h"

namespace qtf::audit {

/// Adds a record of the kind "decision.<kind>" with {"question","answer"}.
void append_decision(Log& log, const Decision& decision);

/// What taking every decision of a file again came to.
struct Replay {
  int64_t decisions = 0;  ///< taken again
  int64_t same = 0;       ///< with the recorded answer, bit for bit
  int64_t unknown = 0;    ///< of kinds that are not in the table
  struct Difference {
    int64_t sequence = 0;
    std::string what;
  };
  std::vector<Difference> differences;  ///< at most 100 of them
};

/// Takes every recorded decision again. It believes the file: verify it first. Throws like SegmentReader, and
/// InputError naming the record for one that is none.
Replay replay(const std::filesystem::path& file, std::span<const DecisionKind> kinds);

/// The path of the first part in which two values differ, such as "/answer/rows/3"; empty if they are equal.
std::string first_difference(const nlohmann::json& a, const nlohmann::json& b);

}  // namespace qtf::audit
