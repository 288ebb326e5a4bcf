// The output folder of a command while it is not sure yet that it can begin.
#pragma once

#include <filesystem>
#include <vector>

#include "qtf/base/error.h"

namespace qtf::cli {

/// Makes a folder and those above it, and, unless kept, takes back what was made: a run that cannot begin
/// leaves nothing.
class NewFolder {
 public:
  explicit NewFolder(const std::filesystem::path& folder)
      : folder_(std::filesystem::absolute(folder).lexically_normal()) {
    if (!folder_.has_filename()) folder_ = folder_.parent_path();
    for (std::filesystem::path p = folder_; !std::filesystem::exists(p); p = p.parent_path())
      made_.push_back(p);
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (!error) return;
    take_back();
    throw_io_error("train", "cannot make the folder {}: {}; choose another --out", folder.string(),
                   error.message());
  }
  ~NewFolder() {
    if (!kept_) take_back();
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  /// The folder is locked and was empty: what lies in it from now on is this run's.
  void own_contents() { owned_ = true; }
  void keep() { kept_ = true; }

 private:
  void take_back() {
    std::error_code ignored;
    if (owned_) {
      for (const auto& entry : std::filesystem::directory_iterator(folder_, ignored))
        std::filesystem::remove_all(entry, ignored);
    }
    for (const std::filesystem::path& p : made_)
      std::filesystem::remove(p, ignored);  // only while empty: others may have moved in
  }

  std::filesystem::path folder_;
  std::vector<std::filesystem::path> made_;  // innermost first
  bool owned_ = false, kept_ = false;
};

}  // namespace qtf::cli
