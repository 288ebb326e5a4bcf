// The decisions of keeping a budget as measured, as pure functions of integers with their records: how much
// the predicted losses are scaled, and whether a measured query keeps its budgets. budget/ and `qtf budget`
// ask.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "qtf/adapt/energy.h"
#include "qtf/audit/decision.h"

namespace qtf::adapt {

/// What models lost on a text beside what was predicted of them, in 1e-9 nats/token.
struct LossScaleQuestion {
  std::vector<int64_t> predicted, lost;  ///< of as many models
};

/// The factor in 1e-6 that brings the predictions nearest to what was lost (least squares), between a
/// hundredth and a hundred; 1 without models, or where smaller ones lost nothing.
struct LossScale {
  LossScaleQuestion question;
  int64_t millionths = 1'000'000;
};
LossScale scale_losses(LossScaleQuestion question);

/// A query's times and energy, as they were measured.
struct MeasuredQuery {
  int64_t runs = 0, repeated = 0, unsteady = 0;
  int64_t reference_ns = 0;
  int64_t p50_ns = 0, p95_ns = 0;
  int64_t energy_nj = 0, least_nj = 0, most_nj = 0;
  EnergyTier tier = EnergyTier::modelled;
};

/// A measured query beside the budgets of time and energy; what is not limited is nothing.
struct JudgementQuestion {
  std::optional<int64_t> latency_ns, energy_nj;  ///< the budgets
  int64_t tolerance_ppm = 1'000'000;             ///< share of them that may be used
  MeasuredQuery measured;
};

struct Judgement {
  JudgementQuestion question;
  bool holds = false;    ///< both budgets are kept, the time by its 95th percentile
  std::string tightest;  ///< "latency_ns" or "energy_nj", of which the larger share is used; empty: no budget
};
Judgement judge(const JudgementQuestion& question);

/// Joules in whole nanojoules, up.
int64_t nanojoules(double joules);

audit::Decision record(const LossScale& scale);
audit::Decision record(const Judgement& judgement);
/// One line for decisions.jsonl.
nlohmann::ordered_json to_json(const Judgement& judgement);

/// Of decision_kinds(): the decisions taken again from their records' questions.
nlohmann::json decide_loss_scale(const nlohmann::json& question);
nlohmann::json decide_judgement(const nlohmann::json& question);

}  // namespace qtf::adapt
