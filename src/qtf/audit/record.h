// A record of the audit trail: its fields, its bytes and back (docs/audit.md).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "qtf/base/json.h"
#include "qtf/base/sha256.h"

namespace qtf::audit {

/// Records are no longer than this, payloads neither.
inline constexpr size_t kMostRecordBytes = size_t{64} << 20;

/// What a record says of itself; the views point into its bytes.
struct RecordFields {
  std::string_view data;  ///< canonical JSON, an object
  int64_t index = 0;      ///< in its run, from 0
  std::string_view kind;
  bool has_payload = false;
  Digest payload{};   ///< SHA-256 of the payload
  Digest previous{};  ///< hash of the run's record before; zeros for the first
  std::string_view run;
  int64_t sequence = 0;  ///< in the file, from 1
  int64_t time_ns = 0;   ///< since 1970, UTC
};

/// The canonical bytes.
std::string record_bytes(const RecordFields& fields);

/// Reads them back. Throws InputError naming the first byte that is not as record_bytes writes it.
RecordFields parse_record(std::string_view bytes);

/// Whether a kind's name is of 1 to 64 lower-case letters, digits, '.' and '_'.
bool is_kind(std::string_view name);

/// A run's name, 32 hexadecimal digits, drawn by the system.
std::string new_run_name();

}  // namespace qtf::audit
