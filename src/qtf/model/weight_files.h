// The safetensors of a model folder: one file, or shards that an index lists.
#pragma once

#include <deque>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "qtf/io/safetensors.h"

namespace qtf::model {

/// One tensor and the file that it lies in.
struct StoredTensor {
  const io::SafetensorsFile* file = nullptr;
  const io::TensorInfo* info = nullptr;
};

/// The weights of a folder, mapped and checked, by name. Not copyable: entries point into the files.
class WeightFiles {
 public:
  /// Opens model.safetensors, or else the shards that model.safetensors.index.json lists. Throws InputError
  /// if there is neither (naming what is there instead), IoError for damaged files, for an index that leads
  /// out of the folder, and for shards that lack a tensor of theirs.
  explicit WeightFiles(const std::filesystem::path& folder);
  WeightFiles(const WeightFiles&) = delete;
  WeightFiles& operator=(const WeightFiles&) = delete;

  /// What errors name: the one file, or the index.
  const std::string& place() const { return place_; }
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }

  /// By our name, or by the name in files of a bare model, without "transformer." or "model." in front.
  /// Throws IoError if there is none.
  StoredTensor at(std::string_view name) const;

  /// Of all files.
  int64_t bytes() const { return bytes_; }

 private:
  void open_index(const std::filesystem::path& index);

  std::string place_;
  std::deque<io::SafetensorsFile> files_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
  int64_t bytes_ = 0;
};

}  // namespace qtf::model
