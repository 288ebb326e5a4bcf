#include "qtf/model/gguf_import.h"

#include <algorithm>
#include <set>

#include "qtf/base/error.h"
#include "qtf/io/gguf.h"
#include "qtf/model/gguf_names.h"
#include "qtf/model/gguf_tokenizer.h"
#include "qtf/model/rotary_rows.h"

namespace qtf::model {

namespace fs = std::filesystem;

namespace {

// Beyond any size, and small enough that sizes can be multiplied before validate() sees them.
constexpr int64_t kMaxSize = int64_t{1} << 31;

/// The metadata of one architecture: "llama.block_count".
class Sizes {
 public:
  Sizes(const io::GgufFile& file, Family family) : file_(file), prefix_(gguf_architecture(family)) {}

  int64_t integer(std::string_view name) const {
    const auto value = optional_integer(name);
    if (!value) throw_io_error("gguf", "{}: {} is missing", file_.place(), key(name));
    return *value;
  }
  std::optional<int64_t> optional_integer(std::string_view name) const {
    return file_.integer(key(name), 0, kMaxSize);
  }
  /// GGUF holds single precision; the double is the shortest decimal that gives it, as 1e-5 was meant.
  std::optional<double> number(std::string_view name) const {
    const auto value = file_.number(key(name));
    return value ? std::optional(shortest_double(static_cast<float>(*value))) : std::nullopt;
  }
  std::optional<std::string_view> text(std::string_view name) const { return file_.text(key(name)); }

  /// Throws if the file says something else than `expected`.
  void expect(std::string_view name, int64_t expected) const {
    const auto value = optional_integer(name);
    if (value && *value != expected)
      throw_input_error("gguf", "{}: {} of {} is not supported, only {}", file_.place(), key(name), *value,
                        expected);
  }

 private:
  static double shortest_double(float value) { return std::stod(fmt::format("{}", value)); }
  std::string key(std::string_view name) const { return fmt::format("{}.{}", prefix_, name); }

  const io::GgufFile& file_;
  std::string_view prefix_;
};

Family family_of(const io::GgufFile& file) {
  const auto architecture = file.text("general.architecture");
  if (!architecture) throw_io_error("gguf", "{}: general.architecture is missing", file.place());
  if (const auto family = find_gguf_architecture(*architecture)) return *family;
  throw_input_error("gguf", "{}: the architecture \"{}\" is not supported; {} are", file.place(),
                    *architecture, gguf_architectures());
}

const io::GgufTensor& tensor_of(const io::GgufFile& file, const std::string& name) {
  if (const io::GgufTensor* tensor = file.find(name)) return *tensor;
  throw_io_error("gguf", "{}: there is no tensor {} among its {}", file.place(), name,
                 file.header().tensors.size());
}

/// Whether the head is the embedding: left out, or written a second time.
bool is_tied(const io::GgufFile& file) {
  const io::GgufTensor* head = file.find("output.weight");
  if (!head) return true;
  const io::GgufTensor& embedding = tensor_of(file, "token_embd.weight");
  const auto a = file.bytes(*head), b = file.bytes(embedding);
  return head->type == embedding.type && head->dims == embedding.dims &&
         std::equal(a.begin(), a.end(), b.begin(), b.end());
}

void check_llama(const io::GgufFile& file, const Sizes& sizes, ModelConfig& c) {
  c.kv_heads = sizes.optional_integer("attention.head_count_kv").value_or(c.heads);
  c.norm_epsilon = sizes.number("attention.layer_norm_rms_epsilon").value_or(1e-5);
  c.rope_theta = sizes.number("rope.freq_base").value_or(10000);
  const std::string_view scaling = sizes.text("rope.scaling.type").value_or("none");
  if (scaling != "none" || file.find("rope_freqs.weight"))
    throw_input_error("gguf", "{}: scaled rotary positions (\"{}\") are not supported", file.place(),
                      scaling == "none" ? "rope_freqs.weight" : scaling);
  if (sizes.optional_integer("expert_count").value_or(0) != 0)
    throw_input_error("gguf", "{}: mixtures of experts are not supported", file.place());
}

ModelConfig gguf_config(const io::GgufFile& file) {
  ModelConfig c;
  c.family = family_of(file);
  const Sizes sizes(file, c.family);
  const io::GgufTensor& embedding = tensor_of(file, "token_embd.weight");
  if (embedding.dims.size() != 2)
    throw_io_error("gguf", "{}: token_embd.weight is no matrix (byte {})", file.place(), embedding.offset);
  c.vocabulary = embedding.dims[0];
  c.width = sizes.integer("embedding_length");
  c.feed_forward = sizes.integer("feed_forward_length");
  c.layers = sizes.integer("block_count");
  c.heads = c.kv_heads = sizes.integer("attention.head_count");
  c.context = sizes.integer("context_length");
  c.tied = is_tied(file);
  if (c.family == Family::llama) {
    check_llama(file, sizes, c);
  } else {
    c.norm_epsilon = sizes.number("attention.layer_norm_epsilon").value_or(1e-5);
  }
  try {
    validate(c);
  } catch (const InputError& error) {
    throw_input_error("gguf", "{}: {}", file.place(), error.what());
  }
  for (const char* name : {"rope.dimension_count", "attention.key_length", "attention.value_length"})
    sizes.expect(name, c.head_dim());
  return c;
}

/// Dims in GGUF: it stores every matrix as [out, in].
std::vector<int64_t> gguf_dims(const Parameter& p) {
  std::vector<int64_t> dims = p.dims;
  if (p.transposed) std::swap(dims[0], dims[1]);
  return dims;
}

void check_tensors(const io::GgufFile& file, const ModelConfig& config, const ParameterLayout& layout) {
  std::set<std::string_view> known = {"output.weight"};  // of a tied model: the embedding once more
  for (const Parameter& p : layout.parameters) {
    const io::GgufTensor& tensor = tensor_of(file, gguf_tensor_name(config.family, p.name));
    if (tensor.dims != gguf_dims(p)) {
      throw_io_error("gguf", "{}: {} (byte {}) has dims [{}], the metadata ask for [{}]", file.place(),
                     tensor.name, tensor.offset, fmt::join(tensor.dims, ", "), fmt::join(gguf_dims(p), ", "));
    }
    known.insert(tensor.name);
  }
  for (const io::GgufTensor& tensor : file.header().tensors) {
    if (known.contains(tensor.name)) continue;
    throw_input_error("gguf", "{}: the tensor {} (byte {}) is not supported: {} models have none such",
                      file.place(), tensor.name, tensor.offset, gguf_architecture(config.family));
  }
}

void read_tensor(const io::GgufFile& file, const ModelConfig& config, const Parameter& p, float* to) {
  const io::GgufTensor& tensor = tensor_of(file, gguf_tensor_name(config.family, p.name));
  const auto size = static_cast<size_t>(p.size);
  if (config.family == Family::llama && is_rotated(p.name)) {
    std::vector<float> pairs(size);
    file.read(tensor, pairs);
    halves_from_pairs(pairs.data(), p.dims[0], p.dims[1], config.head_dim(), to);
  } else {
    file.read(tensor, {to, size});
  }
  check_finite({to, size}, file.place(), std::string(tensor.name));
}

/// Opens the tokenizer and notes what begins and ends a text.
void read_tokenizer(const io::GgufFile& file, LoadedModel& loaded, ModelConfig& config) {
  attach_tokenizer(loaded, config.vocabulary, [&] {
    const GgufTokenizer tokenizer = read_gguf_tokenizer(file);
    config.bos_token = tokenizer.bos, config.eos_token = tokenizer.eos;
    return text::make_tokenizer(tokenizer.pieces, file.place());
  });
}

}  // namespace

LoadedModel load_gguf(const fs::path& path) {
  const io::GgufFile file(path);
  if (file.integer("split.count", 0, kMaxSize).value_or(0) > 1)
    throw_input_error("gguf", "{} is one part of several; join them with llama-gguf-split --merge",
                      file.place());
  ModelConfig config = gguf_config(file);
  const ParameterLayout layout = make_layout(config);
  check_tensors(file, config, layout);  // before room is made for what the metadata claim
  LoadedModel loaded;
  read_tokenizer(file, loaded, config);
  loaded.model = std::make_unique<Transformer<float>>(config);
  for (const Parameter& p : layout.parameters)
    read_tensor(file, config, p, loaded.model->parameters().data() + p.offset);
  loaded.bytes = static_cast<int64_t>(fs::file_size(path));
  return loaded;
}

}  // namespace qtf::model
