#include "qtf/budget/fit.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "qtf/adapt/decision_records.h"
#include "qtf/base/error.h"

namespace qtf::budget {

namespace {

std::string_view budget_name(const std::string& limit) {
  if (limit == kParameters.name) return "max_params";
  if (limit == kBytes.name) return "max_bytes";
  if (limit == kTime.name) return "max_latency_ms";
  if (limit == kEnergy.name) return "max_energy_j";
  return "target_perplexity";
}

/// What was asked of the table and what the machine said.
struct Try {
  std::vector<int64_t> chosen;
  double table_strain = 0;  ///< largest sum of the table by its budget
  double strain = 0;        ///< largest measured by its budget
  bool holds = false;
  int64_t loss = 0;
  double gap = 0;
  QueryMeasurement measured;
};

class Fitter {
 public:
  Fitter(const model::ModelConfig& source, const SizeTable& table, const Budgets& budgets,
         const Measure& measure, const FitOptions& options)
      : source_(source), table_(table), budgets_(budgets), measure_(measure), options_(options) {}

  Fit run() {
    // First without limits of time: if that holds, nothing better exists.
    const adapt::BudgetAnswer free = solve({});
    if (!free.feasible) return refused(free);
    consider(free);
    if (!holds(tries_.back())) search();
    if (!best_) try_fastest();
    fit_.tries = static_cast<int>(tries_.size());
    const Try& last = best_ ? *best_ : tries_.back();
    fit_.chosen = last.chosen, fit_.measured = last.measured;
    fit_.bound_gap = last.gap;
    fit_.feasible = best_.has_value();
    if (!best_) name_nearest(last.measured);
    return std::move(fit_);
  }

 private:
  bool timed() const { return budgets_.latency_ns || budgets_.energy_nj; }
  static bool holds(const Try& t) { return t.holds; }

  /// share: of the budgets of time and energy, as the table's limits; none: they are not limited.
  adapt::BudgetAnswer solve(std::optional<double> share) {
    std::vector<SizeLimit> limits = hard_limits();
    const auto add = [&](const SizeMeasure& m, const std::optional<int64_t>& budget) {
      if (budget && share)
        limits.push_back({&m, std::max<int64_t>(1, std::llround(*share * static_cast<double>(*budget)))});
    };
    add(kTime, budgets_.latency_ns), add(kEnergy, budgets_.energy_nj);
    const bool only_loss = budgets_.loss && !budgets_.parameters && !budgets_.bytes && !timed();
    const SizeMeasure& value = only_loss ? kParameters : kLoss;
    if (only_loss) limits.push_back({&kLoss, *budgets_.loss});
    const adapt::BudgetAnswer answer = adapt::solve_budgets(size_question(table_, value, limits));
    fit_.decisions.add(adapt::record(answer), adapt::to_json(answer));
    return answer;
  }

  std::vector<SizeLimit> hard_limits() const {
    std::vector<SizeLimit> limits;
    if (budgets_.parameters) limits.push_back({&kParameters, *budgets_.parameters});
    if (budgets_.bytes) limits.push_back({&kBytes, *budgets_.bytes});
    return limits;
  }

  void consider(const adapt::BudgetAnswer& answer) {
    const SizeTotals totals = totals_of(table_, answer.chosen);
    Try t;
    t.chosen = answer.chosen;
    t.loss = totals.loss, t.gap = adapt::gap(answer);
    const auto share = [](int64_t sum, const std::optional<int64_t>& budget) {
      return budget ? static_cast<double>(sum) / static_cast<double>(*budget) : 0;
    };
    t.table_strain =
        std::max(share(totals.cost.ns, budgets_.latency_ns), share(totals.cost.nj, budgets_.energy_nj));
    t.measured = measure_(sized_config(source_, table_, answer.chosen, true));
    t.strain = strain(budgets_, t.measured);
    const adapt::Judgement judgement = judge(budgets_, t.measured);
    t.holds = judgement.holds;
    fit_.decisions.add(adapt::record(judgement), adapt::to_json(judgement));
    if (holds(t) && (!best_ || t.loss < best_->loss)) best_ = t;
    tries_.push_back(std::move(t));
  }

  /// Root of measured strain = margin over the table's: secant, kept between what held and what did not.
  void search() {
    double held = 0, failed = tries_.back().table_strain;
    while (static_cast<int>(tries_.size()) < options_.most_tries && held < 0.98 * failed) {
      const double share =
          std::clamp(next_share(), held + 0.1 * (failed - held), held + 0.95 * (failed - held));
      const adapt::BudgetAnswer answer = solve(share);
      if (!answer.feasible) return;
      const bool known =
          std::any_of(tries_.begin(), tries_.end(), [&](const Try& t) { return t.chosen == answer.chosen; });
      if (known) return;
      consider(answer);
      (holds(tries_.back()) ? held : failed) = tries_.back().table_strain;
      if (holds(tries_.back()) && tries_.back().strain > options_.margin - 0.03) return;
    }
  }

  double next_share() const {
    const Try& last = tries_.back();
    const double proportional = last.table_strain * options_.margin / last.strain;
    if (tries_.size() < 2) return proportional;
    const Try& before = tries_[tries_.size() - 2];
    const double slope = (last.strain - before.strain) / (last.table_strain - before.table_strain);
    const bool plausible = std::isfinite(slope) && slope > 0.2 && slope < 5;
    return plausible ? last.table_strain + (options_.margin - last.strain) / slope : proportional;
  }

  /// The least time (energy, where only that is limited) that the other budgets leave possible.
  void try_fastest() {
    if (!timed()) return;
    const SizeMeasure& value = budgets_.latency_ns ? kTime : kEnergy;
    const adapt::BudgetAnswer fastest = adapt::solve_budgets(size_question(table_, value, hard_limits()));
    fit_.decisions.add(adapt::record(fastest), adapt::to_json(fastest));
    consider(fastest);
    tries_.back().gap = 0;
  }

  Fit refused(const adapt::BudgetAnswer& answer) {
    for (const adapt::NearestLimit& nearest : answer.nearest)
      fit_.nearest.push_back(
          {std::string(budget_name(answer.question.limits[nearest.limit].name)), nearest.value});
    return std::move(fit_);
  }

  void name_nearest(const QueryMeasurement& fastest) {
    const auto joules = static_cast<int64_t>(std::ceil(1e9 * fastest.energy.joules));
    if (budgets_.latency_ns && fastest.p95_ns > *budgets_.latency_ns)
      fit_.nearest.push_back({"max_latency_ms", fastest.p95_ns});
    if (budgets_.energy_nj && joules > *budgets_.energy_nj) fit_.nearest.push_back({"max_energy_j", joules});
  }

  const model::ModelConfig& source_;
  const SizeTable& table_;
  const Budgets& budgets_;
  const Measure& measure_;
  const FitOptions& options_;
  std::vector<Try> tries_;
  std::optional<Try> best_;
  Fit fit_;
};

}  // namespace

adapt::Judgement judge(const Budgets& budgets, const QueryMeasurement& m, int64_t tolerance_ppm) {
  const adapt::Energy& energy = m.energy;
  return adapt::judge(
      {budgets.latency_ns,
       budgets.energy_nj,
       tolerance_ppm,
       {m.runs, m.repeated, m.unsteady, m.reference_ns, m.p50_ns, m.p95_ns, adapt::nanojoules(energy.joules),
        adapt::nanojoules(energy.low), adapt::nanojoules(energy.high), energy.tier}});
}

double strain(const Budgets& budgets, const QueryMeasurement& measured) {
  double most = 0;
  if (budgets.latency_ns)
    most = static_cast<double>(measured.p95_ns) / static_cast<double>(*budgets.latency_ns);
  if (budgets.energy_nj)
    most = std::max(most, 1e9 * measured.energy.joules / static_cast<double>(*budgets.energy_nj));
  return most;
}

Fit fit_budgets(const model::ModelConfig& source, const SizeTable& table, const Budgets& budgets,
                const Measure& measure, const FitOptions& options) {
  if (!(budgets.parameters || budgets.bytes || budgets.latency_ns || budgets.energy_nj || budgets.loss))
    throw_input_error("budget", "no budget is given");
  return Fitter(source, table, budgets, measure, options).run();
}

}  // namespace qtf::budget
