// What the tests of explanations share: subjects of every kind, made by real decisions.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <span>
#include <vector>

#include "qtf/adapt/budget_judgement.h"
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

/// Layers 2's policy of four levels on tokens of any standing; entropies stand at half of themselves.
inline const std::vector<std::vector<int64_t>>& test_quantiles() {
  static const std::vector<std::vector<int64_t>> quantiles = [] {
    std::vector<int64_t> layer;
    for (int64_t k = 0; k <= 64; ++k) layer.push_back(adapt::kUnit / 2 + k * (adapt::kUnit / 2 / 64));
    return std::vector<std::vector<int64_t>>{{}, {}, layer};
  }();
  return quantiles;
}

inline audit::Decision test_rank(adapt::RankSignal signal, int64_t position, int64_t standing,
                                 int64_t hysteresis = 0) {
  adapt::RankQuestion question;
  question.signal = signal, question.position = position, question.layer = 2;
  question.standing = standing;
  question.entropy = adapt::kUnit / 2 + standing / 2;
  question.levels = 4, question.fixed_level = signal == adapt::RankSignal::fixed ? 2 : 0;
  question.thresholds = {adapt::kUnit / 4, adapt::kUnit / 2, 3 * adapt::kUnit / 4};
  question.hysteresis = hysteresis, question.previous = hysteresis ? 2 : 0;
  question.seed = 1;
  return adapt::record(adapt::decide_level(question));
}

inline audit::Decision test_thresholds() {
  audit::Decision decision = adapt::record(
      adapt::solve_thresholds({adapt::kUnit / 2, {0, adapt::kUnit / 3, adapt::kUnit}, adapt::kUsualAlpha}));
  decision.question["layer"] = "2";
  return decision;
}

/// Budgets of parameters and of the table's time; share: of what all maps take at their largest.
inline audit::Decision test_budget(double share, bool timed) {
  adapt::BudgetQuestion question{"loss_nano_nats", {{"parameters", 0, 500}}, {}};
  if (timed) question.limits.push_back({"table_latency_ns", 0, 0});
  int64_t most[2] = {500, 0};
  for (int p = 0; p < 4; ++p) {
    adapt::BudgetPart part{"model.layers." + std::to_string(p % 3) + ".mlp.up_proj", {}};
    for (int64_t c = 1; c <= 6; ++c) {
      adapt::BudgetChoice choice{"rank " + std::to_string(8 * c), 9'000'000 / c + 1000 * p, {1000 * c}};
      if (timed) choice.costs.push_back(40'000 * c + 500 * p);
      part.choices.push_back(choice);
    }
    for (size_t k = 0; k < question.limits.size(); ++k) most[k] += part.choices.back().costs[k];
    question.parts.push_back(part);
  }
  for (size_t k = 0; k < question.limits.size(); ++k)
    question.limits[k].limit = static_cast<int64_t>(share * static_cast<double>(most[k]));
  return adapt::record(adapt::solve_budgets(question));
}

inline audit::Decision test_judgement(int64_t p95_ns, int64_t energy_nj, int64_t tolerance_ppm = 1'000'000) {
  adapt::JudgementQuestion question{50'000'000, 300'000'000, tolerance_ppm, {}};
  question.measured = {40,     0,         0,         1000,      p95_ns * 9 / 10,
                       p95_ns, energy_nj, energy_nj, energy_nj, adapt::EnergyTier::modelled};
  return adapt::record(adapt::judge(question));
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
  for (int64_t eighth : {1, 3, 5, 7}) {
    decisions.push_back(test_rank(adapt::RankSignal::entropy, 47, eighth * adapt::kUnit / 8));
    decisions.push_back(test_rank(adapt::RankSignal::random, 47, eighth * adapt::kUnit / 8));
  }
  decisions.push_back(test_rank(adapt::RankSignal::entropy, 47, adapt::kUnit / 2, adapt::kUnit / 20));
  decisions.push_back(test_rank(adapt::RankSignal::entropy, 0, adapt::kUnit / 8));
  decisions.push_back(test_rank(adapt::RankSignal::fixed, 5, 0));
  for (double share : {0.1, 0.5, 0.7, 2.0})
    for (bool timed : {false, true}) decisions.push_back(test_budget(share, timed));
  for (int64_t p95 : {40'000'000, 60'000'000})
    for (int64_t energy : {200'000'000, 400'000'000}) decisions.push_back(test_judgement(p95, energy));
  decisions.push_back(test_judgement(51'000'000, 200'000'000, 1'030'000));
  std::vector<Subject> all;
  for (const audit::Decision& decision : decisions)
    for (const Wanted& wanted : {Wanted{{}, {}, &test_quantiles()}, Wanted{"layers"}})
      for (Subject& subject : subjects_of(decision, 12, wanted, test_kinds()))
        all.push_back(std::move(subject));
  for (const Wanted& wanted : {Wanted{}, Wanted{"layers.1"}})
    for (Subject& subject : subjects_of(test_ranks(), 13, wanted, test_kinds()))
      all.push_back(std::move(subject));
  for (Subject& subject : subjects_of(test_thresholds(), 15, {.map = {}, .layer = 2}, test_kinds()))
    all.push_back(std::move(subject));
  for (Subject& subject : subjects_of_making(test_making(), 14)) all.push_back(std::move(subject));
  all.push_back(subject_of_tokens({"the run", 5000, {1200, 1300, 2500}, 700, 250'000, 612'000'000}, 16));
  all.push_back(subject_of_tokens({"layer 2", 80, {20, 60}, {}, {}, 412'000'000}, 0));
  return all;
}

}  // namespace qtf::explain
