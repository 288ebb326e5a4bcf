#include "qtf/model/rank_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/model/config.h"

namespace qtf::model {

using nlohmann::ordered_json;

namespace {

struct WeightedRank {
  int64_t sum = 0;     ///< of rank·(in + out)
  int64_t weight = 0;  ///< of in + out
};

/// Of the governed maps that have levels.
WeightedRank weighted_rank(const ModelConfig& config, int64_t layer, int level) {
  WeightedRank total;
  for (const MapSpec& map : linear_maps(config)) {
    const bool governed =
        map.part == MapPart::feed_forward || (map.part == MapPart::attention && map.residual_output);
    if (map.layer != layer || !governed) continue;
    const tt::WeightShape shape = shape_of(config, map);
    if (shape.levels.empty()) continue;
    total.sum += tt::level_rank(shape, std::min(level, tt::level_count(shape))) * (map.in + map.out);
    total.weight += map.in + map.out;
  }
  return total;
}

std::string numbers_text(const std::vector<int64_t>& numbers) {
  return fmt::format("{}", fmt::join(numbers, " "));
}

const ordered_json& member(const ordered_json& json, const char* key, const std::string& place) {
  if (!json.is_object() || !json.contains(key))
    throw_io_error(place, "\"rank_policy\": \"{}\" is missing", key);
  return json.at(key);
}

int64_t whole_number(const ordered_json& json, const char* key, const std::string& place) {
  const ordered_json& value = member(json, key, place);
  if (!value.is_number_integer())
    throw_io_error(place, "\"rank_policy\": \"{}\" must be a whole number", key);
  return value.get<int64_t>();
}

std::string words(const ordered_json& json, const char* key, const std::string& place) {
  const ordered_json& value = member(json, key, place);
  if (!value.is_string()) throw_io_error(place, "\"rank_policy\": \"{}\" must be a text", key);
  return value.get<std::string>();
}

std::vector<int64_t> numbers_of(const ordered_json& json, const char* key, const std::string& place) {
  const std::string text = words(json, key, place);
  std::vector<int64_t> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    const auto [next, error] = std::from_chars(at, end, numbers.emplace_back());
    if (error != std::errc() || (next != end && *next != ' '))
      throw_io_error(place, "\"rank_policy\": \"{}\" must be whole numbers with blanks between, got \"{}\"",
                     key, text.substr(0, 100));
    at = next == end ? end : next + 1;
  }
  return numbers;
}

bool are_quantiles(const std::vector<int64_t>& numbers) {
  return numbers.size() >= 2 && adapt::repaired(numbers).quantiles == numbers;
}

}  // namespace

const std::vector<int64_t>* quantiles_for(const RankPolicy& policy, size_t layer, adapt::RankSignal signal) {
  const RankPolicy::Layer& of = policy.layers[layer];
  if (policy.signal == signal) return &of.quantiles;
  return signal == adapt::RankSignal::entropy && !of.entropy.empty() ? &of.entropy : nullptr;
}

double block_rank(const ModelConfig& config, int64_t layer, int level) {
  const WeightedRank total = weighted_rank(config, layer, level);
  return total.weight > 0 ? static_cast<double>(total.sum) / static_cast<double>(total.weight) : 0;
}

std::vector<int64_t> level_places(const ModelConfig& config, int64_t layer) {
  const int levels = level_count(config);
  const int64_t least = weighted_rank(config, layer, 1).sum;
  const int64_t range = weighted_rank(config, layer, 0).sum - least;
  if (range == 0) return {};
  __extension__ using Wide = __int128;
  std::vector<int64_t> places;
  for (int level = 1; level <= levels; ++level) {
    const int64_t above = weighted_rank(config, layer, level).sum - least;
    places.push_back(static_cast<int64_t>(static_cast<Wide>(above) * adapt::kUnit / range));
  }
  return places;
}

bool has_rank_choice(const ModelConfig& config) {
  for (int64_t layer = 0; layer < config.layers; ++layer)
    if (!level_places(config, layer).empty()) return true;
  return false;
}

void validate(const RankPolicy& policy, const ModelConfig& config, const std::string& place) {
  const auto bad = [&](const auto& what) { throw_input_error(place, "\"rank_policy\": {}", what); };
  if (!adapt::info(policy.signal).calibrated) bad("its signal is none that is calibrated");
  if (policy.mean <= 0 || policy.mean >= adapt::kUnit) bad("\"mean_rank\" must be between 0 and 1000000000");
  if (policy.alpha < 0 || policy.alpha > kMostAlpha)
    bad(fmt::format("\"alpha\" must be 0 to {}", kMostAlpha));
  if (policy.hysteresis < 0 || policy.hysteresis > adapt::kUnit)
    bad("\"hysteresis\" must be 0 to 1000000000");
  if (static_cast<int64_t>(policy.layers.size()) != config.layers)
    bad(fmt::format("it has {} layers, the model {}", policy.layers.size(), config.layers));
  for (size_t layer = 0; layer < policy.layers.size(); ++layer) {
    const RankPolicy::Layer& of = policy.layers[layer];
    const size_t levels = level_places(config, static_cast<int64_t>(layer)).size();
    if (of.thresholds.size() + 1 != std::max<size_t>(levels, 1) || levels > adapt::kMostLevels ||
        !std::is_sorted(of.thresholds.begin(), of.thresholds.end())) {
      bad(fmt::format("layer {} needs {} thresholds in order, at most {}", layer,
                      std::max<size_t>(levels, 1) - 1, adapt::kMostLevels - 1));
    }
    const bool gated = policy.signal == adapt::RankSignal::gate && levels > 0;
    if (of.gate.size() != (gated ? static_cast<size_t>(config.width) + 2 : 0))
      bad(fmt::format("layer {} needs a gate of {} numbers, it has {}", layer, gated ? config.width + 2 : 0,
                      of.gate.size()));
    for (const auto& [more, name] : {std::pair(&of.circuit, "circuit"), std::pair(&of.entropy, "entropy")})
      if (!more->empty() && !are_quantiles(*more))
        bad(fmt::format("layer {} needs two quantiles of the {} or more, in order", layer, name));
    if (of.entropy.empty() != policy.layers.front().entropy.empty())
      bad("\"entropy\" must be in every layer or in none");
    if (!are_quantiles(of.quantiles))
      bad(fmt::format("layer {} needs two quantiles or more, in order, of 0 to 1000000000", layer));
  }
}

ordered_json to_json(const RankPolicy& policy) {
  ordered_json layers = ordered_json::array();
  for (const RankPolicy::Layer& layer : policy.layers) {
    ordered_json& json = layers.emplace_back(ordered_json::object());
    json["thresholds"] = numbers_text(layer.thresholds);
    json["quantiles"] = numbers_text(layer.quantiles);
    if (!layer.gate.empty()) json["gate"] = numbers_text(layer.gate);
    if (!layer.circuit.empty()) json["circuit"] = numbers_text(layer.circuit);
    if (!layer.entropy.empty()) json["entropy"] = numbers_text(layer.entropy);
  }
  return {{"signal", std::string(adapt::info(policy.signal).name)},
          {"mean_rank", policy.mean},
          {"alpha", policy.alpha},
          {"hysteresis", policy.hysteresis},
          {"layers", layers}};
}

RankPolicy rank_policy_from_json(const ordered_json& json, const std::string& place) {
  RankPolicy policy;
  const std::string signal = words(json, "signal", place);
  const auto& table = adapt::rank_policies();
  const auto row = std::find_if(table.begin(), table.end(), [&](const adapt::RankPolicyInfo& known) {
    return known.calibrated && known.name == signal;
  });
  if (row == table.end())
    throw_io_error(place, "\"rank_policy\": the signal \"{}\" is not known to this qtf; use a newer qtf",
                   signal);
  policy.signal = row->signal;
  policy.mean = whole_number(json, "mean_rank", place);
  policy.alpha = whole_number(json, "alpha", place);
  policy.hysteresis = whole_number(json, "hysteresis", place);
  const ordered_json& layers = member(json, "layers", place);
  if (!layers.is_array()) throw_io_error(place, "\"rank_policy\": \"layers\" must be a list");
  for (const ordered_json& layer : layers) {
    const auto optional = [&](const char* key) {
      return layer.is_object() && layer.contains(key) ? numbers_of(layer, key, place)
                                                      : std::vector<int64_t>{};
    };
    policy.layers.push_back({numbers_of(layer, "thresholds", place), numbers_of(layer, "quantiles", place),
                             optional("gate"), optional("circuit"), optional("entropy")});
  }
  return policy;
}

}  // namespace qtf::model
