#include "qtf/model/model_hash.h"

#include <algorithm>
#include <array>
#include <vector>

#include "qtf/base/error.h"
#include "qtf/base/sha256.h"

namespace qtf::model {

namespace {

constexpr std::array<std::string_view, 9> kHashedNames{
    "config.json",  "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "vocab.json",
    "encoder.json", "merges.txt",      "vocab.bpe",      "tokenizer.bin"};

bool is_hashed(const std::string& name) {
  const bool weights = name.ends_with(".safetensors") && name != "calibration.safetensors";
  return weights || std::find(kHashedNames.begin(), kHashedNames.end(), name) != kHashedNames.end();
}

}  // namespace

std::string model_hash(const std::filesystem::path& model) {
  namespace fs = std::filesystem;
  if (fs::is_regular_file(model)) return sha256_file(model);
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(model, error))
    if (is_hashed(entry.path().filename().string())) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  if (names.empty()) throw_input_error("model", "{} holds no model", model.string());
  std::string lines;
  for (const std::string& name : names) lines += name + " " + sha256_file(model / name) + "\n";
  return sha256_hex(lines);
}

}  // namespace qtf::model
