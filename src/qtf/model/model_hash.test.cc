#include "qtf/model/model_hash.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/sha256.h"
#include "qtf/base/temporary_folder.h"

namespace qtf::model {
namespace {

TEST(ModelHash, CountsWhatMakesTheModelAndNothingElse) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "config.json", "{}");
  write_file_atomically(folder / "model.safetensors", "weights");
  const std::string hash = model_hash(folder.path());
  EXPECT_EQ(hash, sha256_hex("config.json " + sha256_hex("{}") + "\nmodel.safetensors " +
                             sha256_hex("weights") + "\n"));
  for (const char* other : {"calibration.safetensors", "decisions.jsonl", "README.md"})
    write_file_atomically(folder / other, "more");
  EXPECT_EQ(model_hash(folder.path()), hash);
  write_file_atomically(folder / "tokenizer.model", "pieces");
  EXPECT_NE(model_hash(folder.path()), hash);
  EXPECT_EQ(model_hash(folder / "model.safetensors"), sha256_hex("weights"));
}

TEST(ModelHash, RefusesWhatIsNoModel) {
  const TemporaryFolder folder;
  EXPECT_THROW(model_hash(folder.path()), InputError);
  EXPECT_THROW(model_hash(folder / "none"), InputError);
}

}  // namespace
}  // namespace qtf::model
