#include "qtf/cli/html_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "qtf/base/html.h"
#include "qtf/cli/comparison.h"

namespace qtf::cli {
namespace {

constexpr std::string_view kReportStyle = R"css(:root {
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2028; --soft: #5b6472; --line: #dfe3e9; --grid: #eceff3;
  --run0: #0b63c5; --run1: #c2410c; --run2: #15803d; --run3: #7c3aed; --run4: #a16207; --run5: #0e7490;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12151a; --card: #1a1f27; --ink: #e8ebf0; --soft: #9aa5b5; --line: #303845; --grid: #262d38;
    --run0: #7ab7ff; --run1: #ff9f6b; --run2: #6fdc96; --run3: #c4a7ff; --run4: #f0c75e; --run5: #67d5ea;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.015em; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .8rem; }
.lede { color: var(--soft); margin: 0; max-width: 46rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
.runs { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem; margin-top: 1.75rem; }
.run { padding: 1rem 1.25rem; border-top: .25rem solid var(--c); }
.run .name { font-weight: 600; overflow-wrap: anywhere; }
.run .big { font-size: 2rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.run .note { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .55rem 1.25rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--line); }
thead th, thead td { border-top: 0; }
tbody th { text-align: left; font-weight: 500; white-space: normal; min-width: 12rem; }
tbody th small { display: block; color: var(--soft); font-weight: 400; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; padding: 1rem 1.25rem; }
figcaption { font-weight: 600; margin-bottom: .5rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
@media (max-width: 40rem) { svg text { font-size: 19px; } }
.grid { stroke: var(--grid); } .axis { stroke: var(--line); }
.curve { fill: none; stroke: var(--c); stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
.train { opacity: .5; stroke-width: 1.25; }
.mark { fill: var(--card); stroke: var(--c); stroke-width: 1.75; }
.mark:hover { fill: var(--c); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: 0 0 1rem; }
.legend svg { display: inline-block; width: 2.25rem; height: 1rem; vertical-align: -.15rem; margin-right: .4rem; }
.samples { display: grid; gap: 1rem; }
blockquote { margin: 0; padding: 1rem 1.25rem; border-left: .25rem solid var(--c); white-space: pre-wrap;
  overflow-wrap: anywhere; }
blockquote cite { display: block; margin-top: .6rem; color: var(--soft); font-size: .875rem; font-style: normal; }
@media print { body { background: none; } .card { break-inside: avoid; } }
)css";

/// The chart's size and margins, in SVG units.
constexpr double kWidth = 600, kHeight = 320, kLeft = 60, kRight = 14, kTop = 10, kBottom = 40;

/// Run colours repeat after six; shapes of marks and dashes tell further runs apart, and all of them without
/// colour.
constexpr int kRunColors = 6;
constexpr const char* kDashes[] = {"", "7 4", "2 4", "10 3 2 3"};

std::string color_style(int run) {
  return fmt::format("--c:var(--run{})", run % kRunColors);
}

/// Maps values to SVG coordinates.
struct Plane {
  Interval x, y;
  double px(double v) const { return kLeft + x.share(v) * (kWidth - kLeft - kRight); }
  double py(double v) const { return kTop + (1 - y.share(v)) * (kHeight - kTop - kBottom); }
};

std::string axes(const Plane& plane, std::string_view x_title) {
  std::string svg;
  for (const double tick : ticks(plane.y, 7)) {
    const double y = plane.py(tick);
    svg += fmt::format(
        "<path class=\"grid\" d=\"M{} {:.1f}H{}\"/><text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}"
        "</text>\n",
        kLeft, y, kWidth - kRight, kLeft - 8, y + 4, format_tick(tick));
  }
  const double bottom = kHeight - kBottom;
  for (const double tick : ticks(plane.x, 6)) {
    const double x = plane.px(tick);
    svg += fmt::format(
        "<path class=\"axis\" d=\"M{:.1f} {}v5\"/><text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">"
        "{}</text>\n",
        x, bottom, x, bottom + 19, format_tick(tick));
  }
  svg += fmt::format("<path class=\"axis\" d=\"M{} {}H{}\"/>\n", kLeft, bottom, kWidth - kRight);
  svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", kWidth - kRight, kHeight - 4,
                     escape_html(x_title));
  return svg;
}

/// A circle, square, triangle or diamond around (x, y).
std::string mark_path(double x, double y, int run) {
  switch (run % 4) {
    case 0:
      return fmt::format("M{:.1f} {:.1f}m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z", x, y);
    case 1:
      return fmt::format("M{:.1f} {:.1f}m-3 -3h6v6h-6z", x, y);
    case 2:
      return fmt::format("M{:.1f} {:.1f}m0 -4l4 7h-8z", x, y);
    default:
      return fmt::format("M{:.1f} {:.1f}m0 -4.5l4.5 4.5l-4.5 4.5l-4.5 -4.5z", x, y);
  }
}

std::string curve_path(const Curve& curve, const Plane& plane) {
  std::string path;
  for (const Point& p : curve.points) {
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", plane.px(p.x), plane.py(p.y));
  }
  const std::string_view dash = kDashes[curve.run % 4];
  return fmt::format("<path class=\"curve{}\" style=\"{}\"{} d=\"{}\"/>\n", curve.marked ? "" : " train",
                     color_style(curve.run),
                     dash.empty() ? "" : fmt::format(" stroke-dasharray=\"{}\"", dash), path);
}

std::string marks(const Curve& curve, const Plane& plane, std::string_view x_title) {
  std::string svg;
  for (const Point& p : curve.points) {
    svg +=
        fmt::format("<path class=\"mark\" style=\"{}\" d=\"{}\"><title>{}: {:.4f} at {} {}</title></path>\n",
                    color_style(curve.run), mark_path(plane.px(p.x), plane.py(p.y), curve.run),
                    escape_html(curve.label), p.y, format_tick(p.x), escape_html(x_title));
  }
  return svg;
}

/// In words, for those who do not see the chart: where each curve starts and ends.
std::string description(const std::vector<Curve>& curves) {
  std::string text;
  for (const Curve& curve : curves) {
    text += fmt::format("{}: from {:.4g} to {:.4g}. ", curve.label, curve.points.front().y,
                        curve.points.back().y);
  }
  return text;
}

std::string summary_line(const std::vector<RunMetrics>& runs) {
  const auto loss = [](const RunMetrics& run) { return run.best().loss; };
  std::string text = runs.size() == 1 ? "One training run." : fmt::format("{} training runs.", runs.size());
  const RunMetrics* best = nullptr;
  for (const RunMetrics& run : runs) {
    if (!std::isnan(loss(run)) && (!best || loss(run) < loss(*best))) best = &run;
  }
  if (best) {
    text +=
        fmt::format(" The lowest validation loss is {:.4f} nats a token, by {}.", loss(*best), best->name);
  }
  return text;
}

std::string run_cards(const std::vector<RunMetrics>& runs) {
  std::string html = "<div class=\"runs\">\n";
  for (size_t i = 0; i < runs.size(); ++i) {
    html += fmt::format(
        "<div class=\"card run\" style=\"{}\"><div class=\"name\">{}</div><div class=\"big\">{}</div>"
        "<div class=\"note\">validation perplexity with {} parameters</div></div>\n",
        color_style(static_cast<int>(i)), escape_html(runs[i].name),
        text_or_dash(runs[i].best().perplexity, "{:.2f}"), escape_html(metrics().front().text(runs[i])));
  }
  return html + "</div>\n";
}

std::string table(const std::vector<RunMetrics>& runs) {
  std::string html = "<h2>Comparison</h2>\n<div class=\"card scroll\"><table>\n<thead><tr><td></td>";
  for (const RunMetrics& run : runs) html += fmt::format("<th scope=\"col\">{}</th>", escape_html(run.name));
  html += "</tr></thead>\n<tbody>\n";
  for (const Metric& metric : metrics()) {
    html += fmt::format("<tr><th scope=\"row\">{}<small>{}</small></th>", metric.name, metric.meaning);
    for (const RunMetrics& run : runs) html += fmt::format("<td>{}</td>", escape_html(metric.text(run)));
    html += "</tr>\n";
  }
  return html + "</tbody>\n</table></div>\n";
}

std::string legend(const std::vector<Curve>& curves) {
  std::string html = "<ul class=\"legend\">\n";
  for (const Curve& curve : curves) {
    html += fmt::format(
        "<li><svg viewBox=\"0 0 36 16\" aria-hidden=\"true\"><path class=\"curve{}\" style=\"{}\" "
        "stroke-dasharray=\"{}\" d=\"M2 8H34\"/>{}</svg>{}</li>\n",
        curve.marked ? "" : " train", color_style(curve.run), kDashes[curve.run % 4],
        curve.marked ? fmt::format("<path class=\"mark\" style=\"{}\" d=\"{}\"/>", color_style(curve.run),
                                   mark_path(18, 8, curve.run))
                     : "",
        escape_html(curve.label));
  }
  return html + "</ul>\n";
}

std::string charts(const std::vector<RunMetrics>& runs) {
  const auto losses = loss_curves(runs, Over::steps);
  std::string html = "<h2>Curves</h2>\n" + legend(losses) + "<div class=\"charts\">\n";
  html += svg_chart(losses, "steps", "Loss over steps, nats a token", "steps");
  html += svg_chart(loss_curves(runs, Over::seconds), "seconds", "Loss over time, nats a token", "seconds");
  html += svg_chart(step_curves(runs, &StepMetrics::tokens_per_second), "speed", "Tokens a second", "steps");
  html += svg_chart(step_curves(runs, &StepMetrics::grad_norm), "gradient", "Gradient norm", "steps");
  html += svg_chart(step_curves(runs, &StepMetrics::learning_rate), "rate", "Learning rate", "steps");
  return html + "</div>\n";
}

std::string samples(const std::vector<RunMetrics>& runs) {
  std::string html;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].sample.empty()) continue;
    html +=
        fmt::format("<blockquote class=\"card\" style=\"{}\">{}<cite>{}</cite></blockquote>\n",
                    color_style(static_cast<int>(i)), escape_html(runs[i].sample), escape_html(runs[i].name));
  }
  if (html.empty()) return html;
  return "<h2>What the models write</h2>\n<div class=\"samples\">\n" + html + "</div>\n";
}

}  // namespace

std::string svg_chart(const std::vector<Curve>& curves, std::string_view id, std::string_view title,
                      std::string_view x_title) {
  if (curves.empty()) return {};
  const Plane plane{x_interval(curves), y_interval(curves)};
  std::string svg = fmt::format(
      "<figure class=\"card\"><figcaption id=\"{0}-title\">{1}</figcaption>\n"
      "<svg viewBox=\"0 0 {2} {3}\" role=\"img\" aria-labelledby=\"{0}-title {0}-text\">\n"
      "<desc id=\"{0}-text\">{4}</desc>\n"
      "<clipPath id=\"{0}-clip\"><rect x=\"{5}\" y=\"{6}\" width=\"{7}\" height=\"{8}\"/></clipPath>\n",
      id, escape_html(title), kWidth, kHeight, escape_html(description(curves)), kLeft, kTop,
      kWidth - kLeft - kRight + 6, kHeight - kTop - kBottom);
  svg += axes(plane, x_title);
  svg += fmt::format("<g clip-path=\"url(#{}-clip)\">\n", id);
  for (const Curve& curve : curves) svg += curve_path(curve, plane);
  for (const Curve& curve : curves) {
    if (curve.marked) svg += marks(curve, plane, x_title);
  }
  return svg + "</g>\n</svg></figure>\n";
}

std::string html_report(const std::vector<RunMetrics>& runs) {
  std::string html = html_page_start("Training report", kReportStyle);
  html +=
      fmt::format("<h1>Training report</h1>\n<p class=\"lede\">{}</p>\n", escape_html(summary_line(runs)));
  html += run_cards(runs) + table(runs) + charts(runs) + samples(runs);
  return html.append(kHtmlPageEnd);
}

}  // namespace qtf::cli
