// Models on disk: a folder in Hugging Face's layout (docs/model-format.md), or a llama2.c .bin file.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "qtf/model/transformer.h"
#include "qtf/text/tokenizer.h"

namespace qtf::model {

/// Text of config.json.
std::string config_to_json(const ModelConfig& config, const std::string& tokenizer_fingerprint);

/// What config.json says beyond the ModelConfig.
struct ConfigFile {
  ModelConfig config;
  std::string tokenizer_fingerprint;  ///< empty: none recorded
};

/// Reads config.json's text; `place` names it in errors. Throws IoError for what is not such a file,
/// InputError for families, versions or sizes that are not supported (naming what is).
ConfigFile config_from_json(std::string_view text, const std::string& place);

/// Writes config.json and the tokenizer's files into a folder (made if missing).
void save_description(const std::filesystem::path& folder, const ModelConfig& config,
                      const text::Tokenizer& tokenizer);

/// Writes model.safetensors atomically. parameters: in `layout`'s order.
void save_weights(const std::filesystem::path& folder, const ParameterLayout& layout,
                  std::span<const float> parameters);

/// Fills parameters from a folder's model.safetensors. Foreign names without "transformer." (or "model.") in
/// front and the buffers that Hugging Face's programs store beside the weights are understood. Throws IoError
/// if a tensor is missing, extra, of other size, or holds NaN or infinity (naming it).
void load_weights(const std::filesystem::path& folder, const ParameterLayout& layout,
                  std::span<float> parameters);

/// Throws IoError naming the file, the tensor and the first element that is NaN or infinite.
void check_finite(std::span<const float> values, const std::string& place, const std::string& name);

/// A model and its tokenizer (null for a folder without one).
struct LoadedModel {
  std::unique_ptr<Transformer<float>> model;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  int64_t bytes = 0;  ///< of the weights' file
};

/// Opens a model folder, or a llama2.c `.bin` with a SentencePiece model beside it (tokenizer.model, or the
/// one tok*.model whose size fits). The weights are not packed yet: call prepare(). Throws InputError for a
/// path that is no model (saying what was looked for) or a tokenizer that is not the model's, IoError for
/// damaged files.
LoadedModel load_model(const std::filesystem::path& path);

/// As load_model of a folder, without reading the weights (they are zero): a run that has saved none yet.
LoadedModel load_description(const std::filesystem::path& folder);

/// Whether a folder holds a model.
bool is_model_folder(const std::filesystem::path& folder);

}  // namespace qtf::model
