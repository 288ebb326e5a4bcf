#include "qtf/cli/compress_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qtf/base/html.h"
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
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
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
.track { fill: var(--track); } .a { fill: var(--a); } .b { fill: var(--b); }
.key i { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .9em; border-radius: .15em; }
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
        escape_html(t.model), escape_html(t.text), t.parameters, t.perplexity, t.standard_error,
        t.kl_divergence, 100 * t.same_top, format_count(static_cast<int64_t>(t.tokens_per_second)));
  return "<div "
         "class=\"scroll\"><table><thead><tr><th>model</th><th>text</th><th>parameters</th><th>perplexity</"
         "th>"
         "<th>nats/token</th><th>KL to the original</th><th>same top "
         "token</th><th>tokens/s</th></tr></thead><tbody>\n" +
         rows + "</tbody></table></div>\n";
}

/// A bar of one or two parts a map: `first` and `second` are shares of the track.
struct Bar {
  std::string label, value, hint;
  double first = 0, second = 0;
};

std::string bar_chart(const std::vector<Bar>& bars, std::string_view title) {
  constexpr double kRow = 18, kLabel = 210, kWidth = 620, kValue = 90;
  const double height = kRow * static_cast<double>(bars.size()) + 4;
  std::string svg = fmt::format("<figure><svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
                                kLabel + kWidth + kValue, height, escape_html(title));
  for (size_t i = 0; i < bars.size(); ++i) {
    const Bar& bar = bars[i];
    const double y = kRow * static_cast<double>(i) + 3;
    const auto rect = [&](std::string_view style, double from, double share) {
      return fmt::format(
          "<rect class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"12\" rx=\"2\"/>", style,
          kLabel + from * kWidth, y, std::clamp(share, 0.0, 1.0) * kWidth);
    };
    svg += fmt::format(
        "<g><title>{}</title><text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>{}{}{}"
        "<text x=\"{}\" y=\"{:.1f}\">{}</text></g>\n",
        escape_html(bar.hint), kLabel - 8, y + 10, escape_html(bar.label), rect("track", 0, 1),
        rect("a", 0, bar.first), bar.second > 0 ? rect("b", bar.first, bar.second) : "", kLabel + kWidth + 8,
        y + 10, escape_html(bar.value));
  }
  return svg + "</svg></figure>\n";
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

std::string rank_chart(const CompressionReport& r) {
  std::vector<Bar> bars;
  for (const compress::CompressedMap& map : r.result->maps) {
    const double dense = static_cast<double>(map.out * map.in);
    const bool whole = map.shape.kind == tt::ShapeKind::dense;
    const int64_t rank = tt::level_rank(map.shape, 0);
    bars.push_back({short_name(map.name),
                    whole
                        ? "dense"
                        : fmt::format("{} / {}", rank ? rank : map.shape.ranks[0], std::min(map.out, map.in)),
                    fmt::format("{}: {} of {} parameters", map.name, map.parameters, map.out * map.in),
                    static_cast<double>(map.parameters) / dense});
  }
  return bar_chart(bars, "Parameters kept of every map");
}

/// A bar a map as long as a number of it, the largest filling the track. `value` and `hint` write it.
template <class Value, class Hint>
std::string number_chart(const CompressionReport& r, double compress::CompressedMap::*number,
                         std::string_view title, const Value& value, const Hint& hint) {
  double most = 1e-12;
  for (const compress::CompressedMap& map : r.result->maps) most = std::max(most, map.*number);
  std::vector<Bar> bars;
  for (const compress::CompressedMap& map : r.result->maps)
    bars.push_back({short_name(map.name), value(map), hint(map), map.*number / most});
  return bar_chart(bars, title);
}

std::string error_chart(const CompressionReport& r) {
  using Map = compress::CompressedMap;
  return number_chart(
      r, &Map::output_error, "Relative error of every map's outputs",
      [](const Map& map) { return fmt::format("{:.1f} %", 100 * map.output_error); },
      [](const Map& map) {
        return fmt::format("{}: weights {:.1f} %, outputs {:.1f} %", map.name, 100 * map.error,
                           100 * map.output_error);
      });
}

std::string loss_chart(const CompressionReport& r) {
  using Map = compress::CompressedMap;
  return number_chart(
      r, &Map::predicted_loss, "Predicted loss of every map",
      [](const Map& map) { return fmt::format("{:.2f}", 1000 * map.predicted_loss); },
      [](const Map& map) { return fmt::format("{}: {:.3g} nats/token", map.name, map.predicted_loss); });
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
      "the standard error of nats per token.</p>\n";
  page += "<h2>Parameters kept, rank of full rank</h2>\n" + rank_chart(r);
  page += "<h2>Relative error of the outputs, on the calibration text</h2>\n" + error_chart(r);
  if (r.result->predicted_loss > 0)
    page += fmt::format("<h2>Predicted loss, thousandths of a nat a token ({:.4f} nats in all)</h2>\n",
                        r.result->predicted_loss) +
            loss_chart(r);
  return page.append(kHtmlPageEnd);
}

}  // namespace qtf::cli
