// Files of reference vectors (JSON, made by another program, PennyLane for one) held against this library:
// `qtf circuit verify`. docs/quantum.md says what such a file looks like.
#pragma once

#include <filesystem>
#include <string>

namespace qtf::quantum {

struct Verification {
  std::string file;
  int64_t cases = 0;
  int64_t numbers = 0;     ///< compared
  double worst_error = 0;  ///< largest difference
  std::string worst_case;  ///< the id of its case, and what differed
};

/// Compares every number that a file's cases give with what every path of this library computes in double.
/// Throws IoError for a file that is no JSON of this form, naming the case.
Verification verify_reference_vectors(const std::filesystem::path& path);

}  // namespace qtf::quantum
