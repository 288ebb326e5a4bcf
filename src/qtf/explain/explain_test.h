// What the tests of explanations share: subjects of every kind, made by real decisions.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <span>
#include <vector>

#include "qtf/adapt/decision_records.h"
#include "qtf/base/random.h"
#include "qtf/explain/subject.h"
#include "qtf/model/rank_choice_record.h"

namespace qtf::explain {

inline std::span<const audit::DecisionKind> test_kinds() {
  static const std::vector<audit::DecisionKind> all = [] {
    std::vector<audit::DecisionKind> table;
    for (const auto kinds : {adapt::decision_kinds(), model::decision_kinds()})
      table.insert(table.end(), kinds.begin(), kinds.end());
    return table;
  }();
  return all;
}

inline audit::Decision test_route(int64_t position, int64_t routed, int64_t score, int64_t threshold) {
  return adapt::record(adapt::decide_route({position, routed, score, threshold, 200'000}));
}

inline audit::Decision test_execution(int64_t factors_ns, int64_t merged_ns) {
  adapt::ExecutionQuestion question{"model.layers.1.mlp.up_proj", "chain:rank=4", 2, {}, {}};
  for (size_t t = 0; t < adapt::kTimedTokens.size(); ++t) {
    question.factors[t] = {factors_ns * static_cast<int64_t>(t + 1), 3};
    question.merged[t] = {merged_ns * static_cast<int64_t>(t + 1), 3};
  }
  return adapt::record(adapt::choose_execution(question));
}

inline audit::Decision test_allocation(uint64_t seed) {
  const Random random{seed, 77};
  adapt::AllocationQuestion question{200 + static_cast<int64_t>(random.below(0, 300)), 7, {}};
  for (uint64_t p = 0; p < 3; ++p) {
    adapt::SizedPart part{"model.layers." + std::to_string(p) + ".mlp.up_proj", {}};
    for (int64_t c = 0; c < 5; ++c)
      part.choices.push_back(
          {"chain:rank=" + std::to_string(c + 1), 30 * (c + 1),
           (6 - c) * (6 - c) * 1'000'000 +
               static_cast<int64_t>(random.below(9 * p + static_cast<uint64_t>(c) + 1, 900'000))});
    question.parts.push_back(part);
  }
  return adapt::record(adapt::allocate(question));
}

inline audit::Decision test_ranks() {
  model::ModelConfig config = model::preset_config("nano");
  return model::record(model::apply_ratio(config, 2));
}

inline nlohmann::json test_making() {
  return {{"figures",
           {{"parameters", "25123"},
            {"dense_parameters", "51000"},
            {"bytes", "101000"},
            {"texts",
             {{{"model", "before"}, {"text", "test"}, {"perplexity", "23.456"}},
              {{"model", "compressed"}, {"text", "test"}, {"perplexity", "25.002"}}}}}}};
}

/// Subjects of every kind and outcome.
inline std::vector<Subject> test_subjects() {
  std::vector<audit::Decision> decisions;
  for (int64_t score : {399, 400, 401, 500})
    for (int64_t routed : {0, 1, 3})
      decisions.push_back(test_route(9, routed, score * 1'000'000, 400'000'000));
  decisions.push_back(test_route(0, 0, 500, 400));
  for (int64_t ns : {1000, 2000, 3000}) decisions.push_back(test_execution(ns, 2000));
  for (uint64_t seed = 0; seed < 4; ++seed) decisions.push_back(test_allocation(seed));
  std::vector<Subject> all;
  for (const audit::Decision& decision : decisions)
    for (const Wanted& wanted : {Wanted{}, Wanted{"layers"}})
      for (Subject& subject : subjects_of(decision, 12, wanted, test_kinds()))
        all.push_back(std::move(subject));
  for (const Wanted& wanted : {Wanted{}, Wanted{"layers.1"}})
    for (Subject& subject : subjects_of(test_ranks(), 13, wanted, test_kinds()))
      all.push_back(std::move(subject));
  for (Subject& subject : subjects_of_making(test_making(), 14)) all.push_back(std::move(subject));
  return all;
}

}  // namespace qtf::explain
