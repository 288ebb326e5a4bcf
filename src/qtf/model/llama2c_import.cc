#include "qtf/model/llama2c_import.h"

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/io/llama2c.h"

namespace qtf::model {

namespace fs = std::filesystem;

namespace {

/// llama2.c's tokenizers begin with <unk>, <s>, </s>; it feeds <s> first and stops at it or at </s>.
constexpr int32_t kBos = 1, kEos = 2;

ModelConfig config_of(const io::Llama2cModel& file) {
  ModelConfig c;
  c.family = Family::llama;
  c.vocabulary = file.vocabulary, c.width = file.width, c.layers = file.layers, c.heads = file.heads;
  c.kv_heads = file.kv_heads, c.feed_forward = file.feed_forward, c.context = file.context,
  c.tied = file.tied;
  if (c.vocabulary > kEos) c.bos_token = kBos, c.eos_token = kEos;
  return c;
}

bool is_rotated(const std::string& name) {
  return name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight");
}

/// Rows 2i and 2i + 1 of each head go to i and i + head_dim/2.
void copy_unpaired(const io::NamedTensor& from, int64_t head_dim, float* to) {
  const int64_t rows = from.dims[0], cols = from.dims[1];
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t in_head = row % head_dim;
    const int64_t target = row - in_head + in_head / 2 + in_head % 2 * (head_dim / 2);
    std::copy_n(from.data.data() + row * cols, cols, to + target * cols);
  }
}

std::shared_ptr<const text::Tokenizer> tokenizer_beside(const fs::path& path, int64_t vocabulary) {
  const fs::path folder = path.parent_path().empty() ? fs::path(".") : path.parent_path();
  std::vector<fs::path> candidates;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("tok") && name.ends_with(".model")) candidates.push_back(entry.path());
  }
  std::sort(candidates.begin(), candidates.end());
  for (const fs::path& candidate : candidates) {
    auto tokenizer = text::load_tokenizer(candidate);
    if (tokenizer->vocabulary_size() == vocabulary) return tokenizer;
  }
  return nullptr;
}

}  // namespace

LoadedModel load_llama2c(const fs::path& path) {
  const io::Llama2cModel file = io::read_llama2c(path);
  const ModelConfig config = config_of(file);
  LoadedModel loaded;
  loaded.model = std::make_unique<Transformer<float>>(config);
  for (const io::NamedTensor& tensor : file.tensors) {
    const Parameter& p = loaded.model->layout().find(tensor.name);
    QTF_ASSERT(p.size == static_cast<int64_t>(tensor.data.size()));
    check_finite(tensor.data, path.string(), tensor.name);
    float* to = loaded.model->parameters().data() + p.offset;
    if (is_rotated(tensor.name)) {
      copy_unpaired(tensor, config.head_dim(), to);
    } else {
      std::copy(tensor.data.begin(), tensor.data.end(), to);
    }
  }
  loaded.tokenizer = tokenizer_beside(path, config.vocabulary);
  loaded.bytes = static_cast<int64_t>(fs::file_size(path));
  return loaded;
}

}  // namespace qtf::model
