#include "qtf/model/model_card.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "qtf/base/parse.h"
#include "qtf/base/progress.h"

namespace qtf::model {

namespace {

/// "attention: dense; ffn: chain": the kinds each part uses.
std::string shape_summary(const ModelConfig& config) {
  std::map<std::string, std::string> kinds;
  for (const MapSpec& map : linear_maps(config)) {
    const std::string kind(tt::shape_kinds()[static_cast<size_t>(shape_of(config, map).kind)].name);
    std::string& text = kinds[std::string(part_name(map.part))];
    if (text.find(kind) == std::string::npos) text += (text.empty() ? "" : " and ") + kind;
  }
  std::string summary;
  for (const auto& [part, text] : kinds)
    summary += fmt::format("{}{}: {}", summary.empty() ? "" : "; ", part, text);
  return summary;
}

}  // namespace

std::string model_card(const ModelConfig& config, const CardFacts& facts) {
  const int64_t parameters = parameter_count(config), dense = dense_parameter_count(config);
  return fmt::format(
      R"(---
library_name: qtf
pipeline_tag: text-generation
tags:
- tensor-train
- small-language-model
---

# {name}

A decoder-only transformer of the {family} family, trained by qtf on `{text}`.

| | |
|---|---|
| parameters | {parameters} (numbers stored in model.safetensors) |
| equal dense model | {dense}; whole-model ratio {ratio:.2f} |
| weights file | {bytes} |
| multiply-accumulates a token | {macs} (half-full context) |
| weight shapes | {shapes} |
| sizes | vocabulary {vocabulary}, width {width}, {layers} layers, {heads} heads ({kv_heads} kv), feed-forward {ffn}, context {context} |
| nested levels | {levels} |

## Measured on the validation text

| nats/token | perplexity a token | perplexity a word | bits/byte |
|---|---|---|---|
| {nats:.4f} ± {error:.4f} | {perplexity:.2f} | {word:.2f} | {bits:.4f} |

Protocol: windows of {window} tokens, stride {stride}; a chain is a tensor train of W[out, in] with the modes ordered
output first, then input. The run: {steps} steps in {duration}; every figure of it is in `metrics.jsonl`.

Run it: `qtf generate THIS_FOLDER --prompt "The "`. Measure it: `qtf eval THIS_FOLDER --text FILE`.
)",
      fmt::arg("name", facts.name), fmt::arg("family", config.family == Family::llama ? "Llama" : "GPT-2"),
      fmt::arg("text", facts.trained_on), fmt::arg("parameters", parameters), fmt::arg("dense", dense),
      fmt::arg("ratio", static_cast<double>(dense) / static_cast<double>(parameters)),
      fmt::arg("bytes", format_bytes(facts.bytes)),
      fmt::arg("macs", format_count(macs_per_token(config, (config.context - 1) / 2))),
      fmt::arg("shapes", shape_summary(config)), fmt::arg("vocabulary", config.vocabulary),
      fmt::arg("width", config.width), fmt::arg("layers", config.layers), fmt::arg("heads", config.heads),
      fmt::arg("kv_heads", config.kv_heads), fmt::arg("ffn", config.feed_forward),
      fmt::arg("context", config.context), fmt::arg("levels", level_count(config)),
      fmt::arg("nats", facts.nats_per_token), fmt::arg("error", facts.standard_error),
      fmt::arg("perplexity", std::exp(facts.nats_per_token)), fmt::arg("word", facts.word_perplexity),
      fmt::arg("bits", facts.bits_per_byte), fmt::arg("window", facts.context),
      fmt::arg("stride", facts.stride), fmt::arg("steps", facts.steps),
      fmt::arg("duration", format_duration(facts.seconds)));
}

}  // namespace qtf::model
