#include "qtf/cli/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "qtf/base/parse.h"
#include "qtf/base/progress.h"
#include "qtf/cli/terminal_plot.h"

namespace qtf::cli {
namespace {

std::string count_or_dash(double value) {
  return std::isnan(value) ? "-" : format_count(static_cast<int64_t>(value));
}

std::string valid_loss(const RunMetrics& run) {
  const ValidMetrics best = run.best();
  if (std::isnan(best.loss) || std::isnan(best.stderr_loss)) return text_or_dash(best.loss, "{:.4f}");
  return fmt::format("{:.4f} ± {:.4f}", best.loss, best.stderr_loss);
}

/// Curves of at most this many points: what a chart can show.
constexpr size_t kPoints = 400;

/// A curve of training steps, averaged over a fiftieth of the run.
Curve step_curve(const RunMetrics& run, int index, std::vector<Point> points) {
  const double window = static_cast<double>(points.size()) / 50;
  return {.label = run.name, .run = index, .points = thinned(smoothed(points, window), kPoints)};
}

}  // namespace

std::string text_or_dash(double value, std::string_view format) {
  return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value);
}

const std::vector<Metric>& metrics() {
  using Run = const RunMetrics&;
  static const std::vector<Metric> table{
      {"parameters", "numbers stored in the model's file", [](Run r) { return count_or_dash(r.parameters); }},
      {"ratio", "parameters of the equal dense model divided by these, the whole model counted",
       [](Run r) { return text_or_dash(r.ratio, "{:.2f}x"); }},
      {"size", "bytes of the weights on disk",
       [](Run r) {
         return std::isnan(r.bytes) ? std::string("-") : format_bytes(static_cast<int64_t>(r.bytes));
       }},
      {"MACs/token", "multiply-accumulates for one token",
       [](Run r) { return count_or_dash(r.macs_per_token); }},
      {"validation loss", "nats a token ± standard error, at its lowest", valid_loss},
      {"perplexity", "exp of the loss, a token",
       [](Run r) { return text_or_dash(r.best().perplexity, "{:.2f}"); }},
      {"word perplexity", "a word: whitespace words plus one end of line each",
       [](Run r) { return text_or_dash(r.best().word_perplexity, "{:.2f}"); }},
      {"bits/byte", "loss in bits a byte of text, comparable between tokenizers",
       [](Run r) { return text_or_dash(r.best().bits_per_byte, "{:.4f}"); }},
      {"routed share", "of the validation's tokens, through the quantum layer",
       [](Run r) { return text_or_dash(100 * r.best().routed_share, "{:.2f} %"); }},
      {"training tokens/s", "median over the steps",
       [](Run r) { return count_or_dash(r.tokens_per_second()); }},
      {"training time", "minutes and seconds",
       [](Run r) { return std::isnan(r.seconds()) ? std::string("-") : format_duration(r.seconds()); }},
      {"finished", "whether the run came to its end",
       [](Run r) { return std::string(r.finished ? "yes" : "no, so far"); }},
  };
  return table;
}

std::string terminal_table(const std::vector<RunMetrics>& runs, bool utf8) {
  std::vector<std::vector<std::string>> rows(1, {""});
  for (const RunMetrics& run : runs) rows[0].push_back(run.name);
  for (const Metric& metric : metrics()) {
    rows.push_back({std::string(metric.name)});
    for (const RunMetrics& run : runs) rows.back().push_back(metric.text(run));
  }
  if (!utf8) {
    for (auto& row : rows) {
      for (std::string& cell : row) {
        if (const size_t at = cell.find("±"); at != cell.npos)
          cell.replace(at, std::string("±").size(), "+-");
      }
    }
  }
  std::vector<size_t> widths(rows[0].size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    text += row[0] + std::string(widths[0] - row[0].size(), ' ');
    for (size_t i = 1; i < row.size(); ++i) {
      text += std::string(2 + widths[i] - display_width(row[i]), ' ') + row[i];
    }
    text += "\n";
    if (&row == &rows[0]) {
      size_t total = widths[0];
      for (size_t i = 1; i < widths.size(); ++i) total += 2 + widths[i];
      for (size_t i = 0; i < total; ++i) text += utf8 ? "─" : "-";
      text += "\n";
    }
  }
  return text;
}

std::vector<Curve> loss_curves(const std::vector<RunMetrics>& runs, Over over) {
  std::vector<Curve> curves;
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto x = [&](const auto& m) {
      return over == Over::steps ? static_cast<double>(m.step) : m.seconds;
    };
    const int index = static_cast<int>(i);
    std::vector<Point> steps, valid;
    for (const StepMetrics& m : runs[i].steps) steps.push_back({x(m), m.loss});
    for (const ValidMetrics& m : runs[i].valid) valid.push_back({x(m), m.loss});
    Curve training = step_curve(runs[i], index, std::move(steps));
    training.label += ", training (smoothed)";
    curves.push_back(std::move(training));
    curves.push_back(
        {.label = runs[i].name + ", validation", .run = index, .marked = true, .points = smoothed(valid, 1)});
  }
  std::erase_if(curves, [](const Curve& curve) { return curve.points.empty(); });
  return curves;
}

std::vector<Curve> step_curves(const std::vector<RunMetrics>& runs, double StepMetrics::*figure) {
  std::vector<Curve> curves;
  for (size_t i = 0; i < runs.size(); ++i) {
    std::vector<Point> points;
    for (const StepMetrics& m : runs[i].steps) points.push_back({static_cast<double>(m.step), m.*figure});
    curves.push_back(step_curve(runs[i], static_cast<int>(i), std::move(points)));
  }
  std::erase_if(curves, [](const Curve& curve) { return curve.points.empty(); });
  return curves;
}

}  // namespace qtf::cli
