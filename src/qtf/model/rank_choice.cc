#include "qtf/model/rank_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sstream>

#include "qtf/base/error.h"
#include "qtf/base/json.h"
#include "qtf/tt/gauge.h"

namespace qtf::model {

namespace {

constexpr int64_t kWhole = 1'000'000'000;  // a share of one
constexpr int64_t kPlain = 1'000'000;      // a richness of one

/// Numbers of a shape in the model's file.
int64_t stored(const RankQuestion& question, const tt::WeightShape& shape) {
  return tt::parameters(shape) - (question.fixed_gauge ? tt::gauge_size(shape) : 0);
}

/// A chain whose gauge will be fixed, of the largest rank that stores at most so many numbers; at least a
/// rank a level.
tt::WeightShape fixed_chain(const RankQuestion& question, const RankQuestion::Map& map, int64_t allowed) {
  const auto of_rank = [&](int64_t rank) {
    tt::WeightShape shape = tt::parse_shape(fmt::format("chain:rank={}", rank), map.out, map.in);
    return model::with_levels(std::move(shape), question.levels);
  };
  int64_t least = std::min<int64_t>({question.levels, map.out, map.in}), most = std::min(map.out, map.in);
  while (least < most) {
    const int64_t middle = (least + most + 1) / 2;
    if (stored(question, of_rank(middle)) <= allowed)
      least = middle;
    else
      most = middle - 1;
  }
  return of_rank(least);
}

/// The largest rank whose parameters are at most the map's share of the dense ones; dense where that is no
/// fewer.
tt::WeightShape shape_with_share(const RankQuestion& question, const RankQuestion::Map& map,
                                 int64_t share_ppb) {
  __extension__ using Wide = __int128;
  const int64_t dense = map.out * map.in;
  const Wide own_ppb = std::min<Wide>(kWhole, static_cast<Wide>(share_ppb) * map.richness_ppm / kPlain);
  const auto allowed = static_cast<int64_t>(dense * own_ppb / kWhole);
  if (allowed < dense) {
    const tt::WeightShape shape = question.fixed_gauge && question.kind == tt::ShapeKind::chain
                                      ? fixed_chain(question, map, allowed)
                                      : tt::shape_with_parameters(question.kind, map.out, map.in, allowed);
    if (stored(question, shape) < dense) return shape;
  }
  tt::WeightShape whole;
  whole.out = map.out, whole.in = map.in;
  return whole;
}

int64_t parameters_at(const RankQuestion& question, int64_t share_ppb) {
  int64_t count = question.other_parameters;
  for (const auto& map : question.maps) count += stored(question, shape_with_share(question, map, share_ppb));
  return count;
}

/// The common share at which every map is whole.
int64_t largest_share(const RankQuestion& question) {
  int64_t poorest = kPlain;
  for (const auto& map : question.maps) poorest = std::min(poorest, map.richness_ppm);
  return (kWhole * kPlain + poorest - 1) / poorest;
}

}  // namespace

RankChoice choose_ranks(const RankQuestion& question) {
  if (parameters_at(question, 0) > question.max_parameters) {
    throw_input_error("ranks", "{} parameters cannot be reached with {} shapes: the smallest count is {}",
                      question.max_parameters, tt::shape_kinds()[static_cast<size_t>(question.kind)].name,
                      parameters_at(question, 0));
  }
  RankChoice choice;
  choice.question = question;
  choice.next_share_ppb = largest_share(question) + 1;
  while (choice.next_share_ppb - choice.share_ppb > 1) {
    const int64_t middle = (choice.share_ppb + choice.next_share_ppb) / 2;
    const bool fits = parameters_at(question, middle) <= question.max_parameters;
    (fits ? choice.share_ppb : choice.next_share_ppb) = middle;
  }
  choice.parameters = parameters_at(question, choice.share_ppb);
  // Maps of equal sizes step together, which alone would leave much of the budget unused.
  for (const auto& map : question.maps) {
    const tt::WeightShape shape = shape_with_share(question, map, choice.share_ppb);
    const tt::WeightShape larger = shape_with_share(question, map, choice.next_share_ppb);
    const int64_t change = stored(question, larger) - stored(question, shape);
    const bool take = choice.parameters + change <= question.max_parameters;
    if (take) choice.parameters += change;
    const tt::WeightShape &chosen = take ? larger : shape, &rejected = take ? shape : larger;
    choice.rows.push_back({tt::to_string(chosen), stored(question, chosen), tt::to_string(rejected),
                           stored(question, rejected)});
  }
  return choice;
}

Richness parse_richness(const ModelConfig& config, const std::vector<std::string>& requests) {
  Richness richness;
  for (const std::string& request : requests) {
    std::istringstream items(request);
    for (std::string item; std::getline(items, item, ',');) {
      const size_t equals = item.find('=');
      const std::string number = equals == std::string::npos ? "" : item.substr(equals + 1);
      char* end = nullptr;
      const double value = std::strtod(number.c_str(), &end);
      if (number.empty() || *end != 0 || !(value >= 0.01 && value <= 100)) {
        throw_input_error("richness",
                          "expected PART=X with X from 0.01 to 100, such as embedding=1.5, got '{}'", item);
      }
      for (const MapSpec& map : maps_called(config, item.substr(0, equals), "richness"))
        richness[map.name] = std::llround(value * kPlain);
    }
  }
  return richness;
}

RankChoice apply_ratio(ModelConfig& config, double ratio, tt::ShapeKind kind, const Richness& richness,
                       int levels) {
  if (!(ratio >= 1) || !std::isfinite(ratio)) {
    throw_input_error(
        "ratio", "expected a number of at least 1 (dense parameters / stored parameters), got {}", ratio);
  }
  const int64_t dense = dense_parameter_count(config);
  RankQuestion question;
  question.kind = kind;
  question.levels = levels;
  question.fixed_gauge = true;
  question.max_parameters = static_cast<int64_t>(static_cast<double>(dense) / ratio);
  question.other_parameters = dense;
  for (const MapSpec& map : linear_maps(config)) {
    const auto found = richness.find(map.name);
    question.maps.push_back({map.name, map.out, map.in, found == richness.end() ? kPlain : found->second});
    question.other_parameters -= map.out * map.in;
  }
  const int64_t smallest = parameters_at(question, 0);
  if (smallest > question.max_parameters) {
    const double most = static_cast<double>(dense) / static_cast<double>(smallest);
    throw_input_error("ratio", "{} cannot be reached with {} shapes: the largest for this model is {:.2f}",
                      ratio, tt::shape_kinds()[static_cast<size_t>(kind)].name, std::floor(most * 100) / 100);
  }
  RankChoice choice = choose_ranks(question);
  clear_shapes(config);
  for (size_t i = 0; i < choice.rows.size(); ++i) {
    const auto& map = question.maps[i];
    const tt::WeightShape shape = tt::parse_shape(choice.rows[i].shape, map.out, map.in);
    if (shape.kind != tt::ShapeKind::dense) config.shapes[map.name] = shape;
  }
  return choice;
}

nlohmann::ordered_json to_json(const RankChoice& choice) {
  const auto text = [](int64_t value) { return std::to_string(value); };
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (size_t i = 0; i < choice.rows.size(); ++i) {
    const RankQuestion::Map& map = choice.question.maps[i];
    const RankChoice::Row& row = choice.rows[i];
    rows.push_back({{"map", map.name},
                    {"out", text(map.out)},
                    {"in", text(map.in)},
                    {"richness_ppm", text(map.richness_ppm)},
                    {"chosen", row.shape},
                    {"parameters", text(row.parameters)},
                    {"rejected", row.rejected},
                    {"rejected_parameters", text(row.rejected_parameters)}});
  }
  return {{"decision", "ranks"},
          {"kind", tt::shape_kinds()[static_cast<size_t>(choice.question.kind)].name},
          {"levels", text(choice.question.levels)},
          {"gauge", choice.question.fixed_gauge ? "fixed" : "free"},
          {"max_parameters", text(choice.question.max_parameters)},
          {"other_parameters", text(choice.question.other_parameters)},
          {"share_ppb", text(choice.share_ppb)},
          {"next_share_ppb", text(choice.next_share_ppb)},
          {"total_parameters", text(choice.parameters)},
          {"maps", rows}};
}

}  // namespace qtf::model
