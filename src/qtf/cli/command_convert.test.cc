
#include "qtf/base/json.h"
#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

namespace fs = std::filesystem;

const std::string kGolden = std::string(QTF_SOURCE_DIR) + "/src/qtf/model/testdata/";

class Convert : public testing::Test {
 protected:
  /// Converts within the workplace and returns what was printed.
  std::string convert(const std::string& source, const std::string& destination,
                      std::vector<std::string> more = {}) const {
    std::vector<std::string> args = {"convert", source, place_ / destination};
    args.insert(args.end(), more.begin(), more.end());
    const Result result = call(args);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  }

  double loss(const std::string& model, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> args = {"eval", model, "--text", place_.book()};
    args.insert(args.end(), more.begin(), more.end());
    return call_json(args).at("nats_per_token");
  }

  void refuse(std::vector<std::string> args, const std::string& part) const {
    args.insert(args.begin(), "convert");
    const auto before = place_.snapshot();
    const Result result = call(args);
    EXPECT_EQ(result.status, 2);
    EXPECT_NE(result.err.find(part), std::string::npos) << "expected: " << part << "\n" << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(place_.snapshot() == before) << "something was written or lost";
  }

  const Workplace place_;
};

TEST_F(Convert, NamesTheQuantumLayerThatItKeepsOrDrops) {
  const std::string model = place_.train("quantum", {"--quantum", "qubits=2,layers=1"});
  EXPECT_NE(convert(model, "kept").find("the quantum layer stays, which only qtf reads"), std::string::npos);
  EXPECT_EQ(loss(place_ / "kept"), loss(model));
  for (const auto& [name, flags] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"dense", {"--dense"}}, {"dense.gguf", {}}}) {
    EXPECT_NE(convert(model, name, flags).find("the quantum layer of block 1 ("), std::string::npos) << name;
    EXPECT_FALSE(call_json({"info", place_ / name}).contains("quantum"));
  }
}

TEST_F(Convert, ACompressedModelLeavesAsDenseFilesOfTheSameFunction) {
  const std::string model = place_.train("chain", {"--ratio", "1.5", "--levels", "4", "--steps", "30"});
  const std::string out = convert(model, "chain.gguf");
  EXPECT_TRUE(out.starts_with(place_ / "chain.gguf" + ": GGUF file with ")) << out;
  EXPECT_NE(out.find("stored as tensor trains: multiplied out"), std::string::npos) << out;
  EXPECT_NE(out.find("nested levels: only level 4 of 4 is kept"), std::string::npos) << out;
  convert(model, "dense", {"--dense"});
  convert(model, "small.gguf", {"--level", "1"});
  const double expected = loss(model);
  EXPECT_NEAR(loss(place_ / "chain.gguf"), expected, 1e-4);
  EXPECT_NEAR(loss(place_ / "dense"), expected, 1e-4);
  EXPECT_NEAR(loss(place_ / "small.gguf"), loss(model, {"--level", "1"}), 1e-4);
  EXPECT_EQ(call_json({"info", place_ / "dense"}).at("ratio"), 1.0);
}

TEST_F(Convert, AFolderKeepsTensorTrainsAndSaysSo) {
  const std::string model = place_.train("chain", {"--ratio", "1.5"});
  EXPECT_NE(convert(model, "half", {"--type", "f16"}).find("note: the tensor trains stay"),
            std::string::npos);
  EXPECT_NEAR(loss(place_ / "half"), loss(model), 1e-2);
  const auto before = call_json({"info", model}), after = call_json({"info", place_ / "half"});
  EXPECT_EQ(after.at("parameters"), before.at("parameters"));
  EXPECT_LT(after.at("bytes").get<int64_t>(), before.at("bytes").get<int64_t>() * 6 / 10);
  const auto config = nlohmann::json::parse(read_file(place_ / "half/config.json"));
  EXPECT_EQ(config.at("torch_dtype"), "float16");
}

TEST_F(Convert, EveryCommandReadsForeignModels) {
  for (const std::string name : {"hf_llama_shards", "hf_gpt2"}) {
    const std::string source = kGolden + name, file = place_ / (name + ".gguf");
    convert(source, name + ".gguf");
    const auto generated = [&](const std::string& model) {
      return call({"generate", model, "--prompt", "the cat", "--tokens", "8", "--temperature", "0"}).out;
    };
    EXPECT_EQ(generated(file), generated(source));
    EXPECT_NEAR(loss(file), loss(source), 1e-6);
    EXPECT_EQ(call_json({"info", file}).at("parameters"), call_json({"info", source}).at("parameters"));
    const Result trained = call({"train", "--from", file, "--train", place_.book(), "--out", place_ / name,
                                 "--steps", "2", "--batch", "2", "--quiet"});
    EXPECT_EQ(trained.status, 0) << trained.err;
  }
}

TEST_F(Convert, AModelWithoutATokenizerSaysWhy) {
  EXPECT_NE(convert(kGolden + "llama.gguf", "folder").find("note: no tokenizer was read: "),
            std::string::npos);
  EXPECT_EQ(call_json({"info", place_ / "folder"}).at("parameters"),
            call_json({"info", kGolden + "llama.gguf"}).at("parameters"));
  const Result result = call({"generate", place_ / "folder", "--prompt", "a"});
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("has no tokenizer that can be used: [tokenizer] no tokenizer in"),
            std::string::npos)
      << result.err;
}

TEST_F(Convert, RefusesWhatCannotBeAndLeavesNothing) {
  const std::string model = place_.train("model");
  const std::string chain = place_.train("chain", {"--ratio", "1.5"});
  const std::string file = place_.write("there.gguf", "old");
  refuse({model, file}, "exists already; choose another name, or remove it");
  refuse({model, chain}, "exists already");
  refuse({model, place_ / "x.bin"}, "a llama2.c .bin is only read, not written");
  refuse({model, place_ / "x.gguf", "--type", "bf16"},
         "--type bf16: a GGUF file is written as f32, f16, q8_0");
  refuse({model, place_ / "x.edge", "--type", "q8_0"}, "--type q8_0: an edge file is written as f32, f16");
  refuse({model, place_ / "x", "--type", "q8_0"}, "--type q8_0: a model folder is written as f32, f16, bf16");
  refuse({model, place_ / "x", "--type", "q9"}, "q9");
  refuse({place_ / "nowhere", place_ / "x"}, "there is no such model folder or file");
  refuse({chain, place_ / "x", "--level", "1"}, "--level chooses what becomes dense; add --dense");
  refuse({model, place_ / "x.gguf", "--level", "2"}, "this model has 1 level");
  refuse({model, place_ / "no/such/folder/x.gguf"}, "x.gguf");
  EXPECT_EQ(read_file(file), "old");
}

TEST_F(Convert, WeightsTooLargeForSixteenBitsLeaveNothing) {
  const std::string model = place_.train("model");
  std::string weights = read_file(model + "/model.safetensors");
  const float large = 1e6f;
  weights.replace(weights.size() - 4, 4, std::string(reinterpret_cast<const char*>(&large), 4));
  place_.write("model/model.safetensors", weights);
  refuse({model, place_ / "y", "--type", "f16"}, "1000000 at element");
  EXPECT_EQ(call({"convert", model, place_ / "z", "--type", "bf16"}).status, 0);
}

}  // namespace
}  // namespace qtf::cli
