#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "qtf/base/file.h"
#include "qtf/cli/cli.h"
#include "qtf/cli/comparison.h"
#include "qtf/cli/html_report.h"
#include "qtf/cli/terminal_plot.h"

namespace qtf::cli {
namespace {

RunMetrics run(const std::string& name, double loss) {
  RunMetrics run{.name = name, .finished = true, .parameters = 1.25e6, .ratio = 2, .bytes = 5e6};
  for (int i = 1; i <= 200; ++i) {
    run.steps.push_back({.step = i,
                         .seconds = 0.1 * i,
                         .loss = loss + 3 * std::exp(-i / 30.0),
                         .learning_rate = 1e-3,
                         .tokens_per_second = 1000,
                         .grad_norm = 1});
    if (i % 50 == 0) {
      run.valid.push_back({.step = i, .seconds = 0.1 * i, .loss = loss + 10.0 / i, .stderr_loss = 0.01});
    }
  }
  return run;
}

size_t count(const std::string& text, std::string_view part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != text.npos; at += part.size()) ++n;
  return n;
}

std::vector<std::string> lines(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> result;
  for (std::string line; std::getline(in, line);) result.push_back(line);
  return result;
}

TEST(Comparison, TableHasARowAMetricInEvenColumns) {
  const std::string table = terminal_table({run("dense", 4), run("a longer näme", 4.2)}, true);
  const auto rows = lines(table);
  ASSERT_EQ(rows.size(), metrics().size() + 2);
  for (const std::string& row : rows) EXPECT_EQ(display_width(row), display_width(rows[0]));
  EXPECT_NE(table.find("4.0500 ± 0.0100"), table.npos) << table;
  EXPECT_NE(table.find("2.00x"), table.npos);
  const std::string ascii = terminal_table({run("dense", 4)}, false);
  EXPECT_TRUE(std::ranges::all_of(ascii, [](char c) { return c >= 0; })) << ascii;
}

TEST(Comparison, MissingFiguresAreDashes) {
  const RunMetrics empty{.name = "empty"};
  for (const Metric& metric : metrics()) {
    if (metric.name == "finished") continue;
    EXPECT_EQ(metric.text(empty), "-") << metric.name;
  }
}

TEST(TerminalPlot, FitsItsColumnsInEveryCharacterSet) {
  const auto curves = loss_curves({run("dense", 4), run("chain", 4.2)}, Over::steps);
  ASSERT_EQ(curves.size(), 4u);
  for (const bool utf8 : {false, true}) {
    for (const int columns : {40, 80, 120}) {
      const std::string plot =
          terminal_plot(curves, "steps", "loss", {.columns = columns, .utf8 = utf8, .color = false});
      for (const std::string& line : lines(plot))
        EXPECT_LE(display_width(line), static_cast<size_t>(columns));
      EXPECT_EQ(std::ranges::any_of(plot, [](char c) { return c < 0; }), utf8);
      EXPECT_EQ(count(plot, "\x1b"), 0u);
      EXPECT_GE(count(plot, "B"), 4u) << plot;
    }
  }
}

TEST(TerminalPlot, DrawsALineWhereItIs) {
  const std::vector<Curve> curves{{.label = "rise", .points = {{0, 0}, {10, 10}}}};
  const auto rows = lines(terminal_plot(curves, "x", "y", {.columns = 40}, 10));
  EXPECT_GT(rows[1].find('a'), rows[10].find('a')) << "the top right comes after the bottom left";
}

TEST(TerminalPlot, ColoursOnlyOnRequest) {
  const auto curves = loss_curves({run("dense", 4)}, Over::seconds);
  EXPECT_GT(count(terminal_plot(curves, "s", "loss", {.color = true}), "\x1b[36m"), 0u);
  std::ostringstream out;
  EXPECT_FALSE(detect_terminal(out).color);
}

TEST(HtmlReport, HoldsEverythingAndNeedsNothing) {
  RunMetrics hostile = run("<script>alert(1)</script>", 4.2);
  hostile.sample = "</blockquote><img src=x onerror=alert(2)>";
  const std::string html = html_report({run("dense", 4), hostile});
  for (const std::string_view part : {"<script", "<img", "http://", "https://", "src="}) {
    EXPECT_EQ(count(html, part), part == "src=" ? 1u : 0u) << part;  // the one is the sample's, as text
  }
  for (const std::string_view tag : {"main", "table", "figure", "svg", "blockquote", "tr", "ul", "g", "li"}) {
    const std::string open = fmt::format("<{}", tag), close = fmt::format("</{}>", tag);
    EXPECT_EQ(count(html, open + ">") + count(html, open + " "), count(html, close)) << tag;
  }
  EXPECT_EQ(count(html, "<figure"), 5u);
  EXPECT_EQ(count(html, "nan"), 0u);
  EXPECT_EQ(count(html, "role=\"img\""), 5u);
}

TEST(HtmlReport, RunsWithoutDataMakeNoCharts) {
  RunMetrics bare{.name = "bare"};
  bare.valid.push_back({.step = 1, .loss = 5});
  const std::string html = html_report({bare});
  EXPECT_EQ(count(html, "<figure"), 1u);
  EXPECT_EQ(count(html, "nan"), 0u);
}

TEST(ReportCommand, ReadsFoldersAndWritesThePage) {
  const auto root = std::filesystem::path(testing::TempDir()) / "qtf_report";
  std::filesystem::remove_all(root);
  for (const char* name : {"one", "two"}) {
    std::filesystem::create_directories(root / name);
    std::ofstream(root / name / "metrics.jsonl") << R"({"event":"valid","step":1,"seconds":1,"loss":5})"
                                                    "\n";
  }
  std::istringstream in;
  std::ostringstream out, err;
  const auto page = root / "report.html";
  EXPECT_EQ(run_cli({"report", root / "one", root / "two", "--out", page}, {in, out, err}), 0) << err.str();
  EXPECT_NE(out.str().find("validation loss"), std::string::npos);
  EXPECT_TRUE(read_file(page).starts_with("<!doctype html>"));
  EXPECT_EQ(run_cli({"report", root / "three"}, {in, out, err}), 2);
  EXPECT_EQ(run_cli({"report", root / "one", "--out", root / "no" / "such" / "folder.html"}, {in, out, err}),
            2);
}

}  // namespace
}  // namespace qtf::cli
