// The training report as one HTML file that needs nothing else: no script, no font, no network.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "qtf/cli/chart.h"
#include "qtf/cli/run_metrics.h"

namespace qtf::cli {

/// A line chart as an inline SVG figure. `id` is unique in the page.
std::string svg_chart(const std::vector<Curve>& curves, std::string_view id, std::string_view title,
                      std::string_view x_title);

/// The whole page: comparison table, curves, samples.
std::string html_report(const std::vector<RunMetrics>& runs);

}  // namespace qtf::cli
