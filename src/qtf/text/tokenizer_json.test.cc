#include "qtf/text/tokenizer_json.h"

#include <gtest/gtest.h>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/text/random_text.h"
#include "qtf/text/sentencepiece.h"
#include "qtf/text/small_bpe.h"
#include "qtf/text/utf8.h"
#include "qtf/text/word_pattern.h"

namespace qtf::text {
namespace {

using nlohmann::json;

/// A byte-level file with merges of "the" and of digits, two special tokens, split by `rule`.
json byte_level(std::string_view rule = "gpt-2") {
  json file = json::parse(R"({"version":"1.0","normalizer":null,"post_processor":null,
      "added_tokens":[{"id":0,"content":"<|endoftext|>","special":true},
                      {"id":1,"content":"<s>","special":true}],
      "model":{"type":"BPE","dropout":null,"unk_token":null,"merges":["t h",["th","e"],"1 2","12 3","! !"]}})");
  file["pre_tokenizer"] = json::parse(find_word_rule(rule, "test").pre_tokenizer);
  json& vocabulary = file["model"]["vocab"];
  const json plain = json::parse(small_vocabulary({"th", "the", "12", "123", "!!", "whole"}));
  for (const auto& [entry, id] : plain.items()) {
    vocabulary[entry] = id.get<int>() + 2;
  }
  vocabulary["<|endoftext|>"] = 0;
  return file;
}

/// Ids of `byte_level` for single bytes.
int32_t byte(char c) {
  return static_cast<unsigned char>(c) + 2;
}

constexpr int32_t kThe = 259, kTwelve = 260, kHundred = 261, kWhole = 263;

std::string error_of(const json& file) {
  try {
    open_tokenizer_json(file.dump(), "x.json");
    return "";
  } catch (const InputError& error) {
    return error.what();
  }
}

TEST(TokenizerJson, ReadsByteLevelBpe) {
  const auto tokenizer = open_tokenizer_json(byte_level().dump());
  EXPECT_EQ(tokenizer->vocabulary_size(), 264);
  EXPECT_EQ(tokenizer->eos(), 0);
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->encode("the"), std::vector<int32_t>{kThe});
  EXPECT_EQ(tokenizer->token_bytes(0), "") << "special tokens decode to nothing";
  EXPECT_GT(tokenizer->encode("<s>").size(), 1u) << "and are never made from text";
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::string text = random_text(seed, 100);
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
  ASSERT_EQ(tokenizer->files().size(), 1u);
  EXPECT_EQ(tokenizer->files()[0].first, "tokenizer.json");
  EXPECT_EQ(open_tokenizer_json(tokenizer->files()[0].second)->fingerprint(), tokenizer->fingerprint());
}

TEST(TokenizerJson, SplitsWordsByTheFilesRule) {
  const auto encode = [](std::string_view rule, std::string_view text) {
    return open_tokenizer_json(byte_level(rule).dump())->encode(text);
  };
  EXPECT_EQ(encode("gpt-2", "1231"), (std::vector<int32_t>{kHundred, byte('1')}));
  EXPECT_EQ(encode("smollm", "12"), (std::vector<int32_t>{byte('1'), byte('2')})) << "digits stand alone";
  EXPECT_EQ(encode("llama-bpe", "1212"), (std::vector<int32_t>{kTwelve, byte('1'), byte('2')}))
      << "three digits at most";
}

TEST(TokenizerJson, IgnoresMergesForWholeWords) {
  json file = byte_level("llama-bpe");
  EXPECT_EQ(open_tokenizer_json(file.dump())->encode("whole").size(), 5u);
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(open_tokenizer_json(file.dump())->encode("whole"), std::vector<int32_t>{kWhole});
}

TEST(TokenizerJson, TextMayBeCutAtItsSplitPoints) {
  for (const WordRule& rule : word_rules()) {
    const auto tokenizer = open_tokenizer_json(byte_level(rule.name).dump());
    for (uint64_t seed = 0; seed < 30; ++seed) {
      const std::string text = "the 123!!\n\n the  12\r\n" + random_text(seed, 100) + "!!\n 1";
      const auto whole = tokenizer->encode(text);
      for (size_t n = 1; n < text.size(); ++n) {
        const auto prefix = std::string_view(text).substr(0, n);
        const size_t at = tokenizer->split_point(prefix.substr(0, complete_utf8_prefix(prefix)));
        auto ids = tokenizer->encode(std::string_view(text).substr(0, at));
        tokenizer->encode_continuation(std::string_view(text).substr(at), ids);
        ASSERT_EQ(ids, whole) << rule.name << " " << seed << " at " << at;
      }
    }
  }
}

TEST(TokenizerJson, WhatItWritesItReads) {
  for (const WordRule& rule : word_rules()) {
    const auto tokenizer = open_tokenizer_json(byte_level(rule.name).dump());
    const std::string written = write_tokenizer_json(tokenizer->pieces());
    const auto copy = open_tokenizer_json(written);
    EXPECT_EQ(write_tokenizer_json(copy->pieces()), written);
    for (uint64_t seed = 0; seed < 30; ++seed) {
      const std::string text = "the 123!!\n\n" + random_text(seed, 100);
      EXPECT_EQ(copy->encode(text), tokenizer->encode(text));
    }
  }
}

/// A SentencePiece BPE model as Hugging Face's converter rewrites it: every cut of a piece is a merge, in the
/// order of the pieces' scores.
json rewritten(const Tokenizer& tokenizer, bool dummy_prefix) {
  const Pieces pieces = tokenizer.pieces();
  json file =
      json::parse(R"({"added_tokens":[],"pre_tokenizer":null,"model":{"type":"BPE","unk_token":"<|unk|>",
      "fuse_unk":true,"byte_fallback":true,"vocab":{},"merges":[]}})");
  const json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\xE2\x96\x81"}};
  const json prepend = {{"type", "Prepend"}, {"prepend", "\xE2\x96\x81"}};
  file["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array({replace})}};
  if (dummy_prefix) file["normalizer"]["normalizers"] = {prepend, replace};
  std::map<std::string, float> scores;
  for (size_t id = 0; id < pieces.pieces.size(); ++id) {
    const Piece& piece = pieces.pieces[id];
    file["model"]["vocab"][piece.text] = id;
    if (piece.type == PieceType::normal) scores[piece.text] = piece.score;
    if (piece.type == PieceType::control || piece.type == PieceType::user_defined)
      file["added_tokens"].push_back(
          {{"id", id}, {"content", piece.text}, {"special", piece.type == PieceType::control}});
  }
  std::vector<std::pair<float, json>> merges;
  for (const auto& [text, score] : scores) {
    for (size_t at = 1; at < text.size(); ++at) {
      const std::string left = text.substr(0, at), right = text.substr(at);
      if (scores.contains(left) && scores.contains(right)) merges.push_back({-score, left + " " + right});
    }
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [score, merge] : merges) file["model"]["merges"].push_back(std::move(merge));
  return file;
}

std::shared_ptr<const Tokenizer> trained_bpe() {
  std::string text;
  for (int i = 0; i < 200; ++i) text += fmt::format("number {} and its square {}: the <unk> hat\n", i, i * i);
  const std::vector<std::string_view> texts = {text};
  return open_sentencepiece(
      train_sentencepiece(texts, {.vocabulary_size = 360, .model = SentencePieceModel::kBpe}), "trained");
}

TEST(TokenizerJson, ReadsRewrittenSentencePiece) {
  const auto original = trained_bpe();
  for (const bool dummy_prefix : {false, true}) {
    const auto tokenizer = open_tokenizer_json(rewritten(*original, dummy_prefix).dump());
    Pieces pieces = original->pieces();
    pieces.add_dummy_prefix = dummy_prefix;
    const auto expected = make_tokenizer(pieces, "original");
    EXPECT_EQ(tokenizer->bos(), expected->bos());
    EXPECT_EQ(tokenizer->eos(), expected->eos());
    for (uint64_t seed = 0; seed < 60; ++seed) {
      const std::string text = "the  hat\n " + random_text(seed, 80);
      const auto ids = expected->encode(text);
      ASSERT_EQ(tokenizer->encode(text), ids) << text;
      ASSERT_EQ(tokenizer->decode(ids), expected->decode(ids));
    }
  }
}

TEST(TokenizerJson, ReadsMetaspace) {
  json file = rewritten(*trained_bpe(), true);
  const auto expected = open_tokenizer_json(file.dump());
  file["normalizer"] = nullptr;
  file["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\xE2\x96\x81"}, {"prepend_scheme", "first"}, {"split", false}};
  EXPECT_EQ(open_tokenizer_json(file.dump())->encode("the hat"), expected->encode("the hat"));
  file["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\xE2\x96\x81"}, {"add_prefix_space", true}};
  EXPECT_EQ(open_tokenizer_json(file.dump())->encode("the hat"), expected->encode("the hat"));
  file["pre_tokenizer"]["split"] = true;
  EXPECT_NE(error_of(file).find("splits text in a way that is not supported"), std::string::npos);
}

TEST(TokenizerJson, RefusesMergesThatSentencePieceDoesNotMake) {
  json file = rewritten(*trained_bpe(), false);
  file["model"]["merges"].erase(file["model"]["merges"].size() - 1);
  EXPECT_NE(error_of(file).find("in other ways than a SentencePiece model does"), std::string::npos);
}

TEST(TokenizerJson, RefusesWhatItDoesNotSupport) {
  const auto refuse = [](const std::function<void(json&)>& change, const std::string& part) {
    json file = byte_level();
    change(file);
    const std::string error = error_of(file);
    EXPECT_NE(error.find(part), std::string::npos) << "expected: " << part << "\ngot: " << error;
    EXPECT_NE(error.find("x.json"), std::string::npos) << error;
  };
  EXPECT_EQ(error_of(byte_level()), "");
  refuse([](json& f) { f = json::array(); }, "is not a JSON object");
  refuse([](json& f) { f.erase("model"); }, "has no model");
  refuse([](json& f) { f["model"]["type"] = "Unigram"; }, "type \"Unigram\"; BPE is supported");
  refuse([](json& f) { f["model"]["type"] = "WordPiece"; }, "BPE is supported");
  refuse([](json& f) { f["model"]["end_of_word_suffix"] = "</w>"; }, "has a end_of_word_suffix");
  refuse([](json& f) { f["model"].erase("vocab"); }, "has no model.vocab");
  refuse([](json& f) { f["model"]["vocab"] = json::object(); }, "has no model.vocab");
  refuse([](json& f) { f["model"]["vocab"]["the"] = 3; }, "gives the id 3 to more than one token");
  refuse([](json& f) { f["model"]["vocab"]["the"] = -1; }, "has the id -1");
  refuse([](json& f) { f["model"]["vocab"]["the"] = uint64_t{1} << 60; }, "has the id 1152921504606846976");
  refuse([](json& f) { f["model"]["vocab"].erase("whole"), f["model"]["vocab"].erase("!!"); }, "merge 5");
  refuse([](json& f) { f["model"]["vocab"].erase("a"); }, "leaves ids out");
  refuse([](json& f) { f["added_tokens"][1]["content"] = "the"; }, "has two tokens \"the\"");
  refuse([](json& f) { f["added_tokens"][1]["id"] = 2; }, "gives the id 2 to more than one token");
  refuse([](json& f) { f["added_tokens"][1]["special"] = false; },
         "adds the token \"<s>\", which is not special");
  refuse([](json& f) { f["model"]["merges"] = nullptr; }, "has no model.merges");
  refuse([](json& f) { f["model"]["merges"][2] = "1"; }, "merge 3: expected two tokens");
  refuse([](json& f) { f["model"]["merges"][2] = {"1", 2}; }, "merge 3: expected two tokens");
  refuse([](json& f) { f["model"]["merges"][2] = "9 9"; }, "merge 3: a token that the vocabulary lacks");
  refuse([](json& f) { f["normalizer"] = {{"type", "NFC"}}; }, "has the normalizer {\"type\":\"NFC\"}");
  refuse([](json& f) { f["pre_tokenizer"] = {{"type", "Whitespace"}}; }, "splits text in a way");
  refuse([](json& f) { f["pre_tokenizer"]["add_prefix_space"] = true; }, "splits text in a way");
  json file = byte_level();
  file["model"]["vocab"].erase("a");
  file["model"]["vocab"]["another"] = byte('a');
  EXPECT_NE(error_of(file).find("no token for byte 97"), std::string::npos);
}

TEST(TokenizerJson, SurvivesDeepNesting) {
  const std::string deep(100000, '[');
  EXPECT_THROW(open_tokenizer_json(R"({"model":)" + deep, "x"), InputError);
  std::string objects;
  for (int i = 0; i < 1000; ++i) objects += R"({"a":)";
  EXPECT_THROW(open_tokenizer_json(objects + "1" + std::string(1000, '}'), "x"), InputError);
}

}  // namespace
}  // namespace qtf::text
