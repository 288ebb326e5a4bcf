#include "qtf/model/model_folder.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/model/config_file.h"
#include "qtf/model/weight_files.h"
#include "qtf/tensor/matrix.h"

namespace qtf::model {

namespace fs = std::filesystem;

namespace {

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw_io_error(folder.string(), "cannot make this folder: {}", error.message());
}

void write_description(const fs::path& folder, const ModelConfig& config, const text::Tokenizer* tokenizer,
                       io::DType dtype, const std::optional<Coding>& quantization = {}) {
  make_folder(folder);
  std::string fingerprint;
  if (tokenizer) {
    for (const auto& [name, contents] : tokenizer->files()) write_file_atomically(folder / name, contents);
    fingerprint = tokenizer->fingerprint();
  }
  // The last file: a folder without it is no model.
  write_file_atomically(folder / "config.json", config_to_json(config, fingerprint, dtype, quantization));
}

}  // namespace

void save_description(const fs::path& folder, const ModelConfig& config, const text::Tokenizer& tokenizer) {
  write_description(folder, config, &tokenizer, io::DType::f32);
}

void save_folder(const fs::path& folder, const Transformer<float>& model, const text::Tokenizer* tokenizer,
                 io::DType dtype) {
  make_folder(folder);
  save_weights(folder, model.layout(), model.parameters(), dtype);
  write_description(folder, model.config(), tokenizer, dtype);
}

namespace {

std::vector<float> transposed(std::span<const float> in, int64_t rows, int64_t cols) {
  std::vector<float> out(in.size());
  const ConstMatrix<float> view = ConstMatrix<float>(in.data(), rows, cols).transposed();
  for (int64_t i = 0; i < cols; ++i) {
    for (int64_t j = 0; j < rows; ++j) out[static_cast<size_t>(i * rows + j)] = view(i, j);
  }
  return out;
}

}  // namespace

void check_finite(std::span<const float> values, const std::string& place, const std::string& name) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      throw_io_error(place, "tensor {} holds {} at element {}; the model is damaged", name, values[i], i);
    }
  }
}

void save_weights(const fs::path& folder, const ParameterLayout& layout, std::span<const float> parameters,
                  io::DType dtype) {
  io::SafetensorsWriter writer;
  for (const Parameter& p : layout.parameters) {
    const auto values = parameters.subspan(static_cast<size_t>(p.offset), static_cast<size_t>(p.size));
    if (p.transposed && dtype == io::DType::f32) {
      writer.add_owned(p.name, p.dims, transposed(values, p.dims[1], p.dims[0]));
    } else if (p.transposed) {
      writer.add_as(dtype, p.name, p.dims, transposed(values, p.dims[1], p.dims[0]));
    } else {
      writer.add_as(dtype, p.name, p.dims, values);
    }
  }
  writer.set_metadata("format", "pt");  // what Hugging Face's readers ask for
  writer.write(folder / "model.safetensors");
}

void save_quantized_folder(const fs::path& folder, const Transformer<float>& model,
                           const text::Tokenizer* tokenizer) {
  const QuantizedWeights& codes = *model.codes();
  make_folder(folder);
  io::SafetensorsWriter writer;
  const std::span<const float> values = model.parameters();
  for (const Parameter& p : parameters_beside_cores(model.layout()))
    writer.add(p.name, p.dims, values.subspan(static_cast<size_t>(p.offset), static_cast<size_t>(p.size)));
  add_tensors(writer, codes, model.layout());
  writer.set_metadata("format", "pt");
  writer.write(folder / "model.safetensors");
  write_description(folder, model.config(), tokenizer, io::DType::f32, codes.coding);
}

namespace {

/// What other programs store beside the weights though it follows from the configuration: rotary frequencies,
/// GPT-2's causal masks, the head of a tied model.
bool is_redundant(const ParameterLayout& layout, std::string_view name) {
  const bool tied = layout.maps.back().spec.part != MapPart::head;
  return (tied && name == "lm_head.weight") || name.ends_with(".rotary_emb.inv_freq") ||
         name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

/// The files hold these parameters of a layout, all with their dims, and beside them nothing but `others`.
void check_weights(const WeightFiles& weights, const ParameterLayout& layout,
                   std::span<const Parameter> parameters, const std::vector<std::string>& others) {
  std::set<std::string_view> known(others.begin(), others.end());
  for (const Parameter& p : parameters) {
    const io::TensorInfo& info = *weights.at(p.name).info;
    if (info.dims != p.dims) {
      throw_io_error(weights.place(), "tensor {} (byte {}) has dimensions [{}], config.json asks for [{}]",
                     p.name, info.offset, fmt::join(info.dims, ", "), fmt::join(p.dims, ", "));
    }
    known.insert(info.name);
  }
  for (const auto& [name, tensor] : weights.tensors()) {
    if (!known.contains(name) && !is_redundant(layout, name)) {
      throw_io_error(weights.place(), "holds a tensor {} that config.json does not know", name);
    }
  }
}

void read_weights(const WeightFiles& weights, std::span<const Parameter> parameters, std::span<float> to) {
  for (const Parameter& p : parameters) {
    const StoredTensor tensor = weights.at(p.name);
    const auto out = to.subspan(static_cast<size_t>(p.offset), static_cast<size_t>(p.size));
    tensor.file->read(*tensor.info, out);
    check_finite(out, weights.place(), p.name);
    if (p.transposed) {
      const std::vector<float> turned = transposed(out, p.dims[0], p.dims[1]);
      std::copy(turned.begin(), turned.end(), out.begin());
    }
  }
}

}  // namespace

void load_weights(const fs::path& folder, const ParameterLayout& layout, std::span<float> parameters) {
  const WeightFiles weights(folder);
  check_weights(weights, layout, layout.parameters, {});
  read_weights(weights, layout.parameters, parameters);
}

bool is_model_folder(const fs::path& folder) {
  std::error_code ignored;  // a path too long, or a folder closed to us, is no model either
  return fs::is_regular_file(folder / "config.json", ignored);
}

namespace {

void check_tokenizer(const text::Tokenizer& tokenizer, int64_t vocabulary) {
  if (tokenizer.vocabulary_size() <= vocabulary) return;
  throw_input_error("tokenizer",
                    "the tokenizer has {} tokens, the model {}: it is not this model's tokenizer",
                    tokenizer.vocabulary_size(), vocabulary);
}

/// What a folder says of its model, and its tokenizer; no model is made yet.
ConfigFile read_folder_description(const fs::path& folder, LoadedModel& loaded) {
  if (!is_model_folder(folder))
    throw_input_error(folder.string(), "is not a model folder: it has no config.json");
  const fs::path path = folder / "config.json";
  const MappedFile text(path);
  const ConfigFile file = config_from_json(text.text(), path.string());
  if (file.tokenizer_fingerprint.empty()) {
    attach_tokenizer(loaded, file.config.vocabulary, [&] { return text::load_tokenizer(folder); });
    return file;
  }
  loaded.tokenizer = text::load_tokenizer(folder);
  if (loaded.tokenizer->fingerprint() != file.tokenizer_fingerprint) {
    throw_input_error(folder.string(),
                      "the tokenizer in this folder is not the one the model was trained with; put the "
                      "original back");
  }
  check_tokenizer(*loaded.tokenizer, file.config.vocabulary);
  return file;
}

}  // namespace

// A model without a tokenizer can still be looked at and measured on token files; who needs text says so.
void attach_tokenizer(LoadedModel& loaded, int64_t vocabulary,
                      const std::function<std::shared_ptr<const text::Tokenizer>()>& open) {
  try {
    loaded.tokenizer = open();
  } catch (const InputError& error) {
    loaded.tokenizer_problem = error.what();
    return;
  }
  if (loaded.tokenizer) check_tokenizer(*loaded.tokenizer, vocabulary);
}

LoadedModel load_folder(const fs::path& folder) {
  LoadedModel loaded;
  const ConfigFile file = read_folder_description(folder, loaded);
  const auto weights = std::make_shared<const WeightFiles>(folder);
  const ParameterLayout layout = make_layout(file.config);
  std::vector<Parameter> floats = layout.parameters;
  std::optional<QuantizedWeights> codes;
  if (file.quantization) {
    floats = parameters_beside_cores(layout);
    codes = read_quantized(weights, layout, *file.quantization);
  }
  // Before room is made for what config.json claims.
  check_weights(*weights, layout, floats,
                codes ? tensor_names(layout, codes->coding) : std::vector<std::string>());
  loaded.model = std::make_unique<Transformer<float>>(file.config);
  read_weights(*weights, floats, loaded.model->parameters());
  if (codes) loaded.model->set_codes(*std::move(codes));
  loaded.bytes = weights->bytes();
  return loaded;
}

LoadedModel load_description(const fs::path& folder) {
  LoadedModel loaded;
  loaded.model = std::make_unique<Transformer<float>>(read_folder_description(folder, loaded).config);
  return loaded;
}

}  // namespace qtf::model
