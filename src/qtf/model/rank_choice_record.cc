#include "qtf/model/rank_choice_record.h"

#include <algorithm>

#include "qtf/audit/fields.h"
#include "qtf/base/error.h"

namespace qtf::model {

namespace {

using audit::integer_field;
using audit::text_field;
using Json = nlohmann::json;

Json question_json(const RankQuestion& question) {
  Json maps = Json::array();
  for (const RankQuestion::Map& map : question.maps)
    maps.push_back({{"map", map.name},
                    {"out", std::to_string(map.out)},
                    {"in", std::to_string(map.in)},
                    {"richness_ppm", std::to_string(map.richness_ppm)}});
  return {{"shape", tt::shape_kinds()[static_cast<size_t>(question.kind)].name},
          {"max_parameters", std::to_string(question.max_parameters)},
          {"levels", std::to_string(question.levels)},
          {"fixed_gauge", audit::flag_text(question.fixed_gauge)},
          {"other_parameters", std::to_string(question.other_parameters)},
          {"maps", maps}};
}

tt::ShapeKind shape_kind(const std::string& name) {
  const auto& kinds = tt::shape_kinds();
  const auto found =
      std::find_if(kinds.begin(), kinds.end(), [&](const auto& kind) { return kind.name == name; });
  if (found == kinds.end()) throw_input_error("audit record", "'{}' is no kind of weight shape", name);
  return static_cast<tt::ShapeKind>(found - kinds.begin());
}

RankQuestion question_of(const Json& value) {
  RankQuestion question;
  question.kind = shape_kind(text_field(value, "shape"));
  question.max_parameters = integer_field(value, "max_parameters");
  question.levels = static_cast<int>(integer_field(value, "levels"));
  question.fixed_gauge = audit::flag_field(value, "fixed_gauge");
  question.other_parameters = integer_field(value, "other_parameters");
  constexpr int64_t kLargest = int64_t{1} << 31;  // far beyond any model, and products stay in 64 bits
  for (const Json& map : audit::array_field(value, "maps")) {
    question.maps.push_back({text_field(map, "map"), integer_field(map, "out"), integer_field(map, "in"),
                             integer_field(map, "richness_ppm")});
    const RankQuestion::Map& read = question.maps.back();
    if (read.out < 1 || read.in < 1 || read.out >= kLargest || read.in >= kLargest || read.richness_ppm < 1)
      throw_input_error("audit record", "the map {} has sizes {} x {} and richness {}", read.name, read.out,
                        read.in, read.richness_ppm);
  }
  if (question.levels < 1 || question.levels > 64)
    throw_input_error("audit record", "{} levels cannot be", question.levels);
  return question;
}

Json answer_json(const RankChoice& choice) {
  Json rows = Json::array();
  for (const RankChoice::Row& row : choice.rows)
    rows.push_back({{"chosen", row.shape},
                    {"parameters", std::to_string(row.parameters)},
                    {"rejected", row.rejected},
                    {"rejected_parameters", std::to_string(row.rejected_parameters)}});
  return {{"share_ppb", std::to_string(choice.share_ppb)},
          {"next_share_ppb", std::to_string(choice.next_share_ppb)},
          {"parameters", std::to_string(choice.parameters)},
          {"maps", rows}};
}

Json decide_ranks(const Json& question) {
  return answer_json(choose_ranks(question_of(question)));
}

}  // namespace

audit::Decision record(const RankChoice& choice) {
  return {"ranks", question_json(choice.question), answer_json(choice)};
}

std::span<const audit::DecisionKind> decision_kinds() {
  static constexpr audit::DecisionKind kKinds[] = {
      {"ranks", "the rank of every map by one common share of parameters", decide_ranks}};
  return kKinds;
}

}  // namespace qtf::model
