#include "qtf/train/metrics.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "qtf/base/error.h"

namespace qtf::train {

MetricsFile::MetricsFile(const std::filesystem::path& folder, int64_t keep_bytes)
    : path_(folder / "metrics.jsonl"), bytes_(keep_bytes) {
  file_ = std::fopen(path_.c_str(), "ab");
  if (!file_ || ftruncate(fileno(file_), keep_bytes) != 0) {
    throw_io_error(path_.string(), "cannot write metrics: {}", std::strerror(errno));
  }
}

MetricsFile::~MetricsFile() {
  if (file_) std::fclose(file_);
}

void MetricsFile::write(const nlohmann::ordered_json& line) {
  const std::string text = line.dump() + "\n";
  if (std::fwrite(text.data(), 1, text.size(), file_) != text.size() || std::fflush(file_) != 0) {
    throw_io_error(path_.string(), "cannot write metrics: {}; free some space and resume",
                   std::strerror(errno));
  }
  bytes_ += static_cast<int64_t>(text.size());
}

}  // namespace qtf::train
