#include "qtf/budget/fit.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "qtf/adapt/decision_records.h"
#include "qtf/base/error.h"
#include "qtf/base/json.h"

namespace qtf::budget {

namespace {

std::string_view budget_name(const std::string& limit) {
  if (limit == kParameters.name) return "max_params";
  if (limit == kBytes.name) return "max_bytes";
  if (limit == kTime.name) return "max_latency_ms";
  if (limit == kEnergy.name) return "max_energy_j";
  return "target_perplexity";
}

/// By how much what is measured of models may contradict the table.
constexpr double kDoubt = 0.1;

/// A step that leaves less than this share of the table's time rests on two measurements at least; and none
/// leaves less than this share of what is in proportion to measured over budget.
constexpr double kLongStep = 0.7;

/// What was asked of the table and what the machine said.
struct Try {
  std::vector<int64_t> chosen;
  double table_strain = 0;      ///< largest sum of the table by its budget
  std::vector<double> strains;  ///< of each measurement: the largest measured by its budget
  std::vector<QueryMeasurement> measurements;
  int64_t loss = 0;
  double gap = 0;

  double strain() const { return settled(strains); }
  const QueryMeasurement& measured() const {
    return measurements[static_cast<size_t>(std::find(strains.begin(), strains.end(), strain()) -
                                            strains.begin())];
  }
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
    if (timed()) search_until_it_stays();
    if (!best()) try_fastest();
    const Try* found = best();
    const Try& last = found ? *found : tries_.back();
    fit_.tries = static_cast<int>(tries_.size());
    fit_.chosen = last.chosen, fit_.measured = last.measured();
    fit_.bound_gap = last.gap;
    fit_.feasible = found != nullptr;
    if (!found) name_nearest(fit_.measured);
    return std::move(fit_);
  }

 private:
  bool timed() const { return budgets_.latency_ns || budgets_.energy_nj; }

  /// At most the budget; where the margin was drawn tighter, as much less.
  bool holds(const Try& t) const { return t.strain() <= options_.margin / FitOptions{}.margin; }

  /// Of those that hold the one that loses least; null: none holds.
  const Try* best() const {
    const Try* found = nullptr;
    for (const Try& t : tries_)
      if (holds(t) && (!found || t.loss < found->loss)) found = &t;
    return found;
  }

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
    tries_.push_back(std::move(t));
    measure(tries_.back());
    settle();
  }

  void measure(Try& t) {
    t.measurements.push_back(measure_(sized_config(source_, table_, t.chosen, true)));
    t.strains.push_back(strain(budgets_, t.measurements.back()));
    ++fit_.measurements;
    const adapt::Judgement judgement = judge(budgets_, t.measurements.back());
    fit_.decisions.add(adapt::record(judgement), adapt::to_json(judgement));
  }

  bool may_repeat(const Try& t) const {
    return static_cast<int>(t.measurements.size()) < options_.most_measurements &&
           fit_.measurements < 3 * options_.most_tries;
  }

  /// Measures again what contradicts, the less measured of two first, until nothing does or all was measured
  /// often enough.
  void settle() {
    while (Try* doubted = most_doubted()) measure(*doubted);
  }

  Try* most_doubted() {
    Try* found = nullptr;
    for (Try& a : tries_) {
      for (Try& b : tries_) {
        if (!timed() || !contradict(a.strain(), a.table_strain, b.strain(), b.table_strain)) continue;
        for (Try* t : {&b, &a})
          if (may_repeat(*t) && (!found || t->measurements.size() < found->measurements.size())) found = t;
      }
    }
    return found;
  }

  /// Measurements of one slow phase agree with each other: so what a search comes to is measured once more,
  /// and the search goes on if that was another machine.
  void search_until_it_stays() {
    constexpr int kSearches = 3;
    for (int i = 0; i < kSearches; ++i) {
      search();
      const Try* found = best();
      if (!found || tries_.size() == 1 || !may_repeat(*found)) return;
      const double before = found->strain();
      Try& again = tries_[static_cast<size_t>(found - tries_.data())];
      measure(again);
      settle();
      if (holds(again) && again.strain() > (1 - kDoubt) * before) return;
    }
  }

  /// Root of measured strain = margin over the table's: secant, kept between what holds and what does not.
  void search() {
    for (int step = 0; step < 2 * options_.most_tries; ++step) {
      const Try *held = nullptr, *failed = nullptr;
      for (const Try& t : tries_)
        if (holds(t) && (!held || t.table_strain > held->table_strain)) held = &t;
      const double floor = held ? held->table_strain : 0;
      for (const Try& t : tries_)
        if (!holds(t) && t.table_strain > floor && (!failed || t.table_strain < failed->table_strain))
          failed = &t;
      if (!failed || floor >= 0.98 * failed->table_strain) return;
      if (held && held->strain() > options_.margin - 0.03) return;
      if (static_cast<int>(tries_.size()) >= options_.most_tries) return;
      const double share = next_share(held, *failed);
      if (share < kLongStep * failed->table_strain && failed->measurements.size() < 2) {
        measure(tries_[static_cast<size_t>(failed - tries_.data())]);
        settle();
        continue;
      }
      const adapt::BudgetAnswer answer = solve(share);
      if (!answer.feasible) return;
      const bool known =
          std::any_of(tries_.begin(), tries_.end(), [&](const Try& t) { return t.chosen == answer.chosen; });
      if (known) return;
      consider(answer);
    }
  }

  /// Of the line through what failed and the next to it on either side; in proportion where there is none.
  double next_share(const Try* held, const Try& failed) const {
    const Try* other = held;
    for (const Try& t : tries_)
      if (!held && t.table_strain > failed.table_strain && (!other || t.table_strain < other->table_strain))
        other = &t;
    const double proportional = failed.table_strain * options_.margin / failed.strain();
    double share = proportional;
    if (other) {
      const double slope = (failed.strain() - other->strain()) / (failed.table_strain - other->table_strain);
      if (std::isfinite(slope) && slope > 0.2 && slope < 5)
        share = failed.table_strain + (options_.margin - failed.strain()) / slope;
      // No step much longer than what the two ratios alone say.
      share = std::max(share, kLongStep * proportional);
    }
    const double floor = held ? held->table_strain : 0, room = failed.table_strain - floor;
    return std::clamp(share, floor + 0.1 * room, floor + 0.95 * room);
  }

  /// The least time (energy, where only that is limited) that the other budgets leave possible.
  void try_fastest() {
    if (!timed()) return;
    const SizeMeasure& value = budgets_.latency_ns ? kTime : kEnergy;
    const adapt::BudgetAnswer fastest = adapt::solve_budgets(size_question(table_, value, hard_limits()));
    fit_.decisions.add(adapt::record(fastest), adapt::to_json(fastest));
    consider(fastest);
    tries_.back().gap = 0;
    // Nothing is refused for one measurement.
    while (!holds(tries_.back()) && tries_.back().measurements.size() < 3 && may_repeat(tries_.back()))
      measure(tries_.back());
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

bool contradict(double strain, double table, double other_strain, double other_table) {
  if (table > other_table) return contradict(other_strain, other_table, strain, table);
  if (other_table <= 0) return false;
  const double slower = (1 + kDoubt) * other_strain;
  const double faster = (1 - kDoubt) * other_strain * table / other_table;
  return strain > slower || strain < faster;
}

double settled(std::vector<double> strains) {
  std::sort(strains.begin(), strains.end());
  return strains[(strains.size() - 1) / 2];
}

Confirmation confirm(const Budgets& budgets, const std::function<QueryMeasurement()>& measure) {
  constexpr size_t kMeasured = 3, kDisturbed = 5;
  std::vector<QueryMeasurement> measured;
  std::vector<double> strains;
  const bool timed = budgets.latency_ns || budgets.energy_nj;
  const auto add = [&] {
    measured.push_back(measure());
    strains.push_back(strain(budgets, measured.back()));
  };
  const auto worst = [&] { return std::max_element(strains.begin(), strains.end()); };
  while (strains.size() < (timed ? kMeasured : 1)) add();
  if (*worst() > (1 + kDoubt) * settled(strains)) {
    while (strains.size() < kDisturbed) add();
    measured.erase(measured.begin() + (worst() - strains.begin()));
    strains.erase(worst());
  }
  Confirmation c;
  c.strain = settled(strains), c.worst = *worst();
  c.worst_measured = measured[static_cast<size_t>(worst() - strains.begin())];
  c.measured =
      measured[static_cast<size_t>(std::find(strains.begin(), strains.end(), c.strain) - strains.begin())];
  c.holds = c.strain <= 1 && c.worst <= kTolerance;
  return c;
}

double tightened(double margin, const Confirmation& failed) {
  const double over = std::max(failed.strain, failed.worst / kTolerance);
  return margin * std::clamp(0.99 / over, 0.85, 0.99);
}

Fit fit_budgets(const model::ModelConfig& source, const SizeTable& table, const Budgets& budgets,
                const Measure& measure, const FitOptions& options) {
  if (!(budgets.parameters || budgets.bytes || budgets.latency_ns || budgets.energy_nj || budgets.loss))
    throw_input_error("budget", "no budget is given");
  return Fitter(source, table, budgets, measure, options).run();
}

}  // namespace qtf::budget
