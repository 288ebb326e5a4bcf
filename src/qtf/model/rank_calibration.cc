#include "qtf/model/rank_calibration.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "qtf/adapt/decision_records.h"
#include "qtf/base/error.h"
#include "qtf/base/file.h"

namespace qtf::model {

namespace {

/// A sequence's entropies of every layer, its first token left out, in 1e-9: [layers][tokens].
using LayerSamples = std::vector<std::vector<int64_t>>;

LayerSamples sequence_entropies(const Transformer<float>& model, std::span<const int32_t> tokens,
                                const Levels& levels, Arena& arena) {
  const ArenaScope scope(arena);
  const ModelConfig& config = model.config();
  const auto rows = static_cast<int64_t>(tokens.size());
  const auto matrix = [&](int64_t n, int64_t cols) {
    return Matrix<float>(arena.allocate<float>(n * cols), n, cols);
  };
  const Matrix<float> hidden = matrix(rows, config.width), entropy = matrix(config.layers, rows);
  model.hidden_states({tokens, tokens, 1, rows}, levels, hidden, arena, entropy);
  LayerSamples samples(static_cast<size_t>(config.layers));
  for (int64_t layer = 0; layer < config.layers; ++layer)
    for (int64_t t = 1; t < rows; ++t)
      samples[static_cast<size_t>(layer)].push_back(adapt::to_units(static_cast<double>(entropy(layer, t))));
  return samples;
}

std::vector<std::vector<int64_t>> measure_quantiles(const Transformer<float>& model,
                                                    std::span<const int32_t> tokens,
                                                    std::span<const int64_t> ends, const Levels& levels,
                                                    ThreadPool& pool) {
  std::vector<LayerSamples> sequences(ends.size());
  pool.parallel_for(static_cast<int64_t>(ends.size()), [&](int, Range range) {
    Arena arena;
    for (int64_t i = range.begin; i < range.end; ++i) {
      const auto at = static_cast<size_t>(i);
      const auto begin = static_cast<size_t>(i > 0 ? ends[at - 1] : 0);
      sequences[at] = sequence_entropies(model, tokens.subspan(begin, static_cast<size_t>(ends[at]) - begin),
                                         levels, arena);
    }
  });
  std::vector<std::vector<int64_t>> quantiles;
  for (size_t layer = 0; layer < static_cast<size_t>(model.config().layers); ++layer) {
    std::vector<int64_t> all;
    for (const LayerSamples& sequence : sequences)
      all.insert(all.end(), sequence[layer].begin(), sequence[layer].end());
    quantiles.push_back(adapt::distribution_of(std::move(all), kSignalQuantiles).quantiles);
  }
  return quantiles;
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
                                   .alpha = options.alpha,
                                   .hysteresis = {}});
  RankPolicy policy;
  policy.mean = options.mean, policy.alpha = options.alpha, policy.hysteresis = options.hysteresis;
  policy.layers.resize(static_cast<size_t>(config.layers));
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    if (any.governs(layer))
      policy.layers[static_cast<size_t>(layer)].thresholds =
          adapt::solve_thresholds({options.mean, any.places(layer), options.alpha}).thresholds;
  }
  const auto take = [&](const Levels& levels) {
    const auto quantiles = measure_quantiles(model, tokens, ends, levels, pool);
    for (size_t layer = 0; layer < policy.layers.size(); ++layer)
      policy.layers[layer].quantiles = adapt::repaired(quantiles[layer]).quantiles;
    config.rank_policy = policy;
  };
  take(0);
  const RankScheduler own(config, {.policy = {policy.signal}, .mean = {}, .alpha = {}, .hysteresis = {}});
  take({0, &own});
  return policy;
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
