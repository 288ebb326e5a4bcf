// The audit file: records in SQLite, one or more segments (docs/audit.md). Commands write through a Log; the
// verifier and all other readers go through SegmentReader.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/audit/record.h"
#include "qtf/audit/sqlite.h"
#include "qtf/base/json.h"

namespace qtf::audit {

inline constexpr std::string_view kSegmentOpen = "segment.open";
inline constexpr std::string_view kSegmentClose = "segment.close";

struct LogOptions {
  int64_t records_per_segment = 1'000'000;
  int busy_ms = 10'000;            ///< longest wait for another writer
  int64_t records_together = 256;  ///< committed at once, at the latest
  int longest_ms = 1000;           ///< after which the next append commits
};

/// Writes one run's records into a file. Many processes and threads may write into one file, each by a Log
/// of its own. Not thread-safe.
class Log {
 public:
  /// Makes the file if it is missing. Throws InputError for a file that is none of ours, IoError if it cannot
  /// be opened or one of its segments is missing.
  explicit Log(std::filesystem::path file, const LogOptions& options = {});
  /// Commits what is pending, if it can; call flush() to know.
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /// A record of the run. data: an object of strings and integers (canonical.h). Throws InputError for
  /// another one, a name that is no kind, or more than kMostRecordBytes; IoError if a commit fails.
  void append(std::string_view kind, const nlohmann::json& data);
  /// With bytes that are kept beside the record.
  void append(std::string_view kind, const nlohmann::json& data, std::string payload);

  /// After it, all that was appended is on the disk. Returns the number of the run's last record. Throws
  /// IoError; nothing is lost then, a further call tries again.
  int64_t flush();

  const std::string& run() const { return run_; }
  const std::filesystem::path& file() const { return file_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Pending {
    std::string kind, data;
    bool has_payload = false;
    std::string payload;
    int64_t time_ns = 0;
  };
  /// Where the run's chain stands.
  struct Place {
    int64_t index = 0, sequence = 0;
    Digest previous{};
  };

  void add(std::string_view kind, const nlohmann::json& data, bool has_payload, std::string payload);
  void open_segment(int segment);
  void close_segment();
  bool commit();
  void insert(Statement& statement, const Pending& pending, Place& place) const;
  Pending opening(Place& place) const;
  Pending closing() const;

  std::filesystem::path file_;
  LogOptions options_;
  std::string run_;
  int segment_ = 1;
  std::unique_ptr<Database> database_;
  Place place_;
  std::vector<Pending> pending_;
  Clock::time_point last_commit_ = Clock::now();
};

/// FILE, FILE.2, FILE.3, …
std::filesystem::path segment_path(const std::filesystem::path& file, int segment);

/// The numbers of the segments that are there, increasing.
std::vector<int> present_segments(const std::filesystem::path& file);

/// A row as it is stored, which may be anything; the views are valid until the next one is read.
struct StoredRecord {
  int64_t sequence = 0;
  std::string_view bytes, hash, payload;
  bool has_payload = false;
  bool well_typed = false;  ///< all columns are of the types that we write
};

/// Reads a segment's rows in order, as they were when it was opened.
class SegmentReader {
 public:
  /// Throws InputError for a file that is missing or none of ours; IoError for a damaged one, as next().
  explicit SegmentReader(const std::filesystem::path& segment);
  bool next(StoredRecord& record);

 private:
  Database database_;
  std::unique_ptr<Statement> rows_;  // null: no table yet
};

}  // namespace qtf::audit
