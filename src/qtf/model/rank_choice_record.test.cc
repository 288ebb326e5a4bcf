#include "qtf/model/rank_choice_record.h"

#include <gtest/gtest.h>

#include "qtf/audit/canonical.h"
#include "qtf/base/error.h"

namespace qtf::model {
namespace {

using Json = nlohmann::json;

Json decide_again(const audit::Decision& decision) {
  return decision_kinds()[0].decide(Json::parse(audit::canonical(decision.question)));
}

TEST(RankChoiceRecord, ReplaysToTheSameBits) {
  for (tt::ShapeKind kind : {tt::ShapeKind::chain, tt::ShapeKind::btt, tt::ShapeKind::mpo}) {
    ModelConfig config = preset_config("nano");
    const RankChoice choice = apply_ratio(config, 2, kind, {}, kind == tt::ShapeKind::chain ? 3 : 1);
    const audit::Decision decision = record(choice);
    EXPECT_EQ(decision.kind, decision_kinds()[0].name);
    EXPECT_EQ(decide_again(decision), decision.answer);
    audit::Decision other = decision;
    other.question["max_parameters"] = std::to_string(choice.question.max_parameters + 2000);
    EXPECT_NE(decide_again(other), decision.answer);
  }
}

TEST(RankChoiceRecord, QuestionsThatAreNoneAreRefused) {
  ModelConfig config = preset_config("nano");
  const audit::Decision good = record(apply_ratio(config, 2));
  for (const auto& [key, value] : good.question.items()) {
    audit::Decision bad = good;
    bad.question.erase(key);
    EXPECT_THROW(decide_again(bad), InputError) << key;
  }
  const std::pair<const char*, const char*> changes[] = {{"/shape", "square"},
                                                         {"/levels", "0"},
                                                         {"/levels", "1000"},
                                                         {"/fixed_gauge", "perhaps"},
                                                         {"/maps/0/out", "0"},
                                                         {"/maps/0/in", "-4"},
                                                         {"/maps/0/out", "99999999999"},
                                                         {"/maps/0/richness_ppm", "0"},
                                                         {"/max_parameters", "1"}};
  for (const auto& [path, value] : changes) {
    audit::Decision bad = good;
    bad.question[Json::json_pointer(path)] = value;
    EXPECT_THROW(decide_again(bad), InputError) << path << " " << value;
  }
}

}  // namespace
}  // namespace qtf::model
