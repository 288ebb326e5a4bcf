#include "qtf/model/model_card.h"

#include <gtest/gtest.h>

#include "qtf/model/config.h"

namespace qtf::model {
namespace {

TEST(ModelCard, StatesWhatWasMeasured) {
  ModelConfig config = preset_config("nano");
  apply_shape_requests(config, {"ffn=chain:rank=8", "up_proj=btt:rank=1"});
  const CardFacts facts{.name = "my-model",
                        .trained_on = "corpus.txt",
                        .bytes = 123'456,
                        .steps = 777,
                        .seconds = 125,
                        .nats_per_token = 2,
                        .standard_error = 0.0123,
                        .word_perplexity = 321.987,
                        .bits_per_byte = 1.23456,
                        .context = 96,
                        .stride = 48};
  const std::string card = model_card(config, facts);
  for (const std::string& expected :
       {std::string("# my-model"), std::string("`corpus.txt`"), std::to_string(parameter_count(config)),
        std::to_string(dense_parameter_count(config)), std::string("123 kB"),
        std::string("777 steps in 2:05"), std::string("2.0000 ± 0.0123"), std::string("| 7.39 |"),
        std::string("321.99"), std::string("1.2346"), std::string("windows of 96 tokens, stride 48"),
        std::string("attention: dense"), std::string("chain and btt"), std::string("Llama family"),
        std::string("vocabulary 512"), std::string("4 heads (2 kv)")}) {
    EXPECT_NE(card.find(expected), std::string::npos) << "missing: " << expected << "\n" << card;
  }
}

TEST(ModelCard, BeginsWithHuggingFacesMetadata) {
  ModelConfig config = preset_config("nano");
  config.family = Family::gpt2, config.kv_heads = 4;
  const std::string card = model_card(config, {.name = "x", .trained_on = "y"});
  EXPECT_TRUE(card.starts_with("---\n"));
  const size_t end = card.find("\n---\n", 4);
  ASSERT_NE(end, std::string::npos);
  const std::string metadata = card.substr(0, end);
  EXPECT_NE(metadata.find("pipeline_tag: text-generation"), std::string::npos);
  EXPECT_NE(metadata.find("library_name: qtf"), std::string::npos);
  EXPECT_EQ(card.substr(end + 5).find("\n# x"), 0u);
  EXPECT_NE(card.find("GPT-2 family"), std::string::npos);
  EXPECT_EQ(card.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace qtf::model
