// What the tests of training share: a small learnable text and small models of every weight shape.
#pragma once

#include <fstream>
#include <ostream>
#include <string>
#include <vector>

#include "qtf/base/file.h"
#include "qtf/base/random.h"
#include "qtf/base/temporary_folder.h"
#include "qtf/model/config.h"
#include "qtf/text/byte_tokenizer.h"
#include "qtf/train/data.h"

namespace qtf::train {

/// Sentences of a few words in random order: soon learned, never the same twice.
inline std::string small_text(int64_t bytes, uint64_t seed = 1) {
  static const char* const kWords[] = {"the", "tensor", "train", "is",           "short",
                                       "and", "learns", "a",     "na\xC3\xAFve", "rank"};
  const Random random{seed, 3};
  std::string text;
  for (uint64_t i = 0; static_cast<int64_t>(text.size()) < bytes; ++i) {
    text += kWords[random.below(i, std::size(kWords))];
    text += i % 7 == 6 ? ".\n" : " ";
  }
  while (!text.empty() && (text.back() & 0xC0) == 0x80) text.pop_back();
  return text;
}

/// A text as byte tokens in a token file of its own.
class SmallCorpus {
 public:
  explicit SmallCorpus(std::string text) : text_(std::move(text)), file_(tokenize()) {}

  const std::string& text() const { return text_; }
  const text::TokenFile& file() const { return file_; }
  const std::shared_ptr<const text::Tokenizer>& tokenizer() const { return tokenizer_; }
  TokenRange range(int64_t begin, int64_t end) const { return {&file_, begin, end}; }
  TokenRange all() const { return range(0, file_.size()); }

 private:
  text::TokenFile tokenize() const {
    write_file_atomically(folder_ / "text", text_);
    return text::tokenize_corpus(folder_ / "text", *tokenizer_,
                                 {.cache = folder_ / "cache", .progress = false});
  }

  TemporaryFolder folder_;
  std::shared_ptr<const text::Tokenizer> tokenizer_ = text::make_byte_tokenizer();
  std::string text_;
  text::TokenFile file_;
};

/// A model of every weight shape, family and nesting.
struct ModelCase {
  std::string name;
  model::Family family = model::Family::llama;
  std::vector<std::string> shapes = {};
  bool tied = true;
  int levels = 1;
  std::string quantum = {};  ///< see model::parse_quantum; empty: none
};

inline void PrintTo(const ModelCase& c, std::ostream* out) {
  *out << c.name;
}

inline const std::vector<ModelCase>& model_cases() {
  using model::Family;
  static const std::vector<ModelCase> table = {
      {.name = "dense"},
      {.name = "gpt2", .family = Family::gpt2},
      {.name = "untied", .tied = false},
      {.name = "chain", .shapes = {"embedding=chain:rank=12", "attention=chain:rank=5", "ffn=chain:rank=7"}},
      {.name = "chain_outer",
       .shapes = {"up_proj=chain:rank=4,out=4x6,in=4x4,outer=3",
                  "down_proj=chain:rank=3,out=4x4,in=6x4,outer=3"}},
      {.name = "mpo", .shapes = {"ffn=mpo:rank=3", "attention=mpo:rank=8"}},
      {.name = "btt", .shapes = {"ffn=btt:rank=2", "attention=btt:rank=1"}},
      {.name = "quantum", .quantum = "qubits=4,layers=2,fraction=0.25"},
      {.name = "quantum_levels",
       .family = Family::gpt2,
       .shapes = {"ffn=chain:rank=8"},
       .levels = 2,
       .quantum = "qubits=3,layers=1,ansatz=classical,fraction=0.29"},
      {.name = "levels", .shapes = {"ffn=chain:rank=8", "o_proj=chain:rank=6"}, .levels = 3},
  };
  return table;
}

inline model::ModelConfig small_config(const ModelCase& c = model_cases()[0]) {
  model::ModelConfig config;
  config.family = c.family;
  config.vocabulary = 257, config.width = 16, config.layers = 2, config.heads = 2;
  config.kv_heads = c.family == model::Family::llama ? 1 : 2;
  config.feed_forward = 24, config.context = 16;
  config.tied = c.tied;
  model::apply_shape_requests(config, c.shapes);
  model::apply_levels(config, c.levels);
  if (!c.quantum.empty()) config.quantum = model::parse_quantum(c.quantum);
  return config;
}

/// Random numbers of the given deviation.
inline std::vector<float> normal_numbers(size_t n, double deviation, uint64_t stream) {
  const Random random{17, stream};
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = static_cast<float>(deviation * random.normal(i));
  return values;
}

/// What `body` throws; empty if nothing.
template <class Error, class Body>
std::string error_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace qtf::train
