// The files that a model consists of, with their hashes: what a record means by "this model".
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace qtf::model {

struct ModelFile {
  std::string name;    ///< in the folder; of a model that is one file, its name
  std::string sha256;  ///< 64 hexadecimal digits
};

/// config.json, weights and tokenizer files of a folder, sorted by name; records, reports, calibrations and
/// checkpoints are none of it. Throws InputError for a path that is no model.
std::vector<ModelFile> model_files(const std::filesystem::path& model);

/// SHA-256 over the lines "NAME HASH\n"; of a model that is one file, that file's.
std::string hash_of(const std::vector<ModelFile>& files);

/// hash_of(model_files(model)): which model a measurement or a record is of.
std::string model_hash(const std::filesystem::path& model);

}  // namespace qtf::model
