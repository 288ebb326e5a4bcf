#include "qtf/model/model_hash.h"

#include "qtf/model/model_files.h"

namespace qtf::model {

std::string model_hash(const std::filesystem::path& model) {
  return hash_of(model_files(model));
}

}  // namespace qtf::model
