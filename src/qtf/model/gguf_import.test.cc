#include "qtf/model/gguf_import.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <optional>

#include "qtf/base/error.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/io/gguf.h"
#include "qtf/model/gguf_export.h"
#include "qtf/model/gguf_names.h"
#include "qtf/model/gguf_tokenizer.h"
#include "qtf/model/small_model.h"
#include "qtf/text/byte_tokenizer.h"

namespace qtf::model {
namespace {

namespace fs = std::filesystem;

/// A tiny Llama model's file, whose entries can be left out, replaced or added.
struct File {
  std::map<std::string, std::function<void(io::GgufWriter&)>> entries;
  std::map<std::string, std::vector<int64_t>> tensors;
  float value = 0.5f;

  File() {
    set("general.architecture", "llama");
    const std::pair<const char*, uint32_t> sizes[] = {
        {"context_length", 8},       {"embedding_length", 8},     {"block_count", 1},
        {"feed_forward_length", 12}, {"attention.head_count", 2}, {"attention.head_count_kv", 1}};
    for (const auto& [name, size] : sizes) set(std::string("llama.") + name, size);
    set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    tensors = {{"token_embd.weight", {5, 8}},        {"output_norm.weight", {8}},
               {"blk.0.attn_norm.weight", {8}},      {"blk.0.attn_q.weight", {8, 8}},
               {"blk.0.attn_k.weight", {4, 8}},      {"blk.0.attn_v.weight", {4, 8}},
               {"blk.0.attn_output.weight", {8, 8}}, {"blk.0.ffn_norm.weight", {8}},
               {"blk.0.ffn_gate.weight", {12, 8}},   {"blk.0.ffn_up.weight", {12, 8}},
               {"blk.0.ffn_down.weight", {8, 12}}};
  }
  template <class T>
  void set(const std::string& key, T value_) {
    entries[key] = [=](io::GgufWriter& writer) { writer.set(key, value_); };
  }

  LoadedModel load() const {
    const TemporaryFolder folder;
    io::GgufWriter writer;
    for (const auto& [key, entry] : entries) entry(writer);
    for (const auto& [name, dims] : tensors) {
      int64_t size = 1;
      for (const int64_t dim : dims) size *= dim;
      writer.add(name, dims, io::TensorType::f32, std::vector<float>(static_cast<size_t>(size), value));
    }
    writer.write(folder / "x.gguf");
    return load_gguf(folder / "x.gguf");
  }

  std::string error() const {
    try {
      load();
      return "";
    } catch (const IoError& error) {
      return error.what();
    } catch (const InputError& error) {
      return error.what();
    }
  }
};

void refuse(const std::function<void(File&)>& change, const std::string& part) {
  File file;
  change(file);
  const std::string error = file.error();
  EXPECT_NE(error.find(part), std::string::npos) << "expected: " << part << "\ngot: " << error;
  EXPECT_NE(error.find("x.gguf"), std::string::npos) << error;
}

TEST(GgufImport, ReadsSizesAndSaysWhyThereIsNoTokenizer) {
  const LoadedModel loaded = File().load();
  const ModelConfig& config = loaded.model->config();
  EXPECT_EQ(config.vocabulary, 5);
  EXPECT_EQ(config.kv_heads, 1);
  EXPECT_EQ(config.feed_forward, 12);
  EXPECT_EQ(config.norm_epsilon, 1e-5) << "not the double nearest to the file's float";
  EXPECT_TRUE(config.tied);
  EXPECT_EQ(loaded.tokenizer, nullptr);
  EXPECT_NE(loaded.tokenizer_problem.find("holds no tokenizer"), std::string::npos);
}

TEST(GgufImport, RefusesWhatItDoesNotSupport) {
  refuse([](File& f) { f.entries.erase("general.architecture"); }, "general.architecture is missing");
  refuse([](File& f) { f.set("general.architecture", "qwen2"); },
         "the architecture \"qwen2\" is not supported; llama, gpt2 are");
  refuse([](File& f) { f.entries.erase("llama.block_count"); }, "llama.block_count is missing");
  refuse([](File& f) { f.set("llama.block_count", "one"); }, "llama.block_count must be a whole number");
  refuse([](File& f) { f.set("llama.expert_count", uint32_t{8}); }, "mixtures of experts");
  refuse([](File& f) { f.set("llama.rope.scaling.type", "yarn"); }, "scaled rotary positions (\"yarn\")");
  refuse([](File& f) { f.tensors["rope_freqs.weight"] = {2}; }, "scaled rotary positions");
  refuse([](File& f) { f.set("llama.rope.dimension_count", uint32_t{2}); }, "rope.dimension_count of 2");
  refuse([](File& f) { f.set("llama.attention.key_length", uint32_t{8}); }, "attention.key_length of 8");
  refuse([](File& f) { f.set("split.count", uint32_t{2}); }, "one part of several");
  refuse([](File& f) { f.tensors["blk.0.attn_q.bias"] = {8}; }, "the tensor blk.0.attn_q.bias (byte ");
}

TEST(GgufImport, RefusesSizesThatTheTensorsContradict) {
  refuse([](File& f) { f.tensors.erase("token_embd.weight"); }, "there is no tensor token_embd.weight");
  refuse([](File& f) { f.tensors["token_embd.weight"] = {40}; }, "token_embd.weight is no matrix");
  refuse([](File& f) { f.tensors.erase("blk.0.ffn_up.weight"); }, "there is no tensor blk.0.ffn_up.weight");
  refuse([](File& f) { f.set("llama.feed_forward_length", uint32_t{16}); }, "the metadata ask for [16, 8]");
  refuse([](File& f) { f.set("llama.attention.head_count", uint32_t{3}); }, "not a multiple of 3 heads");
  refuse([](File& f) { f.set("llama.attention.head_count", uint32_t{0}); }, "heads must be 1 to");
  // Sizes that would need terabytes are refused before room is made for them.
  refuse([](File& f) { f.set("llama.embedding_length", uint32_t{65536}); }, "the metadata ask for");
  refuse([](File& f) { f.set("llama.block_count", uint32_t{1024}); },
         "there is no tensor blk.1.attn_norm.weight");
  refuse([](File& f) { f.set("llama.block_count", uint32_t{1} << 31); }, "layers must be 1 to 1024");
  refuse([](File& f) { f.value = NAN; }, "holds nan at element 0");
}

TEST(GgufImport, AHeadThatRepeatsTheEmbeddingIsTied) {
  File file;
  file.tensors["output.weight"] = {5, 8};
  EXPECT_TRUE(file.load().model->config().tied);
  const TemporaryFolder folder;
  for (const SmallModel& small : small_models()) {
    if (!small.shapes.empty() || !small.quantum.empty()) continue;
    Transformer<float> model(small_config(small));
    randomise(model);
    save_gguf(folder / small.name, model, nullptr, io::TensorType::q8_0);
    EXPECT_EQ(load_gguf(folder / small.name).model->config().tied, small.tied) << small.name;
  }
}

TEST(GgufExport, RefusesTensorTrains) {
  const TemporaryFolder folder;
  Transformer<float> model(small_config(small_models()[4]));
  EXPECT_THROW(save_gguf(folder / "x.gguf", model, nullptr, io::TensorType::f32), InputError);
  EXPECT_FALSE(fs::exists(folder / "x.gguf"));
}

TEST(GgufExport, RefusesAQuantumLayer) {
  const TemporaryFolder folder;
  ModelConfig config = small_config(small_models().front());
  config.quantum.emplace();
  const Transformer<float> model(config);
  EXPECT_THROW(save_gguf(folder / "x.gguf", model, nullptr, io::TensorType::f32), InputError);
  EXPECT_FALSE(fs::exists(folder / "x.gguf"));
}

TEST(GgufNames, EveryTensorHasAnotherName) {
  for (const SmallModel& small : small_models()) {
    if (!small.shapes.empty() || !small.quantum.empty()) continue;
    const ModelConfig config = small_config(small);
    std::set<std::string> names;
    for (const Parameter& p : make_layout(config).parameters)
      EXPECT_TRUE(names.insert(gguf_tensor_name(config.family, p.name)).second) << p.name;
    EXPECT_TRUE(names.contains("token_embd.weight"));
    EXPECT_TRUE(names.contains("blk.1.ffn_down.weight"));
  }
  EXPECT_THROW(gguf_tensor_name(Family::llama, "model.layers.0.mlp.new.weight"), InputError);
}

/// Writes a tokenizer into a file and reads it.
GgufTokenizer round_trip(const text::Pieces& pieces, const ModelConfig& config,
                         const std::function<void(io::GgufWriter&)>& more = {}) {
  const TemporaryFolder folder;
  io::GgufWriter writer;
  write_gguf_tokenizer(pieces, config, writer);
  if (more) more(writer);
  writer.write(folder / "x.gguf");
  return read_gguf_tokenizer(io::GgufFile(folder / "x.gguf"));
}

/// Marks, bytes, two words and a user's symbol with a blank.
text::Pieces sentencepiece(text::Pieces::Kind kind) {
  text::Pieces pieces;
  pieces.kind = kind;
  pieces.unknown = 0, pieces.bos = 1, pieces.eos = 2;
  pieces.pieces = {{"<unk>", 0, text::PieceType::unknown},
                   {"<s>", 0, text::PieceType::control},
                   {"</s>", 0, text::PieceType::control}};
  for (int b = 0; b < 256; ++b)
    pieces.pieces.push_back({text::byte_piece(static_cast<uint8_t>(b)), 0, text::PieceType::byte});
  pieces.pieces.push_back({"\xE2\x96\x81<hole>", 0, text::PieceType::user_defined});
  for (const char* word : {"a", "b", "\xE2\x96\x81", "ab",
                           "\xE2\x96\x81"
                           "a"})
    pieces.pieces.push_back({word, -1.5f * static_cast<float>(pieces.pieces.size() - 258)});
  return pieces;
}

TEST(GgufTokenizer, GivesBackSentencePieceModels) {
  for (const auto kind : {text::Pieces::Kind::bpe, text::Pieces::Kind::unigram}) {
    for (const bool flag : {false, true}) {
      text::Pieces pieces = sentencepiece(kind);
      pieces.add_dummy_prefix = flag, pieces.remove_extra_whitespaces = !flag;
      ModelConfig config;
      config.bos_token = flag ? 1 : -1, config.eos_token = 2;
      const GgufTokenizer back = round_trip(pieces, config);
      EXPECT_EQ(back.pieces.kind, kind);
      EXPECT_EQ(back.pieces.pieces, pieces.pieces);
      EXPECT_EQ(back.pieces.add_dummy_prefix, flag);
      EXPECT_EQ(back.pieces.remove_extra_whitespaces, !flag);
      EXPECT_EQ(back.pieces.unknown, 0);
      EXPECT_EQ(back.bos, config.bos_token);
      EXPECT_EQ(back.eos, 2);
      const auto a = text::make_tokenizer(pieces, "a"), b = text::make_tokenizer(back.pieces, "b");
      for (const char* text : {"a ab\n", " <hole>b", "\xC3\xA9\t  a"})
        EXPECT_EQ(a->encode(text), b->encode(text));
    }
  }
}

TEST(GgufTokenizer, GivesLlamaCppTheLineEndOfUnigramModels) {
  const TemporaryFolder folder;
  io::GgufWriter writer;
  write_gguf_tokenizer(sentencepiece(text::Pieces::Kind::unigram), {}, writer);
  writer.write(folder / "x.gguf");
  const io::GgufFile file(folder / "x.gguf");
  const auto tokens = io::texts(*file.array("tokenizer.ggml.tokens"), "tokens");
  const auto types = io::numbers<int32_t>(*file.array("tokenizer.ggml.token_type"), "types");
  EXPECT_EQ(tokens[3 + '\n'], "\n");
  EXPECT_EQ(types[3 + '\n'], 4);
  EXPECT_EQ(tokens[3 + 'a'], "<0x61>") << "another piece has it";
  EXPECT_EQ(tokens[3 + 0xC3], "<0xC3>");
  EXPECT_EQ(tokens[259], " <hole>") << "as it stands in the text";
}

TEST(GgufTokenizer, GivesBackByteLevelModels) {
  text::Pieces pieces = text::make_byte_tokenizer()->pieces();
  pieces.pieces.push_back({"ab"});
  pieces.merges = {"a b"};
  pieces.rule = "smollm";
  const GgufTokenizer back = round_trip(pieces, {});
  EXPECT_EQ(back.pieces.pieces, pieces.pieces);
  EXPECT_EQ(back.pieces.merges, pieces.merges);
  EXPECT_EQ(back.pieces.rule, "smollm");
  EXPECT_EQ(back.bos, -1);
  EXPECT_EQ(back.eos, 256);
}

TEST(GgufTokenizer, RefusesWhatContradictsItself) {
  const auto refuse_tokenizer = [](const std::function<void(File&)>& change, const std::string& part) {
    File file;
    file.entries["tokens"] = [](io::GgufWriter& w) {
      w.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "c"});
    };
    file.set("tokenizer.ggml.model", "llama");
    change(file);
    std::string error = file.error();
    if (error.empty()) error = file.load().tokenizer_problem;
    EXPECT_NE(error.find(part), std::string::npos) << "expected: " << part << "\ngot: " << error;
  };
  refuse_tokenizer([](File& f) { f.set("tokenizer.ggml.model", "bert"); },
                   "the kind \"bert\" is not supported; llama, t5 and gpt2 are");
  refuse_tokenizer([](File& f) { f.entries.erase("tokens"); }, "has no tokenizer.ggml.tokens");
  refuse_tokenizer([](File& f) { f.set("tokenizer.ggml.scores", std::vector<float>{1}); }, "3 tokens, but");
  refuse_tokenizer(
      [](File& f) {
        f.set("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 7});
      },
      "token 2 has the unknown type 7");
  refuse_tokenizer([](File& f) { f.set("tokenizer.ggml.bos_token_id", uint32_t{3}); }, "from 0 to 2, got 3");
  refuse_tokenizer([](File& f) { f.set("tokenizer.ggml.model", "gpt2"); }, "has no tokenizer.ggml.merges");
  refuse_tokenizer([](File&) {}, "is not a SentencePiece model");
  refuse_tokenizer(
      [](File& f) {
        f.set("tokenizer.ggml.model", "gpt2");
        f.set("tokenizer.ggml.pre", "deepseek-llm");
        f.set("tokenizer.ggml.merges", std::vector<std::string>{});
      },
      "the word rule \"deepseek-llm\" is not supported");
}

}  // namespace
}  // namespace qtf::model
