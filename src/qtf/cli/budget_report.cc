#include "qtf/cli/budget_report.h"

#include <fmt/format.h>

#include <cmath>

#include "qtf/base/json.h"
#include "qtf/base/quantity.h"

namespace qtf::cli {

using nlohmann::ordered_json;

namespace {

constexpr double kNanosecondsPerMs = 1e6, kNanojoulesPerJ = 1e9;

struct AskedBudget {
  std::string name;
  double value, measured;
  double tolerance;
};

/// What was asked beside what was measured, in the units of the names.
std::vector<AskedBudget> compared(const BudgetAsked& asked, const BudgetMeasured& measured) {
  std::vector<AskedBudget> rows;
  const budget::Budgets& limits = asked.limits;
  const auto add = [&](const char* name, const std::optional<int64_t>& limit, double unit, double value,
                       double tolerance) {
    if (limit) rows.push_back({name, static_cast<double>(*limit) / unit, value, tolerance});
  };
  add("max_params", limits.parameters, 1, static_cast<double>(measured.parameters), 1);
  add("max_bytes", limits.bytes, 1, static_cast<double>(measured.bytes), 1);
  add("max_latency_ms", limits.latency_ns, kNanosecondsPerMs,
      static_cast<double>(measured.query.p95_ns) / kNanosecondsPerMs, budget::kTolerance);
  add("max_energy_j", limits.energy_nj, kNanojoulesPerJ, measured.query.energy.joules, budget::kTolerance);
  if (asked.target_perplexity && measured.perplexity)
    rows.push_back({"target_perplexity", *asked.target_perplexity, *measured.perplexity, 1});
  return rows;
}

double in_unit(const budget::NamedLimit& limit) {
  const auto value = static_cast<double>(limit.value);
  if (limit.name == "max_latency_ms") return value / kNanosecondsPerMs;
  if (limit.name == "max_energy_j") return value / kNanojoulesPerJ;
  return value;
}

}  // namespace

std::string tightest_budget(const BudgetAsked& asked, const BudgetMeasured& measured) {
  std::string name;
  double most = -1;
  for (const AskedBudget& row : compared(asked, measured))
    if (row.measured / row.value > most) most = row.measured / row.value, name = row.name;
  return name;
}

bool keeps_budgets(const BudgetAsked& asked, const BudgetMeasured& measured) {
  for (const AskedBudget& row : compared(asked, measured))
    if (!(row.measured <= row.value * row.tolerance)) return false;
  return true;
}

ordered_json to_json(const BudgetAsked& asked) {
  ordered_json json = ordered_json::object();
  const budget::Budgets& limits = asked.limits;
  if (limits.parameters) json["max_params"] = *limits.parameters;
  if (limits.bytes) json["max_bytes"] = *limits.bytes;
  if (limits.latency_ns) json["max_latency_ms"] = static_cast<double>(*limits.latency_ns) / kNanosecondsPerMs;
  if (limits.energy_nj) json["max_energy_j"] = static_cast<double>(*limits.energy_nj) / kNanojoulesPerJ;
  if (asked.target_perplexity) json["target_perplexity"] = *asked.target_perplexity;
  json["query"] = adapt::to_string(asked.query);
  return json;
}

BudgetAsked asked_from(const ordered_json& json) {
  BudgetAsked asked;
  const auto whole = [&](const char* key, double unit) -> std::optional<int64_t> {
    if (!json.contains(key)) return {};
    return std::llround(json.at(key).get<double>() * unit);
  };
  asked.limits = {whole("max_params", 1),
                  whole("max_bytes", 1),
                  whole("max_latency_ms", kNanosecondsPerMs),
                  whole("max_energy_j", kNanojoulesPerJ),
                  {}};
  if (json.contains("target_perplexity"))
    asked.target_perplexity = json.at("target_perplexity").get<double>();
  asked.query = adapt::parse_query(json.at("query").get<std::string>());
  return asked;
}

ordered_json to_json(const BudgetMeasured& m) {
  ordered_json json{{"params", m.parameters},
                    {"bytes", m.bytes},
                    {"p50_ms", static_cast<double>(m.query.p50_ns) / kNanosecondsPerMs},
                    {"p95_ms", static_cast<double>(m.query.p95_ns) / kNanosecondsPerMs},
                    {"joules", m.query.energy.joules},
                    {"energy_tier", adapt::tier_name(m.query.energy.tier)},
                    {"energy_interval", {m.query.energy.low, m.query.energy.high}}};
  if (m.perplexity) json["perplexity"] = *m.perplexity;
  return json;
}

ordered_json to_json(const BudgetReport& report) {
  ordered_json nearest = ordered_json::object();
  for (const budget::NamedLimit& limit : report.nearest) nearest[limit.name] = in_unit(limit);
  if (report.nearest_perplexity) nearest["target_perplexity"] = *report.nearest_perplexity;
  return {{"feasible", report.feasible},
          {"binding", report.binding.empty() ? ordered_json(nullptr) : ordered_json(report.binding)},
          {"nearest", nearest},
          {"asked", to_json(report.asked)},
          {"measured", report.measured ? to_json(*report.measured) : ordered_json(nullptr)},
          {"bound_gap", report.bound_gap}};
}

std::string nearest_text(const BudgetReport& report) {
  std::string text;
  const auto add = [&](const std::string& name, const std::string& value) {
    text += fmt::format("{}{} at least {}", text.empty() ? "" : " and ", name, value);
  };
  for (const budget::NamedLimit& limit : report.nearest) {
    const Quantity quantity = limit.name == "max_latency_ms" ? Quantity::duration
                              : limit.name == "max_energy_j" ? Quantity::energy
                                                             : Quantity::count;
    add(limit.name, quantity == Quantity::count ? fmt::format("{}", limit.value)
                                                : format_quantity(limit.value, quantity));
  }
  if (report.nearest_perplexity) add("target_perplexity", fmt::format("{:.4g}", *report.nearest_perplexity));
  return text;
}

}  // namespace qtf::cli
