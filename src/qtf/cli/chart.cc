#include "qtf/cli/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace qtf::cli {

std::vector<Point> smoothed(const std::vector<Point>& points, double window) {
  const double keep = 1 - 2 / (std::max(window, 1.0) + 1);
  std::vector<Point> result;
  double sum = 0, weight = 0;
  for (const Point& p : points) {
    if (!std::isfinite(p.x) || !std::isfinite(p.y)) continue;
    sum = keep * sum + p.y;
    weight = keep * weight + 1;
    result.push_back({p.x, sum / weight});
  }
  return result;
}

std::vector<Point> thinned(const std::vector<Point>& points, size_t limit) {
  if (points.size() <= limit) return points;
  std::vector<Point> result;
  for (size_t i = 0; i < limit; ++i) {
    const size_t begin = points.size() * i / limit, end = points.size() * (i + 1) / limit;
    Point mean;
    for (size_t j = begin; j < end; ++j) mean.x += points[j].x, mean.y += points[j].y;
    const double n = static_cast<double>(end - begin);
    result.push_back({mean.x / n, mean.y / n});
  }
  return result;
}

Interval x_interval(const std::vector<Curve>& curves) {
  Interval x{0, 0};
  for (const Curve& curve : curves) {
    for (const Point& p : curve.points) x.low = std::min(x.low, p.x), x.high = std::max(x.high, p.x);
  }
  if (x.high <= x.low) x.high = x.low + 1;
  return x;
}

Interval y_interval(const std::vector<Curve>& curves) {
  constexpr double kLeftOut = 0.08;
  const Interval x = x_interval(curves);
  Interval y{INFINITY, -INFINITY};
  for (const Curve& curve : curves) {
    for (const Point& p : curve.points) {
      y.low = std::min(y.low, p.y);
      if (x.share(p.x) >= kLeftOut) y.high = std::max(y.high, p.y);
    }
  }
  if (!std::isfinite(y.low)) return {0, 1};
  // Rounding noise of a constant is no shape.
  const double least = std::max(1e-6 * std::max(std::abs(y.low), std::abs(y.high)), 1e-12);
  if (!(y.high - y.low > least))
    y = {y.low - 0.1 * std::abs(y.low) - least, y.low + 0.1 * std::abs(y.low) + least};
  const double margin = 0.04 * (y.high - y.low);
  return {y.low - margin, y.high + margin};
}

std::vector<double> ticks(Interval interval, int count) {
  const double rough = (interval.high - interval.low) / std::max(count, 1);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * 0.999) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> result;
  const double slack = 1e-9 * step;
  for (double k = std::ceil((interval.low - slack) / step); k * step <= interval.high + slack; ++k) {
    result.push_back(k * step);
  }
  return result;
}

std::string format_tick(double value) {
  const double size = std::abs(value);
  if (size < 1e-12) return "0";
  if (size >= 1e9) return fmt::format("{:.4g} G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:.4g} M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.4g} k", value / 1e3);
  return fmt::format("{:.4g}", value);
}

}  // namespace qtf::cli
