#include "qtf/model/model_files.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/sha256.h"
#include "qtf/base/temporary_folder.h"

namespace qtf::model {
namespace {

std::string names_of(const std::vector<ModelFile>& files) {
  std::string names;
  for (const ModelFile& file : files) names += file.name + " ";
  return names;
}

TEST(ModelFiles, AreWhatTheModelConsistsOf) {
  TemporaryFolder folder;
  EXPECT_THROW(model_files(folder.path()), InputError);
  EXPECT_THROW(model_files(folder / "none"), InputError);
  for (const char* name : {"model.safetensors", "config.json", "tokenizer.model", "README.md", "audit.sqlite",
                           "calibration.safetensors", "checkpoint.safetensors", "report.json"})
    write_file_atomically(folder / name, name);
  const std::vector<ModelFile> files = model_files(folder.path());
  EXPECT_EQ(names_of(files), "config.json model.safetensors tokenizer.model ");
  EXPECT_EQ(files[0].sha256, sha256_hex("config.json"));
  const std::string hash = hash_of(files);
  EXPECT_EQ(hash, sha256_hex("config.json " + sha256_hex("config.json") + "\nmodel.safetensors " +
                             sha256_hex("model.safetensors") + "\ntokenizer.model " +
                             sha256_hex("tokenizer.model") + "\n"));
  write_file_atomically(folder / "README.md", "other");
  EXPECT_EQ(hash_of(model_files(folder.path())), hash);
  for (const char* name : {"model.safetensors", "config.json", "tokenizer.model", "vocab.json"}) {
    write_file_atomically(folder / name, "other");
    EXPECT_NE(hash_of(model_files(folder.path())), hash) << name;
  }
}

TEST(ModelFiles, OfAModelInOneFile) {
  TemporaryFolder folder;
  write_file_atomically(folder / "m.gguf", "weights");
  EXPECT_EQ(names_of(model_files(folder / "m.gguf")), "m.gguf ");
  EXPECT_EQ(hash_of(model_files(folder / "m.gguf")), sha256_hex("weights"));
}

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
