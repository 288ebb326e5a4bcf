#include "qtf/cli/token_decisions.h"

#include <algorithm>

#include "qtf/adapt/decision_records.h"
#include "qtf/audit/fields.h"
#include "qtf/cli/cli.h"
#include "qtf/cli/rank_options.h"
#include "qtf/model/model_files.h"
#include "qtf/text/utf8.h"

namespace qtf::cli {

namespace {

constexpr const char* kTokensPlace = "explain";

/// Counts at most this many levels: those of a policy.
constexpr size_t kMostCounted = adapt::kMostLevels + 1;

void trim_levels(std::vector<int64_t>& levels) {
  while (!levels.empty() && levels.back() == 0) levels.pop_back();
}

}  // namespace

std::string shown_token(std::string bytes) {
  for (size_t bad; (bad = text::find_invalid_utf8(bytes)) != std::string::npos;) bytes[bad] = '.';
  for (char& c : bytes)
    if (static_cast<unsigned char>(c) < ' ' || c == 127) c = '.';
  return bytes;
}

DecidedTokens decide_text(const model::LoadedModel& loaded, const model::RankScheduler* scheduler,
                          const std::string& text) {
  const model::ModelConfig& config = loaded.model->config();
  std::vector<int32_t> ids;
  if (config.bos_token >= 0) ids.push_back(config.bos_token);
  // So many bytes hold more tokens than the context takes, whatever the tokenizer.
  constexpr size_t kMostBytes = 64;
  loaded.tokenizer->encode(std::string_view(text).substr(0, kMostBytes * static_cast<size_t>(config.context)),
                           ids);
  if (ids.empty()) throw_input_error(kTokensPlace, "the text is empty");
  ids.resize(std::min(ids.size(), static_cast<size_t>(config.context)));
  const auto rows = static_cast<int64_t>(ids.size());
  DecidedTokens decided;
  decided.layers = config.layers, decided.tokens = rows;
  for (const int32_t id : ids) decided.words.emplace_back(loaded.tokenizer->token_bytes(id));
  const auto size = static_cast<size_t>(config.layers * rows);
  decided.entropy.resize(size), decided.levels.resize(size), decided.signals.resize(size);
  decided.routed.assign(static_cast<size_t>(rows), 2);
  model::RouteTrace<float> routes;
  if (loaded.model->quantum()) {
    decided.scores.resize(static_cast<size_t>(rows));
    routes.routed = decided.routed.data(), routes.selection = decided.scores.data();
  }
  std::vector<float> hidden(static_cast<size_t>(rows * config.width));
  Arena arena;
  loaded.model->hidden_states(
      {ids, ids, 1, rows}, {0, scheduler, decided.levels.data(), decided.signals.data()},
      {hidden.data(), rows, config.width}, arena, {decided.entropy.data(), config.layers, rows}, routes);
  for (int64_t layer = 0; layer < config.layers; ++layer)
    if (!scheduler || !scheduler->governs(layer))
      std::fill_n(decided.levels.begin() + static_cast<std::ptrdiff_t>(decided.at(layer, 0)), rows,
                  uint8_t{0});
  return decided;
}

DecidedTokens recorded_tokens(const RecordedRun& run, int64_t sequence) {
  DecidedTokens decided;
  decided.sequence = sequence;
  std::vector<TokenColumns> pieces;
  for (size_t i = 0; i < run.tokens.size(); ++i) {
    if (audit::integer_field(run.tokens[i], "sequence") != sequence) continue;
    if (run.payloads.at(i).empty())
      throw_input_error(
          kTokensPlace,
          "the run was recorded at the level summary, without each token's decisions; record it with "
          "--audit-level full, or give its text: --text FILE");
    if (pieces.empty()) decided.record = run.numbers.at(i);
    pieces.push_back(columns_of(run.tokens[i], run.payloads[i]));
    if (pieces.back().position != decided.tokens || pieces.back().layers != pieces[0].layers)
      throw_input_error(kTokensPlace, "the records of sequence {} do not join", sequence);
    decided.tokens += pieces.back().tokens;
  }
  if (pieces.empty()) throw_input_error(kTokensPlace, "the run has no sequence {}", sequence);
  decided.layers = pieces[0].layers;
  const auto join = [&](auto TokenColumns::*column, auto& joined) {
    for (int64_t layer = 0; layer < decided.layers; ++layer)
      for (const TokenColumns& piece : pieces) {
        const auto& from = piece.*column;
        const auto begin = from.begin() + static_cast<std::ptrdiff_t>(layer * piece.tokens);
        if (!from.empty())
          joined.insert(joined.end(), begin, begin + static_cast<std::ptrdiff_t>(piece.tokens));
      }
  };
  join(&TokenColumns::levels, decided.levels);
  join(&TokenColumns::entropies, decided.entropy);
  for (const TokenColumns& piece : pieces) {
    decided.routed.insert(decided.routed.end(), piece.routed.begin(), piece.routed.end());
    decided.scores.insert(decided.scores.end(), piece.scores.begin(), piece.scores.end());
  }
  return decided;
}

std::unique_ptr<model::RankScheduler> scheduler_of(const RecordedRun& run, const std::string& model,
                                                   const model::ModelConfig& config) {
  const std::string hash = model::model_hash(model);
  if (audit::text_field(run.start, "model_hash") != hash)
    throw_input_error(kTokensPlace, "{} is not the model of the run: its hash is {}, the run's {}", model,
                      hash, audit::text_field(run.start, "model_hash"));
  std::vector<std::string> words = call_of(run, model, "-", "-");
  const Command& command = find_command(words[0]);
  words.erase(words.begin());
  return read_rank_scheduler(parse_arguments(command, words), config);
}

std::vector<audit::Decision> decisions_of(const DecidedTokens& decided, int64_t token,
                                          const model::LoadedModel& loaded,
                                          const model::RankScheduler* scheduler) {
  if (token < 0 || token >= decided.tokens)
    throw_input_error(kTokensPlace, "there is no token {}: the text has tokens 0 to {}{}", token,
                      decided.tokens - 1, decided.words.empty() ? "" : " within the model's context");
  if (scheduler && decided.signals.empty() &&
      adapt::info(scheduler->options().policy.signal).source != adapt::RankSource::attention)
    throw_input_error(kTokensPlace,
                      "a run's records hold attention entropies, and its policy {} asks for more; give its "
                      "text: --text FILE",
                      adapt::info(scheduler->options().policy.signal).name);
  std::vector<audit::Decision> decisions;
  for (int64_t layer = 0; scheduler && layer < decided.layers; ++layer) {
    if (!scheduler->governs(layer) || decided.entropy.empty()) continue;
    const double entropy = static_cast<double>(decided.entropy[decided.at(layer, token)]);
    const bool follows = scheduler->sequential() && token > 1;
    const int64_t signal =
        decided.signals.empty() ? adapt::to_units(entropy) : decided.signals[decided.at(layer, token)];
    const adapt::RankDecision decision = scheduler->decide(
        layer, token, scheduler->standing(layer, token, entropy, signal),
        follows ? decided.levels[decided.at(layer, token - 1)] : 0, adapt::to_units(entropy));
    if (decision.level != decided.levels[decided.at(layer, token)])
      throw_input_error(
          kTokensPlace,
          "token {} took level {} in layer {}, and the model's policy gives {}: the run had another", token,
          decided.levels[decided.at(layer, token)], layer, decision.level);
    decisions.push_back(adapt::record(decision));
  }
  const auto* quantum = loaded.model->quantum();
  if (quantum && !decided.scores.empty()) {
    const auto before = std::count(decided.routed.begin(),
                                   decided.routed.begin() + static_cast<std::ptrdiff_t>(token), uint8_t{1});
    const adapt::RouteDecision decision =
        quantum->decide(token, before, decided.scores[static_cast<size_t>(token)]);
    if (decision.routed != (decided.routed[static_cast<size_t>(token)] == 1))
      throw_input_error(kTokensPlace, "token {} took another route than its score gives", token);
    decisions.push_back(adapt::record(decision));
  }
  return decisions;
}

explain::TokenCounts counts_of(const DecidedTokens& decided, const model::ModelConfig& config,
                               std::optional<int64_t> layer) {
  explain::TokenCounts counts{.of = layer            ? fmt::format("layer {}", *layer)
                                    : decided.record ? fmt::format("sequence {} of the run", decided.sequence)
                                                     : "the text",
                              .tokens = decided.tokens,
                              .levels = std::vector<int64_t>(kMostCounted),
                              .routed = {},
                              .quota_ppm = {},
                              .mean_entropy = {}};
  int64_t sum = 0, number = 0;
  for (int64_t l = layer.value_or(0); l < (layer ? *layer + 1 : decided.layers); ++l)
    for (int64_t t = 0; t < decided.tokens; ++t) {
      const uint8_t level = decided.levels[decided.at(l, t)];
      if (level > 0 && level <= kMostCounted) ++counts.levels[level - 1U];
      if (decided.entropy.empty()) continue;
      sum += adapt::to_units(static_cast<double>(decided.entropy[decided.at(l, t)])), ++number;
    }
  trim_levels(counts.levels);
  if (number > 0) counts.mean_entropy = sum / number;
  if (config.quantum && (!layer || *layer == config.layers / 2)) {
    counts.routed = std::count(decided.routed.begin(), decided.routed.end(), uint8_t{1});
    counts.quota_ppm = config.quantum->fraction_ppm;
  }
  return counts;
}

explain::TokenCounts counts_of(const RecordedRun& run) {
  explain::TokenCounts counts{.of = "the run",
                              .tokens = 0,
                              .levels = std::vector<int64_t>(kMostCounted),
                              .routed = {},
                              .quota_ppm = {},
                              .mean_entropy = {}};
  for (const nlohmann::json& record : run.tokens) {
    counts.tokens += audit::integer_field(record, "tokens");
    for (const auto& [level, count] : audit::member(record, "levels").items())
      if (const int64_t number = audit::parse_integer(level);
          number > 0 && number <= static_cast<int64_t>(kMostCounted))
        counts.levels[static_cast<size_t>(number - 1)] += audit::parse_integer(count);
    for (const auto& [route, count] : audit::member(record, "routed").items())
      if (route != "2")
        counts.routed = counts.routed.value_or(0) + (route == "1" ? audit::parse_integer(count) : 0);
  }
  trim_levels(counts.levels);
  return counts;
}

}  // namespace qtf::cli
