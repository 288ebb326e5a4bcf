#include "qtf/explain/token_decisions.h"

#include <fmt/format.h>

#include <algorithm>

#include "qtf/adapt/decision_records.h"
#include "qtf/base/error.h"

namespace qtf::explain {

namespace {

constexpr const char* kPlace = "explain";

}  // namespace

DecidedTokens decide_tokens(const model::Transformer<float>& model, const model::RankScheduler* scheduler,
                            int level, std::span<const int32_t> ids) {
  const model::ModelConfig& config = model.config();
  const auto rows = static_cast<int64_t>(ids.size());
  DecidedTokens decided;
  decided.layers = config.layers, decided.tokens = rows;
  const auto size = static_cast<size_t>(config.layers * rows);
  decided.entropy.resize(size), decided.levels.resize(size), decided.signals.resize(size);
  decided.routed.assign(static_cast<size_t>(rows), 2);
  model::RouteTrace<float> routes;
  if (model.quantum()) {
    decided.scores.resize(static_cast<size_t>(rows));
    routes.routed = decided.routed.data(), routes.selection = decided.scores.data();
  }
  std::vector<float> hidden(static_cast<size_t>(rows * config.width));
  Arena arena;
  model.hidden_states({ids, ids, 1, rows}, {level, scheduler, decided.levels.data(), decided.signals.data()},
                      {hidden.data(), rows, config.width}, arena,
                      {decided.entropy.data(), config.layers, rows}, routes);
  for (int64_t layer = 0; layer < config.layers; ++layer)
    if (!scheduler || !scheduler->governs(layer))
      std::fill_n(decided.levels.begin() + static_cast<std::ptrdiff_t>(decided.at(layer, 0)), rows,
                  uint8_t{0});
  return decided;
}

std::vector<audit::Decision> decisions_of(const DecidedTokens& decided, int64_t token,
                                          const model::Transformer<float>& model,
                                          const model::RankScheduler* scheduler) {
  if (token < 0 || token >= decided.tokens)
    throw_input_error(kPlace, "there is no token {}: the text has tokens 0 to {}{}", token,
                      decided.tokens - 1, decided.words.empty() ? "" : " within the model's context");
  if (scheduler && decided.signals.empty() &&
      adapt::info(scheduler->options().policy.signal).source != adapt::RankSource::attention)
    throw_input_error(kPlace,
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
          kPlace, "token {} took level {} in layer {}, and the model's policy gives {}: the run had another",
          token, decided.levels[decided.at(layer, token)], layer, decision.level);
    decisions.push_back(adapt::record(decision));
  }
  const auto* quantum = model.quantum();
  if (quantum && !decided.scores.empty()) {
    const auto before = std::count(decided.routed.begin(),
                                   decided.routed.begin() + static_cast<std::ptrdiff_t>(token), uint8_t{1});
    const adapt::RouteDecision decision =
        quantum->decide(token, before, decided.scores[static_cast<size_t>(token)]);
    if (decision.routed != (decided.routed[static_cast<size_t>(token)] == 1))
      throw_input_error(kPlace, "token {} took another route than its score gives", token);
    decisions.push_back(adapt::record(decision));
  }
  return decisions;
}

std::vector<Subject> subjects_of_token(const DecidedTokens& decided, int64_t token,
                                       const model::Transformer<float>& model,
                                       const model::RankScheduler* scheduler, Wanted wanted,
                                       std::span<const audit::DecisionKind> kinds) {
  std::vector<std::vector<int64_t>> quantiles;
  const auto& policy = model.config().rank_policy;
  for (size_t layer = 0; policy && layer < policy->layers.size(); ++layer)
    quantiles.push_back(policy->layers[layer].quantiles);
  wanted.quantiles = &quantiles;
  std::vector<Subject> subjects;
  for (const audit::Decision& decision : decisions_of(decided, token, model, scheduler))
    for (Subject& subject : subjects_of(decision, decided.record, wanted, kinds))
      subjects.push_back(std::move(subject));
  return subjects;
}

void count_level(TokenCounts& counts, int64_t level, int64_t times) {
  constexpr int64_t kMost = adapt::kMostLevels + 1;  // those of a policy
  if (level < 1 || level > kMost || times == 0) return;
  counts.levels.resize(std::max(counts.levels.size(), static_cast<size_t>(level)));
  counts.levels[static_cast<size_t>(level - 1)] += times;
}

TokenCounts counts_of(const DecidedTokens& decided, const model::ModelConfig& config,
                      std::optional<int64_t> layer) {
  TokenCounts counts{.of = layer            ? fmt::format("layer {}", *layer)
                           : decided.record ? fmt::format("sequence {} of the run", decided.sequence)
                                            : "the text",
                     .tokens = decided.tokens,
                     .levels = {},
                     .routed = {},
                     .quota_ppm = {},
                     .mean_entropy = {}};
  int64_t sum = 0, number = 0;
  for (int64_t l = layer.value_or(0); l < (layer ? *layer + 1 : decided.layers); ++l)
    for (int64_t t = 0; t < decided.tokens; ++t) {
      count_level(counts, decided.levels[decided.at(l, t)]);
      if (decided.entropy.empty()) continue;
      sum += adapt::to_units(static_cast<double>(decided.entropy[decided.at(l, t)])), ++number;
    }
  if (number > 0) counts.mean_entropy = sum / number;
  if (config.quantum && (!layer || *layer == config.layers / 2)) {
    counts.routed = std::count(decided.routed.begin(), decided.routed.end(), uint8_t{1});
    counts.quota_ppm = config.quantum->fraction_ppm;
  }
  return counts;
}

}  // namespace qtf::explain
