#include <fmt/format.h>

#include "qtf/base/html.h"
#include "qtf/base/parse.h"
#include "qtf/base/quantity.h"
#include "qtf/cli/budget_report.h"
#include "qtf/cli/html_report.h"

namespace qtf::cli {

namespace {

constexpr std::string_view kBudgetStyle =
    R"css(:root { color-scheme: light dark; --ink: #1b2028; --soft: #5b6472; --line: #dfe3e9; --grid: #eceff3; --card: #fff;
  --page: #f6f7f9; --run0: #0b63c5; --run1: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf0; --soft: #9aa5b5; --line: #303845; --grid: #262d38;
  --card: #1a1f27; --page: #12151a; --run0: #7ab7ff; --run1: #ff9f6b; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
p { color: var(--soft); margin: .3rem 0; max-width: 48rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { text-align: right; padding: .3rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(28rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; padding: .8rem 1rem; } .card { background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; }
figcaption { font-weight: 600; } svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--grid); } .axis { stroke: var(--line); }
.curve { fill: none; stroke: var(--c); stroke-width: 1.75; }
.mark { fill: var(--card); stroke: var(--c); stroke-width: 1.75; } .mark:hover { fill: var(--c); }
)css";

std::string table_of(const std::string& head, const std::string& rows) {
  return "<div class=\"scroll\"><table><thead><tr>" + head + "</tr></thead><tbody>\n" + rows +
         "</tbody></table></div>\n";
}

std::string asked_rows(const BudgetReport& r) {
  std::string rows;
  const auto row = [&](const char* name, const std::string& asked, const std::string& measured) {
    rows += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td></tr>\n", name, asked, measured);
  };
  const auto text = [](const std::optional<int64_t>& value, Quantity quantity) {
    return value ? format_quantity(*value, quantity) : std::string("–");
  };
  const budget::Budgets& limits = r.asked.limits;
  const BudgetMeasured& m = *r.measured;
  row("parameters", text(limits.parameters, Quantity::count), format_count(m.parameters));
  row("bytes of weights", text(limits.bytes, Quantity::bytes), format_bytes(m.bytes));
  row("time of a query, 95th percentile", text(limits.latency_ns, Quantity::duration),
      fmt::format("{} (median {})", format_quantity(m.query.p95_ns, Quantity::duration),
                  format_quantity(m.query.p50_ns, Quantity::duration)));
  row("energy of a query", text(limits.energy_nj, Quantity::energy),
      fmt::format("{:.4g} J {} (within {:.3g} to {:.3g})", m.query.energy.joules,
                  adapt::tier_name(m.query.energy.tier), m.query.energy.low, m.query.energy.high));
  if (m.perplexity)
    row("perplexity", r.asked.target_perplexity ? fmt::format("{:.4g}", *r.asked.target_perplexity) : "–",
        fmt::format("{:.4g}", *m.perplexity));
  return rows;
}

/// The front's curve and the chosen point; x by `unit`.
std::string front_chart(const std::vector<budget::FrontPoint>& front, double (*x)(const budget::SizeTotals&),
                        const budget::SizeTotals& chosen, std::string_view id, std::string_view title,
                        std::string_view x_title) {
  Curve curve{"least predicted loss", 0, true, {}};
  for (const budget::FrontPoint& point : front)
    curve.points.push_back({x(point.totals), 1e-9 * static_cast<double>(point.totals.loss)});
  const Curve here{"this model", 1, true, {{x(chosen), 1e-9 * static_cast<double>(chosen.loss)}}};
  return svg_chart({curve, here}, id, title, x_title);
}

std::string front_rows(const std::vector<budget::FrontPoint>& front) {
  std::string rows;
  for (const budget::FrontPoint& point : front)
    rows += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{:.4g}</td><td>{:.4g}</td><td>{:.4f}</td><td>{:.3f} %</td></tr>\n",
        format_count(point.totals.parameters), format_bytes(point.totals.bytes),
        1e-6 * static_cast<double>(point.totals.cost.ns), 1e-9 * static_cast<double>(point.totals.cost.nj),
        1e-9 * static_cast<double>(point.totals.loss), 100 * point.gap);
  return rows;
}

}  // namespace

std::string budget_page(const BudgetReport& r) {
  std::string page = html_page_start("Budget", kBudgetStyle);
  page += fmt::format(
      "<h1>{} within its budget</h1>\n<p>Made of {}, measured on {}; the query is {}. Joules: {}.</p>\n",
      escape_html(r.name), escape_html(r.source), escape_html(r.machine),
      escape_html(adapt::to_string(r.asked.query)), escape_html(r.energy_source));
  page +=
      "<h2>Asked and measured</h2>\n" + table_of("<th></th><th>at most</th><th>measured</th>", asked_rows(r));
  page += fmt::format(
      "<p>Predicted loss {:.4f} nats a token; at most {:.3g} % of it could be saved within these "
      "budgets.</p>\n",
      r.predicted_loss, 100 * r.bound_gap);
  page +=
      "<h2>What else can be had</h2>\n<p>Each point is the selection of least predicted loss at its limit. "
      "Times are "
      "sums of the maps' table: the whole query takes more.</p>\n<div class=\"charts\">\n";
  page += front_chart(
      r.by_parameters, [](const budget::SizeTotals& t) { return static_cast<double>(t.parameters); },
      r.totals, "params", "Predicted loss, nats a token", "parameters");
  page += front_chart(
      r.by_time, [](const budget::SizeTotals& t) { return 1e-6 * static_cast<double>(t.cost.ns); }, r.totals,
      "time", "Predicted loss, nats a token", "ms of the maps a query");
  const std::string head =
      "<th>parameters</th><th>bytes</th><th>table, ms</th><th>table, J</th><th>predicted "
      "loss</th><th>gap</th>";
  page += "</div>\n<h2>By parameters</h2>\n" + table_of(head, front_rows(r.by_parameters));
  page += "<h2>By time</h2>\n" + table_of(head, front_rows(r.by_time));
  std::string maps;
  for (const auto& [name, size] : r.maps)
    maps += fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", escape_html(name), escape_html(size));
  page += "<h2>Maps</h2>\n" + table_of("<th>map</th><th>size</th>", maps);
  return page.append(kHtmlPageEnd);
}

}  // namespace qtf::cli
