// Which model a measurement or a record is of.
#pragma once

#include <filesystem>
#include <string>

namespace qtf::model {

/// SHA-256, 64 hexadecimal digits, over the lines "NAME HASH\n" (sorted by name) of a model folder's
/// config.json, weights and tokenizer files; of a model that is one file, that file's. What else lies in the
/// folder (records, reports, calibrations) does not count. Throws InputError for a path that is no model.
std::string model_hash(const std::filesystem::path& model);

}  // namespace qtf::model
