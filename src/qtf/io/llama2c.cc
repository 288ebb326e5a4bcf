#include "qtf/io/llama2c.h"

#include <bit>
#include <cstring>

#include "qtf/base/error.h"

namespace qtf::io {

static_assert(std::endian::native == std::endian::little, "weights are mapped as they lie in the file");

namespace {

constexpr size_t kHeaderBytes = 28;
constexpr int32_t kMagic = 0x616b3432;  // "ak42" of versions 1 and 2, where version 0 has the width

/// Walks through the arrays after the header.
class Cursor {
 public:
  Cursor(std::span<const std::byte> file, std::string_view place) : file_(file), place_(place) {}

  /// The next array; its dims are positive.
  std::span<const float> take(const char* what, std::initializer_list<int64_t> dims) {
    const size_t left = (file_.size() - at_) / sizeof(float);
    size_t count = 1;
    bool fits = true;
    for (int64_t dim : dims) fits = fits && !__builtin_mul_overflow(count, static_cast<size_t>(dim), &count);
    if (!fits || count > left) {
      throw_io_error("llama2c",
                     "{}: {} of dims [{}] at byte {} goes beyond the end at byte {}; the file is cut off",
                     place_, what, fmt::join(dims, ", "), at_, file_.size());
    }
    const auto* data = reinterpret_cast<const float*>(file_.data() + at_);
    at_ += count * sizeof(float);
    return {data, count};
  }

  void expect_end() const {
    if (at_ == file_.size()) return;
    throw_io_error("llama2c", "{}: the weights end at byte {}, the file at byte {}; it is no llama2.c model",
                   place_, at_, file_.size());
  }

 private:
  std::span<const std::byte> file_;
  std::string_view place_;
  size_t at_ = kHeaderBytes;
};

/// One array of the file that holds a tensor of every layer.
struct LayerArray {
  const char* suffix;  // of the Hugging Face name
  std::vector<int64_t> dims;
  std::span<const float> data = {};  // [layers, dims]
};

Llama2cModel parse_sizes(std::span<const std::byte> file, std::string_view place) {
  if (file.size() < kHeaderBytes) {
    throw_io_error("llama2c", "{}: cut off at byte {}; the header has {}", place, file.size(), kHeaderBytes);
  }
  int32_t sizes[7];
  std::memcpy(sizes, file.data(), sizeof sizes);
  if (sizes[0] == kMagic) {
    throw_io_error("llama2c", "{}: byte 0 says export version 1 or 2; export it again with --version 0",
                   place);
  }
  const bool tied = sizes[5] > 0;  // a negative vocabulary says that the head has its own weights
  if (!tied && sizes[5] != INT32_MIN) sizes[5] = -sizes[5];
  for (size_t i = 0; i < std::size(sizes); ++i) {
    if (sizes[i] > 0) continue;
    throw_io_error("llama2c", "{}: size {} at byte {} must be positive; it is no llama2.c model", place,
                   sizes[i], i * sizeof(int32_t));
  }
  const auto [width, feed_forward, layers, heads, kv_heads, vocabulary, context] = sizes;
  if (width % heads != 0 || heads % kv_heads != 0 || width / heads % 2 != 0) {
    throw_io_error("llama2c",
                   "{}: width {}, {} heads and {} key/value heads (bytes 0 to 20) do not fit each other",
                   place, width, heads, kv_heads);
  }
  return {.width = width,
          .feed_forward = feed_forward,
          .layers = layers,
          .heads = heads,
          .kv_heads = kv_heads,
          .vocabulary = vocabulary,
          .context = context,
          .tied = tied,
          .tensors = {},
          .file = {}};
}

/// The arrays with a layer axis, in the file's order.
std::vector<LayerArray> take_layer_arrays(const Llama2cModel& m, Cursor& cursor) {
  const int64_t width = m.width, kv_width = width / m.heads * m.kv_heads, feed_forward = m.feed_forward;
  std::vector<LayerArray> arrays = {
      {"input_layernorm", {width}},
      {"self_attn.q_proj", {width, width}},
      {"self_attn.k_proj", {kv_width, width}},
      {"self_attn.v_proj", {kv_width, width}},
      {"self_attn.o_proj", {width, width}},
      {"post_attention_layernorm", {width}},
      {"mlp.gate_proj", {feed_forward, width}},
      {"mlp.down_proj", {width, feed_forward}},
      {"mlp.up_proj", {feed_forward, width}},
  };
  for (LayerArray& array : arrays) {
    array.data =
        cursor.take(array.suffix, {m.layers, array.dims[0], array.dims.size() > 1 ? array.dims[1] : 1});
  }
  return arrays;
}

}  // namespace

Llama2cModel parse_llama2c(std::span<const std::byte> file, std::string_view place) {
  Llama2cModel model = parse_sizes(file, place);
  Cursor cursor(file, place);
  const std::vector<int64_t> table = {model.vocabulary, model.width};
  const auto embedding = cursor.take("the embedding", {model.vocabulary, model.width});
  const auto arrays = take_layer_arrays(model, cursor);
  const auto norm = cursor.take("the last norm", {model.width});
  // Tables of cosines and sines [context, head width / 2], which everybody computes anew.
  for (const char* what : {"cosines", "sines"})
    cursor.take(what, {model.context, model.width / model.heads / 2});
  const auto head =
      model.tied ? std::span<const float>() : cursor.take("the head", {model.vocabulary, model.width});
  cursor.expect_end();

  model.tensors.push_back({"model.embed_tokens.weight", table, embedding});
  for (int32_t layer = 0; layer < model.layers; ++layer) {
    for (const LayerArray& array : arrays) {
      const size_t size = array.data.size() / static_cast<size_t>(model.layers);
      model.tensors.push_back({fmt::format("model.layers.{}.{}.weight", layer, array.suffix), array.dims,
                               array.data.subspan(static_cast<size_t>(layer) * size, size)});
    }
  }
  model.tensors.push_back({"model.norm.weight", {model.width}, norm});
  if (!model.tied) model.tensors.push_back({"lm_head.weight", table, head});
  return model;
}

Llama2cModel read_llama2c(const std::filesystem::path& path) {
  MappedFile file(path);
  Llama2cModel model = parse_llama2c(file.bytes(), path.string());
  model.file = std::move(file);
  return model;
}

}  // namespace qtf::io
