// Curves and axes of a line chart, whatever it is drawn with: terminal_plot.h or html_report.h.
#pragma once

#include <string>
#include <vector>

namespace qtf::cli {

struct Point {
  double x = 0;
  double y = 0;
};

/// A line of a chart.
struct Curve {
  std::string label;
  int run = 0;          ///< runs share a colour
  bool marked = false;  ///< points are measurements of their own (validation), not a dense line (training)
  std::vector<Point> points;
};

/// A closed interval.
struct Interval {
  double low = 0;
  double high = 1;
  /// Where `value` lies: 0 at low, 1 at high.
  double share(double value) const { return (value - low) / (high - low); }
};

/// The finite points only, the y of each replaced by an exponential moving average over about `window`
/// points, unbiased at the start.
std::vector<Point> smoothed(const std::vector<Point>& points, double window);

/// At most `limit` points: means of neighbours, ends kept in place as nearly as that allows.
std::vector<Point> thinned(const std::vector<Point>& points, size_t limit);

/// All x, from 0 or the least to the greatest.
Interval x_interval(const std::vector<Curve>& curves);

/// The y of all points but the first 8 % of x, where a loss falls from its start and would flatten
/// the rest; with a margin of 4 %.
Interval y_interval(const std::vector<Curve>& curves);

/// About `count` round numbers (1, 2 or 5 times a power of ten apart) inside the interval.
std::vector<double> ticks(Interval interval, int count);

/// A tick or table number: "1.5 k", "0.02", "3".
std::string format_tick(double value);

}  // namespace qtf::cli
