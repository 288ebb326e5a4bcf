// README.md of what commands make: every number with a record that has it.
#include "qtf/cli/model_card.h"

#include <regex>

#include "qtf/cli/cli_test.h"

namespace qtf::cli {
namespace {

class ModelCard : public testing::Test {
 protected:
  /// Rows of tables cite records; each cited one is listed with its true hash.
  void expect_records_hold(const std::string& folder) const {
    const std::string card = read_file(folder + "/README.md");
    const std::regex citation(R"(\[record (\d+)\]\(#record-\1\))");
    int cited = 0;
    for (std::sregex_iterator it(card.begin(), card.end(), citation), end; it != end; ++it, ++cited) {
      const std::string number = (*it)[1];
      const std::regex listed("<a id=\"record-" + number + R"("></a>\d+ \| [a-z._]+ \| `([0-9a-f]{64})`)");
      std::smatch match;
      ASSERT_TRUE(std::regex_search(card, match, listed)) << number << "\n" << card;
      const Result exported = call({"audit", "export", folder});
      EXPECT_NE(exported.out.find("{\"hash\":\"" + match[1].str()), std::string::npos);
    }
    EXPECT_GT(cited, 5) << card;
    std::istringstream lines(card);
    bool first_table_rows = true;
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("## Records")) first_table_rows = false;
      const bool has_number = line.starts_with("| ") && std::any_of(line.begin(), line.end(), [](char c) {
                                return std::isdigit(static_cast<unsigned char>(c));
                              });
      EXPECT_TRUE(!first_table_rows || !has_number || line.find("[record ") != std::string::npos) << line;
    }
    const size_t verify = card.find("qtf audit verify . ");
    ASSERT_NE(verify, std::string::npos);
    std::istringstream words(card.substr(verify + 19));
    std::string count_flag, count, root_flag, root;
    words >> count_flag >> count >> root_flag >> root;
    root.resize(64);
    EXPECT_EQ(call({"audit", "verify", folder, count_flag, count, root_flag, root}).status, 0);
    EXPECT_EQ(call({"audit", "verify", folder, count_flag, count, root_flag, std::string(64, '0')}).status,
              1);
  }
  Workplace place_;
};

TEST_F(ModelCard, OfTrainingCompressionAndCalibration) {
  const std::string dense = place_.train("dense", {"--steps", "8"});
  expect_records_hold(dense);
  const std::string card = read_file(dense + "/README.md");
  EXPECT_TRUE(card.starts_with("---\nlibrary_name: qtf\n"));
  for (const char* said : {"pipeline_tag: text-generation", "\n# dense\n", "perplexity a word",
                           "training steps | 8", "vocabulary", "attention: dense", "Llama family"})
    EXPECT_NE(card.find(said), std::string::npos) << said << "\n" << card;
  const std::string small = place_ / "small";
  ASSERT_EQ(call({"compress", dense, "--out", small, "--calibrate", place_.book(), "--levels", "1.5,2",
                  "--test", place_.book(), "--quiet"})
                .status,
            0);
  expect_records_hold(small);
  const std::string compressed = read_file(small + "/README.md");
  for (const char* said : {"base_model: \"dense\"", "model-index:", "tokens scored, context 32",
                           "nested levels | 2", "whole-model ratio 1.5"})
    EXPECT_NE(compressed.find(said), std::string::npos) << said << "\n" << compressed;
  // The metadata's figure is the whole model's, not a smaller level's.
  const size_t compressed_row = compressed.find("| compressed | test | ");
  ASSERT_NE(compressed_row, std::string::npos);
  const std::string perplexity =
      compressed.substr(compressed_row + 22, compressed.find(' ', compressed_row + 22) - compressed_row - 22);
  EXPECT_NE(compressed.find("value: " + perplexity + "\n"), std::string::npos) << perplexity;
  ASSERT_EQ(call({"calibrate", small, "--text", place_.book()}).status, 0);
  expect_records_hold(small);
  EXPECT_NE(read_file(small + "/README.md").find("`qtf calibrate`"), std::string::npos);
}

}  // namespace
}  // namespace qtf::cli
