#include "qtf/cli/compress_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "qtf/base/html.h"
#include "qtf/base/json.h"
#include "qtf/base/parse.h"
#include "qtf/cli/html_report.h"

namespace qtf::cli {

using nlohmann::ordered_json;

namespace {

ordered_json compressed_map_json(const compress::CompressedMap& map) {
  return {
      {"map", map.name},
      {"out", map.out},
      {"in", map.in},
      {"shape", tt::to_string(map.shape)},
      {"rank", tt::level_rank(map.shape, 0)},
      {"parameters", map.parameters},
      {"dense_parameters", map.out * map.in},
      {"macs", tt::macs(map.shape)},
      {"runs_as", tt::is_rebuilt(map.shape) || map.shape.kind == tt::ShapeKind::dense ? "merged" : "factors"},
      {"predicted_loss", map.predicted_loss},
      {"weight_error", map.error},
      {"output_error", map.output_error},
      {"seconds", map.seconds}};
}

ordered_json text_json(const MeasuredText& t) {
  return {{"model", t.model},           {"text", t.text},
          {"parameters", t.parameters}, {"perplexity", t.perplexity},
          {"stderr", t.standard_error}, {"kl_divergence", t.kl_divergence},
          {"same_top", t.same_top},     {"tokens_per_second", t.tokens_per_second}};
}

int64_t dense_macs(const model::ModelConfig& config) {
  model::ModelConfig dense = config;
  model::clear_shapes(dense);
  return model::macs_per_token(dense, (config.context - 1) / 2);
}

}  // namespace

ordered_json to_json(const CompressionReport& r) {
  const int64_t parameters = model::parameter_count(r.config), dense = model::dense_parameter_count(r.config);
  ordered_json json = {{"name", r.name},
                       {"source", r.source},
                       {"method", r.method->name},
                       {"parameters", parameters},
                       {"dense_parameters", dense},
                       {"ratio", static_cast<double>(dense) / static_cast<double>(parameters)},
                       {"bytes", r.bytes},
                       {"dense_bytes", r.dense_bytes},
                       {"macs_per_token", model::macs_per_token(r.config, (r.config.context - 1) / 2)},
                       {"dense_macs_per_token", dense_macs(r.config)},
                       {"peak_memory", r.peak_memory},
                       {"calibration_tokens", r.calibration_tokens},
                       {"seconds", r.seconds},
                       {"heal_minutes", r.heal_minutes},
                       {"predicted_loss", r.result->predicted_loss},
                       {"texts", ordered_json::array()},
                       {"maps", ordered_json::array()}};
  for (const MeasuredText& text : r.texts) json["texts"].push_back(text_json(text));
  for (const compress::CompressedMap& map : r.result->maps) json["maps"].push_back(compressed_map_json(map));
  return json;
}

namespace {

constexpr std::string_view kCompressionStyle =
    R"css(:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; --paper: #fff; --a: #0b6bcb;
  --b: #c4680b; --track: #eef1f4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa5b1; --line: #3a424c; --paper: #14181d;
  --a: #58a6ff; --b: #f0a04b; --track: #232a32; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; color: var(--soft); }
.cards { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.2rem 0; }
.card { flex: 1 1 9rem; border: 1px solid var(--line); border-radius: .6rem; padding: .7rem .9rem; }
.card b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 0; } svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .head { fill: var(--ink); font-weight: 600; } .end { text-anchor: end; } .middle { text-anchor: middle; }
.track { fill: var(--track); } .a { fill: var(--a); } .b { fill: var(--b); } .grid { stroke: var(--line); }
.line { fill: none; stroke-width: 2; } .line.a { stroke: var(--a); fill: none; } .line.b { stroke: var(--b); fill: none; }
.plot { max-width: 44rem; }
@media print { .card, figure { break-inside: avoid; } }
)css";

std::string card(const std::string& big, const std::string& small) {
  return fmt::format("<div class=\"card\"><b>{}</b><span>{}</span></div>\n", big, small);
}

std::string text_table(const CompressionReport& r) {
  std::string rows;
  for (const MeasuredText& t : r.texts)
    rows += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.3f}</td><td>± {:.4f}</td><td>{:.4f}</td><td>{:.1f} "
        "%</td>"
        "<td>{}</td></tr>\n",
        escape_html(t.model), escape_html(t.text), format_count(t.parameters), t.perplexity, t.standard_error,
        t.kl_divergence, 100 * t.same_top, format_count(static_cast<int64_t>(t.tokens_per_second)));
  return "<div "
         "class=\"scroll\"><table><thead><tr><th>model</th><th>text</th><th>parameters</th><th>perplexity</"
         "th>"
         "<th>nats/token</th><th>KL</th><th>same top "
         "token</th><th>tokens/s</th></tr></thead><tbody>\n" +
         rows + "</tbody></table></div>\n";
}

/// "layers.3 up_proj" of "model.layers.3.mlp.up_proj".
std::string short_name(const std::string& name) {
  const size_t last = name.rfind('.');
  size_t begin = name.find("layers.");
  if (begin == std::string::npos) begin = name.find("h.");
  if (begin == std::string::npos || last == std::string::npos) return name;
  const size_t number = name.find('.', begin) + 1;
  return "layer " + name.substr(number, name.find('.', number) - number) + " " + name.substr(last + 1);
}

/// One measure of every map, as a column of bars.
struct Column {
  std::string_view head;
  std::function<double(const compress::CompressedMap&)> share;  ///< the bar's length, of the column's
  std::function<std::string(const compress::CompressedMap&)> value;
};

/// `number` as bars, the largest filling the column.
Column scaled_column(const CompressionReport& r, std::string_view head,
                     double compress::CompressedMap::*number, std::function<std::string(double)> value) {
  using Map = compress::CompressedMap;
  double most = 1e-12;
  for (const Map& map : r.result->maps) most = std::max(most, map.*number);
  return {head, [number, most](const Map& map) { return map.*number / most; },
          [number, value](const Map& map) { return value(map.*number); }};
}

std::vector<Column> columns_of(const CompressionReport& r) {
  using Map = compress::CompressedMap;
  std::vector<Column> columns;
  columns.push_back({"Rank kept; bar: parameters",
                     [](const Map& map) {
                       return static_cast<double>(map.parameters) / static_cast<double>(map.out * map.in);
                     },
                     [](const Map& map) -> std::string {
                       if (map.shape.kind == tt::ShapeKind::dense) return "dense";
                       const int64_t rank = tt::level_rank(map.shape, 0);
                       return fmt::format("{}/{}", rank ? rank : map.shape.ranks[0],
                                          std::min(map.out, map.in));
                     }});
  columns.push_back(scaled_column(r, "Error of the outputs", &Map::output_error,
                                  [](double x) { return fmt::format("{:.1f} %", 100 * x); }));
  if (r.result->predicted_loss > 0)
    columns.push_back(scaled_column(r, "Predicted loss, 1/1000 nat", &Map::predicted_loss,
                                    [](double x) { return fmt::format("{:.2f}", 1000 * x); }));
  return columns;
}

/// A row a map, a column a measure: what stands out in one is seen beside the others. Layers are set apart.
std::string map_chart(const CompressionReport& r) {
  constexpr double kRow = 17, kLabel = 150, kBar = 190, kColumn = 290, kTop = 22, kGap = 6;
  const std::vector<Column> columns = columns_of(r);
  std::string body;
  double y = kTop;
  std::string layer;
  for (const compress::CompressedMap& map : r.result->maps) {
    const std::string name = short_name(map.name);
    const std::string now = name.substr(0, name.rfind(' '));
    if (!layer.empty() && now != layer) y += kGap;
    layer = now;
    body += fmt::format(
        "<g><title>{}: {} of {} parameters, {:.1f} s</title><text class=\"end\" x=\"{}\" "
        "y=\"{:.0f}\">{}</text>",
        escape_html(map.name), map.parameters, map.out * map.in, map.seconds, kLabel - 8, y + 10,
        escape_html(name));
    for (size_t c = 0; c < columns.size(); ++c) {
      const double x = kLabel + kColumn * static_cast<double>(c);
      const double share = std::clamp(columns[c].share(map), 0.0, 1.0);
      body += fmt::format(
          "<rect class=\"track\" x=\"{0}\" y=\"{1:.0f}\" width=\"{2}\" height=\"12\" rx=\"2\"/><rect "
          "class=\"a\" x=\"{0}\" "
          "y=\"{1:.0f}\" width=\"{3:.1f}\" height=\"12\" rx=\"2\"/><text x=\"{4}\" y=\"{5:.0f}\">{6}</text>",
          x, y, kBar, share * kBar, x + kBar + 8, y + 10, columns[c].value(map));
    }
    body += "</g>\n";
    y += kRow;
  }
  std::string heads;
  for (size_t c = 0; c < columns.size(); ++c)
    heads += fmt::format("<text class=\"head\" x=\"{}\" y=\"11\">{}</text>",
                         kLabel + kColumn * static_cast<double>(c), columns[c].head);
  return fmt::format(
             "<figure><svg viewBox=\"0 0 {} {:.0f}\" role=\"img\" aria-label=\"Rank, error and predicted "
             "loss of every "
             "map\">\n",
             kLabel + kColumn * static_cast<double>(columns.size()), y) +
         heads + body + "</svg></figure>\n";
}

/// Perplexity on the last text (the one the model was not fitted to, if there is one) against parameters:
/// the original, and each size as compressed and as healed. Nothing where there is one point only.
std::string size_chart(const CompressionReport& r) {
  constexpr double kWidth = 640, kHeight = 260, kLeft = 60, kRight = 130, kTop = 14, kBottom = 40;
  std::vector<MeasuredText> points;
  for (const MeasuredText& t : r.texts)
    if (t.text == r.texts.back().text) points.push_back(t);
  if (points.size() < 2) return "";
  double most = 0, low = 1e300, high = 0;
  for (const MeasuredText& t : points) {
    most = std::max(most, static_cast<double>(t.parameters));
    low = std::min(low, std::log(t.perplexity)), high = std::max(high, std::log(t.perplexity));
  }
  const double pad = 0.08 * std::max(high - low, 0.02);
  low -= pad, high += pad;
  const auto x = [&](const MeasuredText& t) {
    return kLeft + (kWidth - kLeft - kRight) * static_cast<double>(t.parameters) / most;
  };
  const auto y = [&](const MeasuredText& t) {
    return kTop + (kHeight - kTop - kBottom) * (high - std::log(t.perplexity)) / (high - low);
  };
  std::string svg = fmt::format(
      "<figure class=\"plot\"><svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Perplexity against "
      "parameters\">\n"
      "<path class=\"grid\" d=\"M{} {}H{}\"/><text class=\"middle\" x=\"{}\" y=\"{}\">stored "
      "parameters</text>\n",
      kWidth, kHeight, kLeft, kHeight - kBottom, kWidth - kRight, (kLeft + kWidth - kRight) / 2, kHeight - 4);
  const auto draw = [&](std::string_view style, std::string_view name) {
    std::string path, dots;
    for (const MeasuredText& t : points) {
      if (t.model != "before" && !t.model.starts_with(name)) continue;
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(t), y(t));
      dots += fmt::format(
          "<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"><title>{}: {} parameters, perplexity "
          "{:.2f}</title></circle>"
          "<text class=\"end\" x=\"{}\" y=\"{:.1f}\">{:.1f}</text>"
          "<text class=\"middle\" x=\"{:.1f}\" y=\"{}\">{}</text>",
          style, x(t), y(t), escape_html(t.model), t.parameters, t.perplexity, kLeft - 6, y(t) + 4,
          t.perplexity, x(t), kHeight - kBottom + 15, format_count(t.parameters));
    }
    svg += fmt::format("<path class=\"line {}\" d=\"{}\"/>{}\n", style, path, dots);
  };
  draw("b", "compressed");
  const bool healed = points.back().model.starts_with("healed");
  if (healed) draw("a", "healed");
  svg += fmt::format("<text class=\"head\" x=\"{}\" y=\"{:.1f}\">original</text>", x(points[0]) + 10,
                     y(points[0]) + 4);
  return svg + "</svg></figure>\n" +
         fmt::format("<p>On the {} text, the perplexity on a log scale{}.</p>\n", escape_html(points[0].text),
                     healed ? "; orange as compressed, blue as healed" : "");
}

}  // namespace

std::string compression_page(const CompressionReport& r) {
  const int64_t parameters = model::parameter_count(r.config), dense = model::dense_parameter_count(r.config);
  const int64_t macs = model::macs_per_token(r.config, (r.config.context - 1) / 2);
  std::string page = html_page_start(r.name + " · compression", kCompressionStyle);
  page += fmt::format("<h1>{}</h1>\n<p>{} compressed by <code>{}</code>: {}.</p>\n", escape_html(r.name),
                      escape_html(r.source), r.method->name, escape_html(r.method->summary));
  page += "<div class=\"cards\">\n";
  page += card(fmt::format("{:.2f}×", static_cast<double>(dense) / static_cast<double>(parameters)),
               fmt::format("fewer parameters: {} of {}", format_count(parameters), format_count(dense)));
  page += card(format_bytes(r.bytes), fmt::format("of weights; dense {}", format_bytes(r.dense_bytes)));
  page += card(format_count(macs),
               fmt::format("multiply-adds a token; dense {}", format_count(dense_macs(r.config))));
  page += card(fmt::format("{:.1f} s", r.seconds),
               fmt::format("on {} tokens, {} of memory{}", format_count(r.calibration_tokens),
                           format_bytes(r.peak_memory),
                           r.heal_minutes > 0 ? fmt::format("; healed {:g} min", r.heal_minutes) : ""));
  page += "</div>\n<h2>Before and after</h2>\n" + text_table(r);
  page +=
      "<p>Calibration text flatters a model that was fitted to it: judge by another text "
      "(<code>--test</code>). ± is "
      "the standard error of nats per token; KL is to the original, in nats per token.</p>\n";
  const std::string sizes = size_chart(r);
  if (!sizes.empty()) page += "<h2>Perplexity against parameters</h2>\n" + sizes;
  page += "<h2>Where it was lost</h2>\n" + map_chart(r);
  page += "<p>Errors are relative, of the outputs on the calibration text";
  if (r.result->predicted_loss > 0)
    page += fmt::format("; the predicted losses sum to {:.4f} nats a token", r.result->predicted_loss);
  page += ". Point at a row for its parameters and time.</p>\n";
  return page.append(kHtmlPageEnd);
}

}  // namespace qtf::cli
