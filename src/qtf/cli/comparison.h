// What a comparison of runs shows: one table of metrics for the terminal and the page, and the curves.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "qtf/cli/chart.h"
#include "qtf/cli/run_metrics.h"

namespace qtf::cli {

/// A row of the comparison.
struct Metric {
  std::string_view name;
  std::string_view meaning;  ///< a half sentence for the page
  std::string (*text)(const RunMetrics&);
};

/// Every metric, in the tables' order.
const std::vector<Metric>& metrics();

/// `value` in a fmt format, or a dash where it is missing.
std::string text_or_dash(double value, std::string_view format);

/// The table with a run a column.
std::string terminal_table(const std::vector<RunMetrics>& runs, bool utf8);

enum class Over { steps, seconds };

/// Smoothed training loss and validation loss of every run.
std::vector<Curve> loss_curves(const std::vector<RunMetrics>& runs, Over over);

/// One figure of every step, such as &StepMetrics::grad_norm, smoothed.
std::vector<Curve> step_curves(const std::vector<RunMetrics>& runs, double StepMetrics::*figure);

}  // namespace qtf::cli
