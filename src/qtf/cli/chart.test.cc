#include "qtf/cli/chart.h"

#include <gtest/gtest.h>

#include <cmath>

namespace qtf::cli {
namespace {

std::vector<Point> line(int n, double slope = 1) {
  std::vector<Point> points;
  for (int i = 0; i < n; ++i) points.push_back({static_cast<double>(i), slope * i});
  return points;
}

TEST(Chart, SmoothingKeepsAConstantAndDropsWhatIsNotFinite) {
  std::vector<Point> points{{0, 3}, {1, NAN}, {2, 3}, {NAN, 3}, {4, INFINITY}, {5, 3}};
  const auto result = smoothed(points, 10);
  ASSERT_EQ(result.size(), 3u);
  for (const Point& p : result) EXPECT_NEAR(p.y, 3, 1e-12);
  EXPECT_EQ(result[1].x, 2);
}

TEST(Chart, WindowOfOneChangesNothing) {
  const auto result = smoothed(line(5), 1);
  for (const Point& p : result) EXPECT_EQ(p.y, p.x);
}

TEST(Chart, ThinningKeepsTheMean) {
  const auto result = thinned(line(1000), 10);
  ASSERT_EQ(result.size(), 10u);
  EXPECT_EQ(result[0].x, 49.5);
  EXPECT_EQ(result[9].y, 949.5);
  EXPECT_EQ(thinned(line(7), 10).size(), 7u);
}

TEST(Chart, IntervalsAreNeverEmpty) {
  for (const std::vector<Point>& points :
       {std::vector<Point>{}, {{0, 2}}, {{3, 2}, {5, 2}}, {{0, 1000}, {9, 1000 + 1e-12}}, {{0, 0}, {9, 0}}}) {
    const std::vector<Curve> curves{{.label = "a", .points = points}};
    EXPECT_GT(x_interval(curves).high, x_interval(curves).low);
    EXPECT_GT(y_interval(curves).high, y_interval(curves).low);
    EXPECT_LE(ticks(y_interval(curves), 5).size(), 6u);
  }
}

TEST(Chart, FirstFallDoesNotFlattenTheRest) {
  std::vector<Point> points{{0, 1000}, {1, 500}};
  for (int i = 10; i <= 100; ++i) points.push_back({static_cast<double>(i), 5.0 - 0.01 * i});
  const Interval y = y_interval({{.label = "a", .points = points}});
  EXPECT_LT(y.high, 5.1);
  EXPECT_LE(y.low, 4.0);
}

TEST(Chart, TicksAreRoundAndInside) {
  const Interval intervals[] = {{0, 1}, {3.9, 7.2}, {0, 91234}, {-2, 2}, {0, 0.003}, {5, 5.0001}};
  for (const Interval& interval : intervals) {
    for (const int count : {2, 5, 8}) {
      const auto result = ticks(interval, count);
      ASSERT_GE(result.size(), 1u);
      EXPECT_LE(result.size(), static_cast<size_t>(count) + 1);
      const double slack = 1e-6 * (interval.high - interval.low);
      EXPECT_GE(result.front(), interval.low - slack);
      EXPECT_LE(result.back(), interval.high + slack);
    }
  }
}

TEST(Chart, FormatsTicks) {
  const struct {
    double value;
    const char* text;
  } cases[] = {{0, "0"},        {0.1 + 0.2, "0.3"}, {900, "900"}, {1500, "1500"},
               {12000, "12 k"}, {2500000, "2.5 M"}, {3e9, "3 G"}, {-0.5, "-0.5"}};
  for (const auto& c : cases) EXPECT_EQ(format_tick(c.value), c.text);
}

}  // namespace
}  // namespace qtf::cli
