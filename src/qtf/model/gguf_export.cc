#include "qtf/model/gguf_export.h"

#include "qtf/base/error.h"
#include "qtf/io/gguf.h"
#include "qtf/model/gguf_names.h"
#include "qtf/model/gguf_tokenizer.h"
#include "qtf/model/rotary_rows.h"

namespace qtf::model {

namespace {

uint32_t natural(int64_t value) {
  return static_cast<uint32_t>(value);  // validate() bounds sizes far below
}

/// llama.cpp's number for a file of mostly this type ("general.file_type").
uint32_t file_type(io::TensorType type) {
  switch (type) {
    case io::TensorType::f32:
      return 0;
    case io::TensorType::f16:
      return 1;
    case io::TensorType::q8_0:
      return 7;
    default:
      throw_input_error("convert", "GGUF files are written as F32, F16 or Q8_0, not {}", info(type).name);
  }
}

void write_sizes(const ModelConfig& c, io::TensorType type, io::GgufWriter& writer) {
  const std::string_view architecture = gguf_architecture(c.family);
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", architecture, name); };
  writer.set("general.architecture", architecture);
  writer.set("general.file_type", file_type(type));
  writer.set("general.quantization_version", uint32_t{2});
  writer.set(key("vocab_size"), natural(c.vocabulary));
  writer.set(key("context_length"), natural(c.context));
  writer.set(key("embedding_length"), natural(c.width));
  writer.set(key("block_count"), natural(c.layers));
  writer.set(key("feed_forward_length"), natural(c.feed_forward));
  writer.set(key("attention.head_count"), natural(c.heads));
  writer.set(key("attention.head_count_kv"), natural(c.kv_heads));
  if (c.family == Family::llama) {
    writer.set(key("attention.layer_norm_rms_epsilon"), static_cast<float>(c.norm_epsilon));
    writer.set(key("rope.dimension_count"), natural(c.head_dim()));
    writer.set(key("rope.freq_base"), static_cast<float>(c.rope_theta));
  } else {
    writer.set(key("attention.layer_norm_epsilon"), static_cast<float>(c.norm_epsilon));
  }
}

class TensorWriter {
 public:
  TensorWriter(const Transformer<float>& model, io::TensorType type, io::GgufWriter& writer)
      : model_(model), type_(type), writer_(writer) {}

  void add(const Parameter& p) { add(gguf_tensor_name(model_.config().family, p.name), p); }

  void add(const std::string& name, const Parameter& p) {
    const ModelConfig& c = model_.config();
    std::span<const float> values =
        model_.parameters().subspan(static_cast<size_t>(p.offset), static_cast<size_t>(p.size));
    std::vector<int64_t> dims = p.dims;
    if (p.transposed) std::swap(dims[0], dims[1]);  // parameters lie as [out, in], as GGUF has them
    std::vector<float> pairs;
    if (c.family == Family::llama && is_rotated(p.name)) {
      pairs.resize(values.size());
      pairs_from_halves(values.data(), dims[0], dims[1], c.head_dim(), pairs.data());
      values = pairs;
    }
    const bool plain = dims.size() == 1 || name.starts_with("position_embd");
    const io::TensorType asked = plain ? io::TensorType::f32 : type_;
    narrow_ += writer_.add(name, std::move(dims), asked, values) != asked;
  }

  /// Matrices whose rows did not fit the type's blocks.
  int narrow() const { return narrow_; }

 private:
  const Transformer<float>& model_;
  io::TensorType type_;
  io::GgufWriter& writer_;
  int narrow_ = 0;
};

}  // namespace

std::vector<std::string> save_gguf(const std::filesystem::path& path, const Transformer<float>& model,
                                   const text::Tokenizer* tokenizer, io::TensorType type) {
  const ModelConfig& config = model.config();
  if (config.quantum)
    throw_input_error("convert", "GGUF cannot hold a quantum layer; leave it out first (make_dense)");
  if (!config.shapes.empty())
    throw_input_error("convert", "GGUF holds dense weights only; multiply the tensor trains out first");
  io::GgufWriter writer;
  write_sizes(config, type, writer);
  std::vector<std::string> notes;
  if (tokenizer) {
    notes = write_gguf_tokenizer(tokenizer->pieces(), config, writer);
  } else {
    writer.set("tokenizer.ggml.model", "none");
    notes.push_back("the model has no tokenizer, so the file has none");
  }
  TensorWriter tensors(model, type, writer);
  for (const Parameter& p : model.layout().parameters) tensors.add(p);
  // llama.cpp's GPT-2 wants the head even where it is the embedding.
  if (config.tied && config.family == Family::gpt2)
    tensors.add("output.weight", model.layout().find("transformer.wte.weight"));
  if (tensors.narrow() > 0) {
    notes.push_back(
        fmt::format("{} matrices have rows that are no multiple of 32: stored as F16", tensors.narrow()));
  }
  writer.write(path);
  return notes;
}

}  // namespace qtf::model
