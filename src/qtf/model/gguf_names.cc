#include "qtf/model/gguf_names.h"

#include <array>
#include <span>

#include "qtf/base/error.h"

namespace qtf::model {

namespace {

struct NamePair {
  std::string_view ours, gguf;  // without ".weight" and ".bias"; of a block without its prefix
};

struct FamilyNames {
  Family family;
  std::string_view architecture;
  std::span<const NamePair> outer, block;
};

constexpr NamePair kLlamaOuter[] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};
constexpr NamePair kLlamaBlock[] = {
    {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"}};
constexpr NamePair kGpt2Outer[] = {{"transformer.wte", "token_embd"},
                                   {"transformer.wpe", "position_embd"},
                                   {"transformer.ln_f", "output_norm"},
                                   {"lm_head", "output"}};
constexpr NamePair kGpt2Block[] = {{"ln_1", "attn_norm"},          {"attn.c_attn", "attn_qkv"},
                                   {"attn.c_proj", "attn_output"}, {"ln_2", "ffn_norm"},
                                   {"mlp.c_fc", "ffn_up"},         {"mlp.c_proj", "ffn_down"}};

constexpr std::array<FamilyNames, 2> kFamilies = {{
    {Family::llama, "llama", kLlamaOuter, kLlamaBlock},
    {Family::gpt2, "gpt2", kGpt2Outer, kGpt2Block},
}};

const FamilyNames& names_of(Family family) {
  for (const FamilyNames& names : kFamilies) {
    if (names.family == family) return names;
  }
  throw_input_error("gguf", "GGUF has no form of this family; it knows {}", gguf_architectures());
}

std::string_view translate(std::span<const NamePair> pairs, std::string_view ours) {
  for (const NamePair& pair : pairs) {
    if (pair.ours == ours) return pair.gguf;
  }
  throw_input_error("gguf", "GGUF has no name for the tensor {}", ours);
}

}  // namespace

std::string_view gguf_architecture(Family family) {
  return names_of(family).architecture;
}

std::optional<Family> find_gguf_architecture(std::string_view name) {
  for (const FamilyNames& names : kFamilies) {
    if (names.architecture == name) return names.family;
  }
  return std::nullopt;
}

std::string gguf_architectures() {
  std::string text;
  for (const FamilyNames& names : kFamilies)
    text += fmt::format("{}{}", text.empty() ? "" : ", ", names.architecture);
  return text;
}

std::string gguf_tensor_name(Family family, std::string_view name) {
  const FamilyNames& names = names_of(family);
  const size_t end = name.rfind('.');
  const std::string_view stem = name.substr(0, end), suffix = name.substr(end);
  const std::string prefix = block_prefix(family, 0);  // "model.layers.0."
  const std::string_view blocks = std::string_view(prefix).substr(0, prefix.size() - 2);
  if (!stem.starts_with(blocks)) return fmt::format("{}{}", translate(names.outer, stem), suffix);
  const std::string_view rest = stem.substr(blocks.size());
  const size_t dot = rest.find('.');
  return fmt::format("blk.{}.{}{}", rest.substr(0, dot), translate(names.block, rest.substr(dot + 1)),
                     suffix);
}

}  // namespace qtf::model
