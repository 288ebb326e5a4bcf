// metrics.jsonl: one JSON object a line for steps, validations and the end of a run. `qtf report` reads it.
#pragma once

#include <cstdio>
#include <filesystem>

#include "qtf/base/json.h"

namespace qtf::train {

/// Appends to `folder`/metrics.jsonl; every line is flushed.
class MetricsFile {
 public:
  /// keep_bytes: length to cut an older file to (resume) where it is longer; 0 begins anew. Throws IoError.
  MetricsFile(const std::filesystem::path& folder, int64_t keep_bytes);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  void write(const nlohmann::ordered_json& line);
  int64_t bytes() const { return bytes_; }

 private:
  std::FILE* file_ = nullptr;
  std::filesystem::path path_;
  int64_t bytes_ = 0;
};

}  // namespace qtf::train
