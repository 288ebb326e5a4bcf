#include "qtf/model/weight_files.h"

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"

namespace qtf::model {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// A thousand times what an index of our size has.
constexpr size_t kMaxIndexBytes = size_t{64} << 20;

constexpr std::string_view kOtherFormats[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                              "model.safetensors.index.json.gz", "tf_model.h5",
                                              "flax_model.msgpack"};

[[noreturn]] void refuse_folder(const fs::path& folder) {
  for (const std::string_view other : kOtherFormats) {
    if (!fs::exists(folder / other)) continue;
    throw_input_error(folder.string(),
                      "has {} but no model.safetensors; only safetensors are read: save the model again with "
                      "safe_serialization=True",
                      other);
  }
  throw_input_error(folder.string(),
                    "has no weights: neither model.safetensors nor "
                    "model.safetensors.index.json");
}

/// {tensor: file} of an index.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const MappedFile file(path);
  if (file.size() > kMaxIndexBytes)
    throw_io_error(path.string(), "has {} bytes; an index has at most {}", file.size(), kMaxIndexBytes);
  const json index = json::parse(file.text(), nullptr, false);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object())
    throw_io_error(path.string(), "has no \"weight_map\" of tensors and files");
  std::map<std::string, std::string> files;
  for (const auto& [tensor, name] : map->items()) {
    const std::string shard = name.is_string() ? name.get<std::string>() : std::string();
    // Shards lie beside their index: nothing else on this machine is any model's business.
    if (!shard.ends_with(".safetensors") || fs::path(shard).filename() != shard)
      throw_io_error(path.string(), "tensor {} lies in {}, which is no safetensors file of this folder",
                     tensor, name.dump(-1, ' ', true));
    files.emplace(tensor, shard);
  }
  return files;
}

}  // namespace

WeightFiles::WeightFiles(const fs::path& folder) {
  const fs::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  if (fs::exists(single)) {
    place_ = single.string();
    const auto& file = files_.emplace_back(single);
    for (const io::TensorInfo& info : file.tensors()) tensors_.emplace(info.name, StoredTensor{&file, &info});
    bytes_ = static_cast<int64_t>(fs::file_size(single));
  } else if (fs::exists(index)) {
    place_ = index.string();
    open_index(index);
  } else {
    refuse_folder(folder);
  }
}

void WeightFiles::open_index(const fs::path& index) {
  std::map<std::string, const io::SafetensorsFile*> opened;
  for (const auto& [tensor, name] : read_index(index)) {
    const io::SafetensorsFile*& file = opened[name];
    if (!file) {
      const fs::path path = index.parent_path() / name;
      file = &files_.emplace_back(path);
      bytes_ += static_cast<int64_t>(fs::file_size(path));
    }
    tensors_.emplace(tensor, StoredTensor{file, &file->at(tensor)});
  }
}

StoredTensor WeightFiles::at(std::string_view name) const {
  for (const std::string_view prefix : {"", "transformer.", "model."}) {
    if (!name.starts_with(prefix)) continue;
    const auto found = tensors_.find(name.substr(prefix.size()));
    if (found != tensors_.end()) return found->second;
  }
  throw_io_error(place_, "there is no tensor {} among its {}", name, tensors_.size());
}

}  // namespace qtf::model
