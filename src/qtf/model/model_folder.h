// Models on disk: a folder in Hugging Face's layout (docs/model-format.md). model_formats.h lists the other
// formats.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "qtf/io/safetensors.h"
#include "qtf/model/transformer.h"
#include "qtf/text/tokenizer.h"

namespace qtf::model {

/// Writes config.json and the tokenizer's files into a folder (made if missing).
void save_description(const std::filesystem::path& folder, const ModelConfig& config,
                      const text::Tokenizer& tokenizer);

/// Writes model.safetensors atomically. parameters: in `layout`'s order; `dtype`: F32, F16 or BF16.
void save_weights(const std::filesystem::path& folder, const ParameterLayout& layout,
                  std::span<const float> parameters, io::DType dtype = io::DType::f32);

/// Writes a whole model, its weights in F32, F16 or BF16, also where they are codes; `tokenizer` may be null.
/// Throws IoError.
void save_folder(const std::filesystem::path& folder, const Transformer<float>& model,
                 const text::Tokenizer* tokenizer, io::DType dtype = io::DType::f32);

/// Writes a model that has codes(), its cores as these, the rest in F32. Throws IoError.
void save_quantized_folder(const std::filesystem::path& folder, const Transformer<float>& model,
                           const text::Tokenizer* tokenizer);

/// Fills parameters from a folder's model.safetensors, or its shards. Foreign names without "transformer."
/// (or "model.") in front and the buffers that Hugging Face's programs store beside the weights are
/// understood. Throws IoError if a tensor is missing, extra, of other size, or holds NaN or infinity (naming
/// it).
void load_weights(const std::filesystem::path& folder, const ParameterLayout& layout,
                  std::span<float> parameters);

/// Throws IoError naming the file, the tensor and the first element that is NaN or infinite.
void check_finite(std::span<const float> values, const std::string& place, const std::string& name);

/// A model and its tokenizer (null if it has none that we can read).
struct LoadedModel {
  std::unique_ptr<Transformer<float>> model;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::string tokenizer_problem;  ///< why there is none
  int64_t bytes = 0;              ///< of the weights' files
};

/// Opens a model of any format that model_formats.h lists. The weights are not packed yet: call prepare().
/// Throws InputError for a path that is no model (saying what was looked for), an architecture that is not
/// supported, or a tokenizer that is not the model's; IoError for damaged files. Nothing is allocated for
/// weights that the files do not hold.
LoadedModel load_model(const std::filesystem::path& path);

/// load_model of a folder.
LoadedModel load_folder(const std::filesystem::path& folder);

/// Opens a tokenizer by `open` (which may throw InputError or give null) and keeps it if its tokens fit the
/// model; else says why not in loaded.tokenizer_problem.
void attach_tokenizer(LoadedModel& loaded, int64_t vocabulary,
                      const std::function<std::shared_ptr<const text::Tokenizer>()>& open);

/// As load_model of a folder, without reading the weights (they are zero): a run that has saved none yet.
LoadedModel load_description(const std::filesystem::path& folder);

/// Whether a folder holds a model.
bool is_model_folder(const std::filesystem::path& folder);

}  // namespace qtf::model
