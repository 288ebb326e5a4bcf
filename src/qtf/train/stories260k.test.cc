// A pretrained model from another program, scored on real text: import, tokenizer, transformer and protocol
// at once. The expected figure comes from an independent forward pass (../shared/data/README.md).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "qtf/base/file.h"
#include "qtf/model/model_folder.h"
#include "qtf/train/evaluate.h"

namespace qtf::train {
namespace {

/// Stories [first, last) of a file that separates them by <|endoftext|>, each encoded alone.
Documents read_stories(std::string_view text, const text::Tokenizer& tokenizer, int first, int last) {
  constexpr std::string_view kSeparator = "<|endoftext|>";
  Documents documents;
  for (int story = 0; story < last; ++story) {
    const size_t end = text.find(kSeparator);
    std::string_view one = text.substr(0, end);
    one.remove_prefix(std::min(one.find_first_not_of(" \n"), one.size()));
    one = one.substr(0, one.find_last_not_of(" \n") + 1);
    if (story >= first) {
      tokenizer.encode(one, documents.tokens);
      documents.ends.push_back(static_cast<int64_t>(documents.tokens.size()));
    }
    text.remove_prefix(end + kSeparator.size());
  }
  return documents;
}

TEST(Stories260K, ScoresWhatAnIndependentForwardPassScores) {
  const std::filesystem::path data = std::filesystem::path(QTF_SHARED_DIR) / "data";
  const auto model_path = data / "stories260K/stories260K.bin";
  const auto text_path = data / "tinystories/tinystories_sample.txt";
  if (!std::filesystem::exists(model_path) || !std::filesystem::exists(text_path))
    GTEST_SKIP() << "skipped: no " << data;
  const model::LoadedModel loaded = model::load_model(model_path);
  ASSERT_NE(loaded.tokenizer, nullptr);
  const MappedFile text(text_path);
  const Documents stories = read_stories(text.text(), *loaded.tokenizer, 200, 260);
  ThreadPool pool(2);
  loaded.model->prepare(tt::Use::inference, pool);
  EvaluateOptions options;
  options.context = 512;
  const Evaluation result = evaluate(*loaded.model, stories, options, pool);
  EXPECT_NEAR(result.nats_per_token, 1.528, 0.002);
  EXPECT_NEAR(static_cast<double>(result.tokens), 24410, 2);
}

}  // namespace
}  // namespace qtf::train
