#include "qtf/model/rank_calibration.h"

#include <algorithm>
#include <sstream>

#include "qtf/adapt/decision_records.h"
#include "qtf/base/error.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/model/rank_gate.h"

namespace qtf::model {

namespace {

/// A sequence's numbers of every layer, its first token left out, in 1e-9: [layers][tokens].
using LayerSamples = std::vector<std::vector<int64_t>>;

/// Attention entropies, and the policy's signals: of a circuit's only those of routed tokens.
struct Samples {
  LayerSamples entropies, signals;
};

Samples sequence_samples(const Transformer<float>& model, std::span<const int32_t> tokens,
                         const RankScheduler& scheduler, Arena& arena) {
  const ArenaScope scope(arena);
  const ModelConfig& config = model.config();
  const auto rows = static_cast<int64_t>(tokens.size());
  const auto matrix = [&](int64_t n, int64_t cols) {
    return Matrix<float>(arena.allocate<float>(n * cols), n, cols);
  };
  const Matrix<float> hidden = matrix(rows, config.width), entropy = matrix(config.layers, rows);
  auto* signals = arena.allocate<int64_t>(config.layers * rows);
  model.hidden_states({tokens, tokens, 1, rows}, {0, &scheduler, nullptr, signals}, hidden, arena, entropy);
  const auto layers = static_cast<size_t>(config.layers);
  Samples samples{LayerSamples(layers), LayerSamples(layers)};
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const auto at = static_cast<size_t>(layer);
    for (int64_t t = 1; t < rows; ++t) {
      samples.entropies[at].push_back(adapt::to_units(static_cast<double>(entropy(layer, t))));
      const int64_t signal = scheduler.governs(layer) ? signals[layer * rows + t] : -1;
      if (signal >= 0) samples.signals[at].push_back(signal);
    }
  }
  return samples;
}

std::vector<int64_t> quantiles_of(const std::vector<Samples>& sequences, LayerSamples Samples::*part,
                                  size_t layer) {
  std::vector<int64_t> all;
  for (const Samples& sequence : sequences)
    all.insert(all.end(), (sequence.*part)[layer].begin(), (sequence.*part)[layer].end());
  if (all.empty()) return {};
  return adapt::repaired(adapt::distribution_of(std::move(all), kSignalQuantiles).quantiles).quantiles;
}

/// Takes the distributions that the policy's signal has while `scheduler` decides.
void take_quantiles(const Transformer<float>& model, std::span<const int32_t> tokens,
                    std::span<const int64_t> ends, const RankScheduler& scheduler, ThreadPool& pool,
                    RankPolicy& policy) {
  std::vector<Samples> sequences(ends.size());
  pool.parallel_for(static_cast<int64_t>(ends.size()), [&](int, Range range) {
    Arena arena;
    for (int64_t i = range.begin; i < range.end; ++i) {
      const auto at = static_cast<size_t>(i);
      const auto begin = static_cast<size_t>(i > 0 ? ends[at - 1] : 0);
      sequences[at] = sequence_samples(model, tokens.subspan(begin, static_cast<size_t>(ends[at]) - begin),
                                       scheduler, arena);
    }
  });
  const bool circuit = policy.signal == adapt::RankSignal::circuit;
  for (size_t layer = 0; layer < policy.layers.size(); ++layer) {
    RankPolicy::Layer& of = policy.layers[layer];
    std::vector<int64_t> signals = quantiles_of(sequences, &Samples::signals, layer);
    const std::vector<int64_t> entropies = quantiles_of(sequences, &Samples::entropies, layer);
    const bool by_attention = circuit || policy.signal == adapt::RankSignal::entropy || signals.empty();
    if (circuit) of.circuit = signals;
    of.quantiles = by_attention ? entropies : signals;
    if (policy.signal != adapt::RankSignal::entropy) of.entropy = entropies;
    if (of.quantiles.empty())
      throw_input_error("rank-policy",
                        "the text has no sequence of two tokens to calibrate on; give more text");
  }
}

/// Thresholds that every standing reaches.
RankPolicy at_the_largest_level(RankPolicy policy) {
  for (RankPolicy::Layer& layer : policy.layers) {
    std::fill(layer.thresholds.begin(), layer.thresholds.end(), -2 * adapt::kUnit);
    layer.quantiles = {0, adapt::kUnit};
  }
  return policy;
}

}  // namespace

RankPolicy calibrate_ranks(const Transformer<float>& model, std::span<const int32_t> tokens,
                           std::span<const int64_t> ends, const RankCalibrationOptions& options,
                           ThreadPool& pool) {
  ModelConfig config = model.config();
  config.rank_policy.reset();
  // Says what is wrong with a model without levels, and with the mean.
  const RankScheduler any(config, {.policy = {adapt::RankSignal::random},
                                   .mean = options.mean,
                                   .alpha = options.alpha.value_or(adapt::usual_alpha(options.signal)),
                                   .hysteresis = {}});
  RankPolicy policy;
  policy.signal = options.signal, policy.mean = options.mean, policy.alpha = any.alpha();
  policy.hysteresis = options.hysteresis;
  policy.layers.resize(static_cast<size_t>(config.layers));
  std::vector<std::vector<int64_t>> gates;
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    if (!any.governs(layer)) continue;
    RankPolicy::Layer& of = policy.layers[static_cast<size_t>(layer)];
    of.thresholds = adapt::solve_thresholds({options.mean, any.places(layer), policy.alpha}).thresholds;
    if (options.signal != adapt::RankSignal::gate) continue;
    if (gates.empty())
      gates = train_gates(model, tokens, ends, level_below(any.places(layer), options.mean), pool);
    of.gate = gates[static_cast<size_t>(layer)];
  }
  const auto take = [&](const RankPolicy& deciding) {
    config.rank_policy = deciding;
    const RankScheduler own(config,
                            {.policy = {policy.signal, 0}, .mean = {}, .alpha = {}, .hysteresis = {}});
    take_quantiles(model, tokens, ends, own, pool, policy);
  };
  take(at_the_largest_level(policy));
  take(policy);
  return policy;
}

int level_below(const std::vector<int64_t>& places, int64_t mean) {
  int level = 1;
  while (level + 1 < static_cast<int>(places.size()) && places[static_cast<size_t>(level)] <= mean) ++level;
  return level;
}

audit::DecisionList decisions(const RankPolicy& policy, const ModelConfig& config) {
  audit::DecisionList list;
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const std::vector<int64_t> places = level_places(config, layer);
    if (places.empty()) continue;
    const adapt::RankThresholds solved = adapt::solve_thresholds({policy.mean, places, policy.alpha});
    nlohmann::ordered_json line = adapt::to_json(solved);
    line["layer"] = std::to_string(layer);
    line["signal"] = std::string(adapt::info(policy.signal).name);
    audit::Decision record = adapt::record(solved);
    record.question["layer"] = line["layer"].get<std::string>();  // which asks for nothing, but is explained
    list.add(std::move(record), line);
  }
  return list;
}

void save_rank_policy(const std::filesystem::path& folder, const RankPolicy& policy,
                      const ModelConfig& config) {
  auto json = nlohmann::ordered_json::parse(read_file(folder / "config.json"));
  json["qtf"]["rank_policy"] = to_json(policy);
  std::string lines;
  const std::filesystem::path records = folder / "decisions.jsonl";
  if (std::filesystem::exists(records)) {
    std::istringstream before(read_file(records));
    for (std::string line; std::getline(before, line);)
      if (!line.starts_with(R"({"decision":"rank_thresholds")")) lines += line + "\n";
  }
  write_file_atomically(records, lines + decisions(policy, config).lines);
  write_file_atomically(folder / "config.json", json.dump(2) + "\n");
}

}  // namespace qtf::model
