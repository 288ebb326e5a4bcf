#include "qtf/cli/calibration_input.h"

#include <algorithm>

#include "qtf/text/corpus.h"
#include "qtf/text/token_file.h"

namespace qtf::cli {

namespace {

compress::Sequences read_documents(const Arguments& arguments, const model::LoadedModel& loaded,
                                   int64_t length, int64_t max_tokens) {
  const text::Corpus corpus(arguments.text("--calibrate"));
  const int32_t bos = loaded.model->config().bos_token;
  compress::Sequences all;
  for (const std::string_view whole : corpus.texts()) {
    for (const std::string_view document : text::split_documents(whole, arguments.text("--separator"))) {
      const auto begin = static_cast<size_t>(all.rows());
      if (bos >= 0) all.tokens.push_back(bos);
      loaded.tokenizer->encode(document, all.tokens);
      all.tokens.resize(std::min(all.tokens.size(), begin + static_cast<size_t>(length)));
      all.ends.push_back(all.rows());
    }
  }
  if (all.rows() <= max_tokens) return all;
  // Evenly spaced documents.
  compress::Sequences some;
  const int64_t count = std::max<int64_t>(1, all.count() * max_tokens / all.rows());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t d = all.count() * i / count;
    some.tokens.insert(some.tokens.end(), all.tokens.begin() + all.begin_of(d),
                       all.tokens.begin() + all.ends[static_cast<size_t>(d)]);
    some.ends.push_back(some.rows());
  }
  return some;
}

}  // namespace

Option calibrate_option(bool required) {
  return {.name = "--calibrate",
          .value = "FILE",
          .help = "a text that is like what the model is for, or a folder with calibration.safetensors",
          .required = required};
}

Option calibrate_tokens_option() {
  return {.name = "--calibrate-tokens",
          .type = ValueType::integer,
          .value = "N",
          .initial = "16k",
          .help = "tokens of it to use, evenly spaced",
          .min = 1};
}

CalibrationInput read_calibration(const Arguments& arguments, const model::LoadedModel& loaded,
                                  std::string_view place) {
  CalibrationInput input;
  std::filesystem::path path = arguments.text("--calibrate");
  if (std::filesystem::is_regular_file(path / "calibration.safetensors")) path /= "calibration.safetensors";
  if (path.extension() == ".safetensors") {
    input.stored = path;
    return input;
  }
  const model::ModelConfig& config = loaded.model->config();
  const int64_t max_tokens = arguments.integer("--calibrate-tokens");
  if (arguments.given("--separator")) {
    input.text = read_documents(
        arguments, loaded, std::min<int64_t>(config.context, 2 * compress::kCalibrationWindow), max_tokens);
    input.sha256 = text::Corpus(path).sha256();
  } else {
    const text::TokenFile file = text::tokenize_corpus(path, *loaded.tokenizer);
    input.text = compress::windows_of({&file, 0, file.size()},
                                      std::min(config.context, compress::kCalibrationWindow), max_tokens);
    input.sha256 = file.text_sha256();
  }
  int64_t widest = 0;
  for (const model::MapSpec& map : model::linear_maps(config)) widest = std::max(widest, map.in);
  if (input.text.rows() < widest)
    throw_input_error(place,
                      "the calibration text gives {} tokens; at least {} are needed, as many as the widest "
                      "map has inputs",
                      input.text.rows(), widest);
  return input;
}

}  // namespace qtf::cli
