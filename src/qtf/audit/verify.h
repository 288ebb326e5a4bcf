// Holds an audit file against its hashes, chains and segments, and against an anchor kept elsewhere.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/base/sha256.h"

namespace qtf::audit {

/// A state of the file that was noted elsewhere: its first `count` records had this root. Without a count:
/// all records.
struct Anchor {
  std::optional<int64_t> count;
  std::optional<Digest> root;
};

struct VerifyProblem {
  int64_t sequence = 0;  ///< of the record, or the one after which; 0: of the file as a whole
  std::string segment;   ///< the file's name
  std::string what;
};

struct VerifyRun {
  int64_t records = 0;
  int64_t first_ns = 0, last_ns = 0;
};

struct Verification {
  int64_t count = 0;  ///< records
  int segments = 0;
  Digest root{}, last{};  ///< of all records, as computed; zeros where there is none
  std::map<std::string, VerifyRun> runs;
  std::vector<VerifyProblem> problems;  ///< none: consistent
  bool anchored = false;                ///< an anchor was given, and held
};

/// Reads every record. Problems are returned, at most `most_problems`. Throws InputError for a file that is
/// missing or none of ours.
Verification verify(const std::filesystem::path& file, const Anchor& anchor = {}, size_t most_problems = 100);

/// What a reader types to check that `place`, a file or its folder, still holds these records.
std::string verify_command(std::string_view place, const Verification& found);

}  // namespace qtf::audit
