#include "qtf/model/llama2c_import.h"

#include <algorithm>

#include "qtf/base/error.h"
#include "qtf/io/llama2c.h"
#include "qtf/model/rotary_rows.h"

namespace qtf::model {

namespace fs = std::filesystem;

namespace {

/// llama2.c's tokenizers begin with <unk>, <s>, </s>; it feeds <s> first and stops at it or at </s>.
constexpr int32_t kBos = 1, kEos = 2;

ModelConfig llama2c_config(const io::Llama2cModel& file) {
  ModelConfig c;
  c.family = Family::llama;
  c.vocabulary = file.vocabulary, c.width = file.width, c.layers = file.layers, c.heads = file.heads;
  c.kv_heads = file.kv_heads, c.feed_forward = file.feed_forward, c.context = file.context,
  c.tied = file.tied;
  if (c.vocabulary > kEos) c.bos_token = kBos, c.eos_token = kEos;
  return c;
}

/// Files beside the model that may be its tokenizer: SentencePiece's first, then llama2.c's form of one.
std::vector<fs::path> tokenizer_candidates(const fs::path& model) {
  const fs::path folder = model.parent_path().empty() ? fs::path(".") : model.parent_path();
  std::vector<fs::path> candidates;
  for (const std::string_view extension : {".model", ".bin"}) {
    const auto first = static_cast<std::ptrdiff_t>(candidates.size());
    for (const auto& entry : fs::directory_iterator(folder)) {
      const fs::path& path = entry.path();
      const bool called_so = path.filename().string().starts_with("tok") && path.extension() == extension;
      if (called_so && path.filename() != model.filename()) candidates.push_back(path);
    }
    std::sort(candidates.begin() + first, candidates.end());
  }
  return candidates;
}

std::shared_ptr<const text::Tokenizer> tokenizer_beside(const fs::path& model, int64_t vocabulary) {
  std::string problem;
  for (const fs::path& candidate : tokenizer_candidates(model)) {
    auto tokenizer = text::load_tokenizer(candidate);
    if (tokenizer->vocabulary_size() == vocabulary) return tokenizer;
    problem += fmt::format("; {} has {}", candidate.filename().string(), tokenizer->vocabulary_size());
  }
  throw_input_error(model.string(), "no tok*.model or tok*.bin with {} tokens lies beside it{}", vocabulary,
                    problem);
}

}  // namespace

LoadedModel load_llama2c(const fs::path& path) {
  const io::Llama2cModel file = io::read_llama2c(path);
  const ModelConfig config = llama2c_config(file);
  validate(config);
  LoadedModel loaded;
  loaded.model = std::make_unique<Transformer<float>>(config);
  for (const io::NamedTensor& tensor : file.tensors) {
    const Parameter& p = loaded.model->layout().find(tensor.name);
    QTF_ASSERT(p.size == static_cast<int64_t>(tensor.data.size()));
    check_finite(tensor.data, path.string(), tensor.name);
    float* to = loaded.model->parameters().data() + p.offset;
    if (is_rotated(tensor.name)) {
      halves_from_pairs(tensor.data.data(), tensor.dims[0], tensor.dims[1], config.head_dim(), to);
    } else {
      std::copy(tensor.data.begin(), tensor.data.end(), to);
    }
  }
  attach_tokenizer(loaded, config.vocabulary, [&] { return tokenizer_beside(path, config.vocabulary); });
  loaded.bytes = static_cast<int64_t>(fs::file_size(path));
  return loaded;
}

}  // namespace qtf::model
