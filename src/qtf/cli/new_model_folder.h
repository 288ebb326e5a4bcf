// The model folder that a command writes.
#pragma once

#include <filesystem>
#include <string>

#include "qtf/base/error.h"
#include "qtf/cli/command.h"

namespace qtf::cli {

/// A folder that appears whole or not at all: written beside its place, then renamed.
class NewModelFolder {
 public:
  NewModelFolder(std::filesystem::path out, std::string_view place)
      : out_(std::move(out)), temporary_(out_.string() + ".tmp") {
    std::filesystem::remove_all(temporary_);
    std::error_code error;
    std::filesystem::create_directories(temporary_, error);
    if (error)
      throw_io_error(place, "cannot make the folder {}: {}; choose another --out", temporary_.string(),
                     error.message());
  }
  ~NewModelFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(temporary_, ignored);
  }
  NewModelFolder(const NewModelFolder&) = delete;
  NewModelFolder& operator=(const NewModelFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return temporary_ / name; }
  const std::filesystem::path& path() const { return temporary_; }
  void keep() { std::filesystem::rename(temporary_, out_); }

 private:
  std::filesystem::path out_, temporary_;
};

/// The value of --out. Throws InputError unless nothing, or an empty folder, lies there.
inline std::filesystem::path new_model_path(const Arguments& arguments, std::string_view place) {
  std::filesystem::path out = std::filesystem::path(arguments.text("--out")).lexically_normal();
  if (!out.has_filename()) out = out.parent_path();
  if (out.empty()) throw UsageError("--out is empty; name the model folder to write");
  if (std::filesystem::exists(out) && !(std::filesystem::is_directory(out) && std::filesystem::is_empty(out)))
    throw_input_error(place, "--out {} exists already; choose another folder", out.string());
  return out;
}

}  // namespace qtf::cli
