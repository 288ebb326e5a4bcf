// What a trained model does with real text, as second moments: of every linear map's inputs, and of the loss'
// gradient by its outputs. From them compress/ knows what an error of a weight costs, without the text.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "qtf/compress/moments.h"
#include "qtf/compress/sequences.h"
#include "qtf/model/transformer.h"

namespace qtf::compress {

/// The four places of a block where maps read: q, k and v; the attention's output projection; the
/// feed-forward layer's first maps; its last.
enum class Site { qkv, attention_out, up, down };
constexpr int kSites = 4;

/// The site of a block's map (in linear_maps() order within the block).
Site site_of(model::Family family, int64_t map_in_block);

template <class Moment>
struct BlockMoments {
  std::array<Moment, kSites> inputs;
  std::vector<Moment> gradients;  ///< by each map's outputs
};

template <class Moment>
struct ModelMoments {
  Moment embedding_gradients;  ///< by the embedding's output
  Moment hidden;               ///< inputs of the head
  std::vector<BlockMoments<Moment>> blocks;
};

/// Means over `tokens` tokens. Gradients are of Σ nats of targets drawn from the model's own predictions, so
/// that E[g·gᵀ] is the Fisher information: a change Δy of a map's output costs ½·Δyᵀ·E[g·gᵀ]·Δy nats of
/// KL(model ‖ changed model) (Martens and Grosse 2015).
struct Calibration : ModelMoments<MeanMoment> {
  int64_t tokens = 0;
  std::string text_sha256;            ///< of the text, hexadecimal
  std::vector<int64_t> token_counts;  ///< [V], in the whole text
};

/// Zero moments of the sizes that a model has.
template <class Moment>
ModelMoments<Moment> empty_moments(const model::ModelConfig& config);

/// Passes the text through a dense model, forward and backward. `model` is prepared for inference and has no
/// shapes. The same bits for any number of threads. token_counts are counted from `text` alone.
Calibration calibrate(const model::Transformer<float>& model, const Sequences& text, ThreadPool& pool);

/// Writes calibration.safetensors (docs/model-format.md), atomically.
void save_calibration(const std::filesystem::path& file, const Calibration& calibration);

/// Reads it. Throws IoError for a damaged file, InputError if it is of another architecture.
Calibration load_calibration(const std::filesystem::path& file, const model::ModelConfig& config);

}  // namespace qtf::compress
