#include "qtf/train/metrics.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "qtf/base/error.h"

namespace qtf::train {

MetricsFile::MetricsFile(const std::filesystem::path& folder, int64_t keep_bytes)
    : path_(folder / "metrics.jsonl") {
  file_ = std::fopen(path_.c_str(), "ab");
  struct stat status {};
  if (file_ && fstat(fileno(file_), &status) == 0) {
    // ftruncate would pad a shorter file, one that lost its end in a crash, with NULs.
    bytes_ = std::min<int64_t>(keep_bytes, status.st_size);
    if (ftruncate(fileno(file_), bytes_) == 0) return;
  }
  const int error = errno;
  if (file_) std::fclose(file_);
  throw_io_error(path_.string(), "cannot write metrics: {}", std::strerror(error));
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
