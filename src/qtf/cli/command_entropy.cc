#include <fmt/format.h>

#include <algorithm>

#include <ostream>

#include "qtf/base/json.h"
#include "qtf/cli/open_model.h"
#include "qtf/cli/rank_options.h"
#include "qtf/cli/token_decisions.h"

namespace qtf::cli {
namespace {

/// Of a text's tokens: entropies [layers, tokens], and levels where a policy picked some.
struct EntropyMap {
  std::vector<int32_t> tokens;
  std::vector<float> entropy;
  std::vector<uint8_t> levels;
};

EntropyMap measure_map(const model::LoadedModel& loaded, const std::string& text,
                       const model::Levels& levels) {
  const model::ModelConfig& config = loaded.model->config();
  EntropyMap map;
  if (config.bos_token >= 0) map.tokens.push_back(config.bos_token);
  loaded.tokenizer->encode(text, map.tokens);
  const auto rows = static_cast<int64_t>(map.tokens.size());
  if (rows == 0) throw_input_error("entropy", "the text is empty; give some words as --text");
  const auto size = static_cast<size_t>(config.layers * rows);
  map.entropy.resize(size), map.levels.resize(size);
  std::vector<float> hidden(static_cast<size_t>(rows * config.width));
  Arena arena;
  model::Levels asked = levels;
  asked.chosen = map.levels.data();
  loaded.model->hidden_states({map.tokens, map.tokens, 1, rows}, asked, {hidden.data(), rows, config.width},
                              arena, {map.entropy.data(), config.layers, rows});
  return map;
}

nlohmann::ordered_json map_json(const model::LoadedModel& loaded, const EntropyMap& map, bool chosen) {
  const size_t rows = map.tokens.size(), layers = map.entropy.size() / rows;
  auto tokens = nlohmann::ordered_json::array();
  for (size_t t = 0; t < rows; ++t) {
    nlohmann::ordered_json token = {
        {"token", shown_token(std::string(loaded.tokenizer->token_bytes(map.tokens[t])))}};
    for (size_t layer = 0; layer < layers; ++layer) {
      token["entropy"].push_back(map.entropy[layer * rows + t]);
      if (chosen) token["level"].push_back(map.levels[layer * rows + t]);
    }
    tokens.push_back(token);
  }
  return {{"tokens", tokens}};
}

/// A bar of one character: eight heights of an entropy.
std::string_view bar(double entropy) {
  static constexpr std::string_view kBars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  return kBars[std::min<size_t>(7, static_cast<size_t>(8 * entropy))];
}

void print_map(const nlohmann::ordered_json& json, std::ostream& out) {
  const auto& tokens = json.at("tokens");
  const bool chosen = tokens.front().contains("level");
  const size_t layers = tokens.front().at("entropy").size();
  out << fmt::format("{:<14}", "token");
  for (size_t layer = 0; layer < layers; ++layer)
    out << fmt::format(" {:<{}}", fmt::format("layer {}", layer), chosen ? 8 : 7);
  out << "\n";
  for (const auto& token : tokens) {
    out << fmt::format("{:<14}", token.at("token").get<std::string>());
    for (size_t layer = 0; layer < layers; ++layer) {
      const double entropy = token.at("entropy")[layer];
      out << fmt::format(" {} {:.2f}{} ", bar(entropy), entropy,
                         chosen ? fmt::format(" {}", token.at("level")[layer].get<int>()) : "");
    }
    out << "\n";
  }
}

void run_entropy(const Arguments& arguments, const Streams& streams) {
  ThreadPool pool(1);
  const model::LoadedModel loaded = open_model(arguments.text("MODEL"), "entropy");
  const auto scheduler = read_rank_scheduler(arguments, loaded.model->config());
  loaded.model->prepare(tt::Use::inference, pool);
  const EntropyMap map = measure_map(loaded, arguments.text("--text"), {0, scheduler.get()});
  const auto json = map_json(loaded, map, scheduler != nullptr);
  if (arguments.flag("--json")) {
    streams.out << json.dump() << "\n";
  } else {
    print_map(json, streams.out);
  }
}

}  // namespace

extern const Command kEntropyCommand;
const Command kEntropyCommand{
    .name = "entropy",
    .summary = "Show how a text's attention spreads, token by token and layer by layer",
    .details =
        "A row a token: its attention entropy in every layer, 0 where it attends to one token and 1 where to "
        "all "
        "alike, and with a rank policy the level that it took there.",
    .example = {.call = "qtf entropy book-small --text 'The train arrived late.' --rank-policy entropy"},
    .options = {{.name = "MODEL", .help = "a model folder, a GGUF file or a llama2.c .bin", .required = true},
                {.name = "--text",
                 .value = "TEXT",
                 .help = "the words themselves, at most a context",
                 .required = true},
                rank_policy_option(),
                mean_rank_option(),
                alpha_option(),
                hysteresis_option(),
                rank_seed_option(),
                {.name = "--json", .type = ValueType::flag, .help = "print one JSON object"}},
    .run = run_entropy,
};

}  // namespace qtf::cli
