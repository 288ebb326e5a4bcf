#include "qtf/model/weight_files.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/model/model_folder.h"

namespace qtf::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kShards = fs::path(QTF_SOURCE_DIR) / "src/qtf/model/testdata/hf_llama_shards";

/// A copy of the sharded model whose index can be changed.
class Copy {
 public:
  Copy() { fs::copy(kShards, path()); }
  fs::path path() const { return folder_ / "model"; }
  fs::path index() const { return path() / "model.safetensors.index.json"; }
  json read_index() const { return json::parse(read_file(index())); }

  std::string error(const std::string& new_index) const {
    write_file_atomically(index(), new_index);
    return error();
  }
  std::string error() const {
    try {
      load_model(path());
      return "";
    } catch (const IoError& error) {
      return error.what();
    } catch (const InputError& error) {
      return error.what();
    }
  }

 private:
  TemporaryFolder folder_;
};

void expect_part(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "expected: " << part << "\ngot: " << text;
}

TEST(WeightFiles, JoinsShards) {
  const WeightFiles files(kShards);
  EXPECT_EQ(files.tensors().size(), 11u);
  EXPECT_EQ(files.bytes(), static_cast<int64_t>(fs::file_size(kShards / "model-00001-of-00002.safetensors") +
                                                fs::file_size(kShards / "model-00002-of-00002.safetensors")));
  EXPECT_NE(files.at("model.norm.weight").file, files.at("model.embed_tokens.weight").file);
  EXPECT_THROW(files.at("absent"), IoError);
}

TEST(WeightFiles, RefusesAHostileIndex) {
  const Copy copy;
  expect_part(copy.error("{"), "has no \"weight_map\"");
  expect_part(copy.error("[]"), "has no \"weight_map\"");
  expect_part(copy.error(R"({"weight_map": 3})"), "has no \"weight_map\"");
  for (const char* file :
       {"../other.safetensors", "/etc/passwd", "a/b.safetensors", "", "config.json", "..", "."}) {
    const json index = {{"weight_map", {{"model.norm.weight", file}}}};
    expect_part(copy.error(index.dump()), "which is no safetensors file of this folder");
  }
  expect_part(copy.error(R"({"weight_map": {"model.norm.weight": 3}})"),
              "no safetensors file of this folder");
  expect_part(copy.error(R"({"weight_map": {"model.norm.weight": "absent.safetensors"}})"),
              "absent.safetensors");
}

TEST(WeightFiles, AnIndexMustFitItsShards) {
  const Copy copy;
  json index = copy.read_index();
  index["weight_map"].erase("model.norm.weight");
  expect_part(copy.error(index.dump()), "there is no tensor model.norm.weight");
  index = copy.read_index();
  EXPECT_NE(copy.error(index.dump()), "");
}

TEST(WeightFiles, AShardMustHoldWhatTheIndexSays) {
  const Copy copy;
  json index = copy.read_index();
  index["weight_map"]["model.norm.weight"] = "model-00001-of-00002.safetensors";
  expect_part(copy.error(index.dump()),
              "model-00001-of-00002.safetensors: there is no tensor model.norm.weight");
  index = copy.read_index();
  index["weight_map"]["extra.weight"] = "model-00001-of-00002.safetensors";
  EXPECT_NE(copy.error(index.dump()), "");
  fs::remove(copy.path() / "model-00002-of-00002.safetensors");
  EXPECT_NE(copy.error(), "");
}

TEST(WeightFiles, NamesOtherFormatsOfWeights) {
  const Copy copy;
  fs::remove(copy.index());
  expect_part(copy.error(), "has no weights: neither model.safetensors nor");
  write_file_atomically(copy.path() / "pytorch_model.bin", "x");
  expect_part(copy.error(), "has pytorch_model.bin but no model.safetensors");
}

}  // namespace
}  // namespace qtf::model
