// Every format in which a model can lie on disk: one table of how to know, read and write it. load_model
// (model_folder.h) and `qtf convert` go through it.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qtf/io/tensor_type.h"
#include "qtf/model/model_folder.h"

namespace qtf::model {

/// One format.
struct ModelFormat {
  std::string_view name;     ///< "GGUF file"
  std::string_view summary;  ///< what it comes from
  /// Whether an existing path is of this format, by its name or first bytes.
  bool (*recognises)(const std::filesystem::path& path);
  LoadedModel (*load)(const std::filesystem::path& path);  ///< null: it is only written

  std::string_view extension;         ///< what a path to be written ends in; empty: anything else
  std::vector<io::TensorType> types;  ///< that its matrices can be written in; empty: it is only read
  bool dense_only;                    ///< tensor trains must be multiplied out
  bool keeps_codes = false;  ///< a quantized model's cores are written as their codes, whatever the type
  /// Writes the model; returns what the result lacks, a sentence each.
  std::vector<std::string> (*save)(const std::filesystem::path& path, const Transformer<float>& model,
                                   const text::Tokenizer* tokenizer, io::TensorType type);
};

/// The table. To add a format, add a row in model_formats.cc.
std::span<const ModelFormat> model_formats();

/// "a GGUF file", "an edge file".
std::string with_article(const ModelFormat& format);

/// The format that a path to be written asks for by its ending. Throws InputError for one that is only read.
const ModelFormat& format_to_write(const std::filesystem::path& path);

/// "a model folder, a GGUF file or a llama2.c .bin": what a path may be.
std::string readable_formats();

}  // namespace qtf::model
