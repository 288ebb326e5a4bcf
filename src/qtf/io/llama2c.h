// Reading models in llama2.c's legacy .bin format (github.com/karpathy/llama2.c, export.py version 0). model/
// imports them by the tensors' Hugging Face names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/base/file.h"

namespace qtf::io {

/// A tensor that lies in someone else's memory.
struct NamedTensor {
  std::string name;           ///< Hugging Face's: "model.layers.0.self_attn.q_proj.weight"
  std::vector<int64_t> dims;  ///< row-major
  std::span<const float> data;
};

/// A model file: sizes and views of all weights.
///
/// llama2.c's rotary embedding turns neighbours (2i, 2i + 1) of each head; Hugging Face's turns (i, i + d/2).
/// The rows of q_proj and k_proj are as in the file: whoever turns pairs as Hugging Face does must reorder
/// them. Norms use epsilon 1e-5, rotary frequencies base 10000; the file does not say so.
struct Llama2cModel {
  int32_t width = 0;
  int32_t feed_forward = 0;
  int32_t layers = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t vocabulary = 0;
  int32_t context = 0;
  bool tied = true;  ///< no lm_head.weight: the head is the embedding

  std::vector<NamedTensor> tensors;  ///< embedding, then layer by layer, norm, head; views into the file
  MappedFile file;                   ///< keeps the views alive; empty if parsed from memory
};

/// Views a whole file in memory, which must outlive the result and lie at a multiple of 4 bytes; `place`
/// names it in errors. Throws IoError with a byte offset if the sizes are impossible or do not give the
/// file's length.
Llama2cModel parse_llama2c(std::span<const std::byte> file, std::string_view place);

/// Maps and checks a file. Throws InputError if there is none, IoError like parse_llama2c.
Llama2cModel read_llama2c(const std::filesystem::path& path);

}  // namespace qtf::io
