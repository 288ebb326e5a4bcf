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

}  // namespace
}  // namespace qtf::model
