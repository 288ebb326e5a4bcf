#include "qtf/model/model_formats.h"

#include <fstream>

#include "qtf/base/error.h"
#include "qtf/model/edge_export.h"
#include "qtf/model/gguf_export.h"
#include "qtf/model/gguf_import.h"
#include "qtf/model/llama2c_import.h"

namespace qtf::model {

namespace fs = std::filesystem;

namespace {

bool is_folder(const fs::path& path) {
  return fs::is_directory(path);
}

bool is_gguf(const fs::path& path) {
  if (path.extension() == ".gguf") return true;
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::string_view(magic, sizeof magic) == "GGUF";
}

bool is_llama2c(const fs::path& path) {
  return path.extension() == ".bin";
}

bool is_edge(const fs::path& path) {
  return path.extension() == ".edge";
}

std::vector<std::string> write_folder(const fs::path& path, const Transformer<float>& model,
                                      const text::Tokenizer* tokenizer, io::TensorType type) {
  const io::DType dtype = type == io::TensorType::f32   ? io::DType::f32
                          : type == io::TensorType::f16 ? io::DType::f16
                                                        : io::DType::bf16;
  save_folder(path, model, tokenizer, dtype);
  const ModelConfig& config = model.config();
  std::vector<std::string> notes;
  if (config.quantum) notes.push_back("the quantum layer stays, which only qtf reads; --dense leaves it out");
  if (!config.shapes.empty())
    notes.push_back("the tensor trains stay, which only qtf reads; --dense multiplies them out for others");
  if (!tokenizer) notes.push_back("the model has no tokenizer, so the folder has none");
  return notes;
}

}  // namespace

std::span<const ModelFormat> model_formats() {
  using io::TensorType;
  static const std::vector<ModelFormat> kFormats = {
      {.name = "model folder",
       .summary =
           "config.json, safetensors (one file or shards) and tokenizer: qtf's own, and Hugging Face's "
           "of the Llama and GPT-2 families",
       .recognises = is_folder,
       .load = load_folder,
       .extension = "",
       .types = {TensorType::f32, TensorType::f16, TensorType::bf16},
       .dense_only = false,
       .save = write_folder},
      {.name = "GGUF file",
       .summary =
           "llama.cpp's, versions 2 and 3, of the Llama and GPT-2 families: F32, F16, BF16, Q8_0, Q4_0",
       .recognises = is_gguf,
       .load = load_gguf,
       .extension = ".gguf",
       .types = {TensorType::f32, TensorType::f16, TensorType::q8_0},
       .dense_only = true,
       .save = save_gguf},
      {.name = "llama2.c .bin",
       .summary = "llama2.c's legacy export (version 0), its tok*.model or tok*.bin beside it",
       .recognises = is_llama2c,
       .load = load_llama2c,
       .extension = ".bin",
       .types = {},
       .dense_only = true,
       .save = nullptr},
      {.name = "edge file",
       .summary = "the edge library's, which runs it where it lies (docs/edge.md)",
       .recognises = is_edge,
       .load = nullptr,
       .extension = ".edge",
       .types = {TensorType::f32, TensorType::f16},
       .dense_only = false,
       .keeps_codes = true,
       .save = save_edge},
  };
  return kFormats;
}

std::string with_article(const ModelFormat& format) {
  const bool vowel = std::string_view("aeiou").find(format.name.front()) != std::string_view::npos;
  return fmt::format("{} {}", vowel ? "an" : "a", format.name);
}

const ModelFormat& format_to_write(const fs::path& path) {
  const ModelFormat* found = &model_formats().front();
  for (const ModelFormat& format : model_formats()) {
    if (!format.extension.empty() && path.extension() == format.extension) found = &format;
  }
  if (found->types.empty())
    throw_input_error(path.string(), "{} is only read, not written", with_article(*found));
  return *found;
}

std::string readable_formats() {
  std::vector<std::string> readable;
  for (const ModelFormat& format : model_formats())
    if (format.load) readable.push_back(with_article(format));
  const std::string last = readable.back();
  readable.pop_back();
  return fmt::format("{} or {}", fmt::join(readable, ", "), last);
}

LoadedModel load_model(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(fs::status(path, error)))
    throw_input_error(path.string(), "there is no such model folder or file");
  for (const ModelFormat& format : model_formats()) {
    if (!format.recognises(path)) continue;
    if (format.load) return format.load(path);
    throw_input_error(path.string(), "{} is only written, not read; give the model that it was made from",
                      with_article(format));
  }
  if (path.extension() == ".safetensors")
    throw_input_error(path.string(),
                      "is a file of weights alone; give the folder that holds its config.json");
  throw_input_error(path.string(), "is not {}", readable_formats());
}

}  // namespace qtf::model
