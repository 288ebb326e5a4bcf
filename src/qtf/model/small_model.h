// Small models for the tests of files and generation.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/model/transformer.h"

namespace qtf::model {

/// A family, shapes and levels that together exercise every kind of tensor.
struct SmallModel {
  std::string name;
  Family family = Family::llama;
  std::vector<std::string> shapes;
  bool tied = true;
  int levels = 1;
  std::string quantum = {};  ///< see parse_quantum; empty: none
  bool planned = false;      ///< with an execution plan: some maps merged whole, some at their largest level
};

inline const std::vector<SmallModel>& small_models() {
  static const std::vector<SmallModel> table = {
      {"llama", Family::llama, {}},
      {"llama_untied", Family::llama, {}, false},
      {"gpt2", Family::gpt2, {}},
      {"gpt2_untied", Family::gpt2, {}, false},
      {"llama_chain",
       Family::llama,
       {"embedding=chain:rank=9", "ffn=chain:rank=7", "attention=chain:rank=5"}},
      {"llama_levels", Family::llama, {"ffn=chain:rank=8", "head=chain:rank=12"}, false, 4},
      {"llama_mpo", Family::llama, {"ffn=mpo:rank=3", "attention=mpo:rank=2"}},
      {"gpt2_btt", Family::gpt2, {"ffn=btt:rank=2", "attention=btt:rank=1", "embedding=btt:rank=1"}},
      {"llama_quantum", Family::llama, {}, true, 1, "qubits=3,layers=2,fraction=0.25"},
      {"gpt2_quantum_levels",
       Family::gpt2,
       {"ffn=chain:rank=8"},
       false,
       4,
       "qubits=2,layers=1,ansatz=basic,fraction=0.29"},
      {"llama_quantum_random", Family::llama, {}, true, 1, "qubits=2,layers=1,fraction=0.2,routing=random"},
      {"llama_planned", Family::llama, {"embedding=chain:rank=9", "ffn=chain:rank=7"}, true, 1, {}, true},
      {"llama_levels_planned",
       Family::llama,
       {"ffn=chain:rank=8", "head=chain:rank=12", "attention=chain:rank=4"},
       false,
       4,
       {},
       true},
      {"gpt2_btt_planned", Family::gpt2, {"ffn=btt:rank=2", "attention=btt:rank=1"}, true, 1, {}, true},
      {"gpt2_chain", Family::gpt2, {"c_fc=chain:rank=4,out=4x5,in=4x4,outer=3"}},
  };
  return table;
}

/// A row of the table.
inline const SmallModel& small_model(std::string_view name) {
  return *std::ranges::find(small_models(), name, &SmallModel::name);
}

/// 257 tokens as the byte tokenizer has, width 16, 2 layers, a context of 24.
inline ModelConfig small_config(const SmallModel& small) {
  ModelConfig config;
  config.family = small.family, config.tied = small.tied;
  config.vocabulary = 257, config.width = 16, config.layers = 2, config.heads = 4;
  config.kv_heads = small.family == Family::llama ? 2 : 4;
  config.feed_forward = 20, config.context = 24;
  config.eos_token = 256;
  apply_shape_requests(config, small.shapes);
  apply_levels(config, small.levels);
  if (!small.quantum.empty()) config.quantum = parse_quantum(small.quantum);
  if (small.planned) {
    int number = 0;
    for (const auto& [name, shape] : config.shapes) {
      const int levels = tt::level_count(shape);
      const int first = number % 3 == 0 ? 1 : levels;
      for (int level = first; level <= levels && number % 3 < 2; ++level) config.plan[name].push_back(level);
      ++number;
    }
  }
  return config;
}

/// For central differences: 24 tokens, width 16, 2 layers, a context of 12.
inline ModelConfig tiny_config(Family family) {
  ModelConfig config;
  config.family = family;
  config.vocabulary = 24, config.width = 16, config.layers = 2, config.heads = 4;
  config.kv_heads = family == Family::llama ? 2 : 4;
  config.feed_forward = 20, config.context = 12;
  return config;
}

inline std::vector<int32_t> random_tokens(size_t n, int64_t vocabulary, uint64_t stream) {
  std::vector<int32_t> tokens(n);
  const Random random{9, stream};
  for (size_t i = 0; i < n; ++i)
    tokens[i] = static_cast<int32_t>(random.below(i, static_cast<uint64_t>(vocabulary)));
  return tokens;
}

/// Fills in random weights, none of them zero.
template <class T>
void randomise(Transformer<T>& model, uint64_t seed = 5) {
  const Random random{seed, 5};
  auto values = model.parameters();
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(0.3 * random.normal(i));
}

}  // namespace qtf::model
