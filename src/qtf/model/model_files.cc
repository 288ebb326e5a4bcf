#include "qtf/model/model_files.h"

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/base/sha256.h"
#include "qtf/text/tokenizer.h"

namespace qtf::model {

namespace {

bool is_tokenizer_file(const std::string& name) {
  for (const text::TokenizerKind& kind : text::tokenizer_kinds())
    for (const std::vector<std::string>& set : kind.file_sets)
      if (std::find(set.begin(), set.end(), name) != set.end()) return true;
  return false;
}

bool is_model_file(const std::string& name) {
  const bool weights =
      name.ends_with(".safetensors") && name != "calibration.safetensors" && name != "checkpoint.safetensors";
  return weights || name == "config.json" || is_tokenizer_file(name);
}

}  // namespace

std::vector<ModelFile> model_files(const std::filesystem::path& model) {
  namespace fs = std::filesystem;
  if (fs::is_regular_file(model)) return {{model.filename().string(), sha256_file(model)}};
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator i(model, error), end; !error && i != end; i.increment(error))
    if (is_model_file(i->path().filename().string())) names.push_back(i->path().filename().string());
  std::sort(names.begin(), names.end());
  if (!std::binary_search(names.begin(), names.end(), "config.json"))
    throw_input_error("model", "{} holds no model: there is no config.json", model.string());
  std::vector<ModelFile> files;
  for (const std::string& name : names) files.push_back({name, sha256_file(model / name)});
  return files;
}

std::string hash_of(const std::vector<ModelFile>& files) {
  if (files.size() == 1) return files[0].sha256;
  std::string lines;
  for (const ModelFile& file : files) lines += file.name + " " + file.sha256 + "\n";
  return sha256_hex(lines);
}

std::string model_hash(const std::filesystem::path& model) {
  return hash_of(model_files(model));
}

}  // namespace qtf::model
