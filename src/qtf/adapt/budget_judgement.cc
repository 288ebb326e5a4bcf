#include "qtf/adapt/budget_judgement.h"

#include <algorithm>
#include <cmath>

#include "qtf/audit/fields.h"
#include "qtf/base/error.h"

namespace qtf::adapt {

namespace {

using audit::integer_field;
__extension__ using JudgementWide = __int128;

constexpr int64_t kMillion = 1'000'000;
// So many and so large that sums of products, a million times, stay in 128 bits.
constexpr int64_t kMostLoss = int64_t{1} << 48;
constexpr size_t kMostModels = 64;

nlohmann::json texts_of(const std::vector<int64_t>& numbers) {
  nlohmann::json list = nlohmann::json::array();
  for (const int64_t number : numbers) list.push_back(std::to_string(number));
  return list;
}

std::vector<int64_t> losses_field(const nlohmann::json& value, const char* key) {
  const nlohmann::json& list = audit::array_field(value, key);
  if (list.size() > kMostModels) throw_input_error("audit record", "{} models are too many", list.size());
  std::vector<int64_t> losses;
  for (const nlohmann::json& text : list) {
    losses.push_back(audit::parse_integer(text));
    if (losses.back() > kMostLoss || losses.back() < -kMostLoss)
      throw_input_error("audit record", "{} is too large for a loss", losses.back());
  }
  return losses;
}

/// used·10⁶ ≤ budget·tolerance.
bool is_kept(int64_t used, const std::optional<int64_t>& budget, int64_t tolerance_ppm) {
  return !budget || JudgementWide{used} * kMillion <= JudgementWide{*budget} * tolerance_ppm;
}

std::optional<int64_t> budget_field(const nlohmann::json& value, const char* key) {
  if (!value.is_object() || !value.contains(key)) return {};
  const int64_t number = integer_field(value, key);
  if (number < 0) throw_input_error("audit record", "the budget '{}' is {}", key, number);
  return number;
}

nlohmann::json recorded_answer(const Judgement& judgement) {
  return {{"holds", audit::flag_text(judgement.holds)}, {"tightest", judgement.tightest}};
}

}  // namespace

int64_t nanojoules(double joules) {
  return static_cast<int64_t>(std::ceil(1e9 * joules));
}

LossScale scale_losses(LossScaleQuestion question) {
  JudgementWide product = 0, square = 0;
  for (size_t i = 0; i < question.predicted.size(); ++i) {
    product += JudgementWide{question.predicted[i]} * question.lost[i];
    square += JudgementWide{question.predicted[i]} * question.predicted[i];
  }
  LossScale scale{std::move(question)};
  if (product > 0 && square > 0)
    scale.millionths = static_cast<int64_t>(
        std::clamp<JudgementWide>(product * kMillion / square, kMillion / 100, kMillion * 100));
  return scale;
}

Judgement judge(const JudgementQuestion& q) {
  const MeasuredQuery& m = q.measured;
  Judgement judgement{q, false, {}};
  judgement.holds =
      is_kept(m.p95_ns, q.latency_ns, q.tolerance_ppm) && is_kept(m.energy_nj, q.energy_nj, q.tolerance_ppm);
  const bool energy_first = q.energy_nj && (!q.latency_ns || JudgementWide{m.energy_nj} * *q.latency_ns >
                                                                 JudgementWide{m.p95_ns} * *q.energy_nj);
  judgement.tightest = energy_first ? "energy_nj" : q.latency_ns ? "latency_ns" : "";
  return judgement;
}

audit::Decision record(const LossScale& scale) {
  return {"loss_scale",
          {{"predicted", texts_of(scale.question.predicted)}, {"lost", texts_of(scale.question.lost)}},
          {{"millionths", std::to_string(scale.millionths)}}};
}

audit::Decision record(const Judgement& judgement) {
  const JudgementQuestion& q = judgement.question;
  const MeasuredQuery& m = q.measured;
  nlohmann::json question = {{"tolerance_ppm", std::to_string(q.tolerance_ppm)},
                             {"runs", std::to_string(m.runs)},
                             {"repeated", std::to_string(m.repeated)},
                             {"unsteady", std::to_string(m.unsteady)},
                             {"reference_ns", std::to_string(m.reference_ns)},
                             {"p50_ns", std::to_string(m.p50_ns)},
                             {"p95_ns", std::to_string(m.p95_ns)},
                             {"measured_nj", std::to_string(m.energy_nj)},
                             {"least_nj", std::to_string(m.least_nj)},
                             {"most_nj", std::to_string(m.most_nj)},
                             {"energy_tier", tier_name(m.tier)}};
  if (q.latency_ns) question["latency_ns"] = std::to_string(*q.latency_ns);
  if (q.energy_nj) question["energy_nj"] = std::to_string(*q.energy_nj);
  return {"budget_measurement", question, recorded_answer(judgement)};
}

nlohmann::ordered_json to_json(const Judgement& judgement) {
  const MeasuredQuery& m = judgement.question.measured;
  return {{"decision", "budget_measurement"},
          {"runs", std::to_string(m.runs)},
          {"repeated", std::to_string(m.repeated)},
          {"unsteady", std::to_string(m.unsteady)},
          {"reference_ns", std::to_string(m.reference_ns)},
          {"p50_ns", std::to_string(m.p50_ns)},
          {"p95_ns", std::to_string(m.p95_ns)},
          {"energy_nj", std::to_string(m.energy_nj)},
          {"energy_tier", tier_name(m.tier)},
          {"tolerance_ppm", std::to_string(judgement.question.tolerance_ppm)},
          {"holds", audit::flag_text(judgement.holds)}};
}

nlohmann::json decide_loss_scale(const nlohmann::json& value) {
  LossScaleQuestion question{losses_field(value, "predicted"), losses_field(value, "lost")};
  if (question.predicted.size() != question.lost.size())
    throw_input_error("audit record", "{} losses were predicted and {} measured", question.predicted.size(),
                      question.lost.size());
  return {{"millionths", std::to_string(scale_losses(std::move(question)).millionths)}};
}

nlohmann::json decide_judgement(const nlohmann::json& value) {
  JudgementQuestion question{budget_field(value, "latency_ns"),
                             budget_field(value, "energy_nj"),
                             integer_field(value, "tolerance_ppm"),
                             {}};
  question.measured.p95_ns = integer_field(value, "p95_ns");
  question.measured.energy_nj = integer_field(value, "measured_nj");
  return recorded_answer(judge(question));
}

}  // namespace qtf::adapt
