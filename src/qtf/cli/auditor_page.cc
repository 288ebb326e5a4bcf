#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "qtf/audit/fields.h"
#include "qtf/base/html.h"
#include "qtf/base/parse.h"
#include "qtf/base/quantity.h"
#include "qtf/cli/auditor_report.h"
#include "qtf/cli/help.h"

namespace qtf::cli {

const std::string_view kUsualPassageSource = "A. Lincoln, the Gettysburg Address, 1863";
const std::string_view kUsualPassage =
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in "
    "Liberty, and dedicated to the proposition that all men are created equal. Now we are engaged in a great "
    "civil "
    "war, testing whether that nation, or any nation so conceived and so dedicated, can long endure. We are "
    "met on a "
    "great battle-field of that war. We have come to dedicate a portion of that field, as a final resting "
    "place for "
    "those who here gave their lives that that nation might live. It is altogether fitting and proper that "
    "we should "
    "do this. But, in a larger sense, we can not dedicate, we can not consecrate, we can not hallow this "
    "ground. The "
    "brave men, living and dead, who struggled here, have consecrated it, far above our poor power to add or "
    "detract. "
    "The world will little note, nor long remember what we say here, but it can never forget what they did "
    "here.";

namespace {

constexpr int64_t kMostShownTokens = 400;

constexpr std::string_view kAuditorStyle = R"css(
:root { color-scheme: light dark; --ink: #17202a; --soft: #5a6675; --line: #dfe4ea; --paper: #fbfbfa; --card: #fff;
  --accent: #0f5c6e; --accent-soft: #e3f0f2; --heat: 214, 106, 16; --route: #7a3fb0; --good: #1c7c46; --bad: #b3261e;
  --track: #eceff2; --shadow: 0 1px 2px rgba(16, 24, 32, .05), 0 6px 24px rgba(16, 24, 32, .06); }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ecf1; --soft: #9aa7b5; --line: #2c3540; --paper: #0f1419;
  --card: #161d24; --accent: #62c3d6; --accent-soft: #17303a; --heat: 240, 150, 60; --route: #c39bf0; --good: #5fd08f;
  --bad: #ff8a80; --track: #222b34; --shadow: 0 1px 2px rgba(0, 0, 0, .4); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 system-ui, "Segoe UI", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 3rem 1.25rem 5rem; }
h1, h2 { font-family: ui-serif, Georgia, "Times New Roman", serif; font-weight: 600; letter-spacing: -.01em; line-height: 1.2; }
h1 { font-size: 2.4rem; margin: .2rem 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.45rem; margin: 3rem 0 .7rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; overflow-wrap: anywhere; }
p { margin: .4rem 0; max-width: 46rem; } .lead { font-size: 1.12rem; } .soft { color: var(--soft); font-size: .9rem; }
.eyebrow { text-transform: uppercase; letter-spacing: .12em; font-size: .75rem; font-weight: 600; color: var(--accent); }
.badge { display: inline-block; border-radius: 99px; padding: .15rem .75rem; font-size: .85rem; font-weight: 600;
  border: 1px solid currentColor; color: var(--good); margin: 0 .4rem .4rem 0; } .badge.bad { color: var(--bad); }
.badge.plain { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .9rem; margin: 1.6rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .8rem; padding: 1rem 1.1rem; box-shadow: var(--shadow); }
.card b { display: block; font-size: 1.7rem; line-height: 1.2; font-weight: 650; font-variant-numeric: tabular-nums; letter-spacing: -.02em; }
.card span { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; color: var(--soft); font-size: .8rem; padding: .35rem .7rem; border-bottom: 1.5px solid var(--line); white-space: nowrap; }
td { text-align: right; padding: .4rem .7rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; } td:last-child, th:last-child { padding-right: 0; }
.ref { color: var(--soft); font-size: .78rem; white-space: nowrap; } .ref a { color: inherit; text-decoration-color: var(--line); }
.said { border-left: 3px solid var(--accent-soft); padding-left: .9rem; margin: .55rem 0; }
code, pre { font: .82rem/1.5 ui-monospace, SFMono-Regular, Consolas, monospace; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; }
figure { margin: 1rem 0; } svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; font-variant-numeric: tabular-nums; } svg .dim { fill: var(--soft); font-size: 11px; }
.track { fill: var(--track); } .kept { fill: var(--accent); } .level { stroke: var(--card); stroke-width: 1.5; }
.bar { display: inline-block; vertical-align: middle; width: 7rem; height: .5rem; border-radius: 99px; background: var(--track); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--accent); } .bar i.over { background: var(--bad); }
.choose { position: absolute; opacity: 0; } .chips { display: flex; flex-wrap: wrap; gap: .4rem; margin: .8rem 0; }
.chips label { border: 1px solid var(--line); border-radius: 99px; padding: .15rem .8rem; font-size: .85rem; cursor: pointer; background: var(--card); }
.passage { position: relative; background: var(--card); border: 1px solid var(--line); border-radius: .8rem; padding: 1.3rem 1.4rem 4.6rem;
  box-shadow: var(--shadow); font-size: 1.05rem; line-height: 2.15; overflow-wrap: anywhere; }
.t { --e: var(--m); --v: var(--w); background: rgba(var(--heat), calc(var(--e) * .62)); border-radius: .25rem; padding: .12rem 0;
  border-bottom: calc(var(--v) * 1px) solid var(--accent); white-space: pre-wrap; cursor: default; outline: none; }
.t.q { box-shadow: 0 0 0 1.6px var(--route); }
.t:hover, .t:focus { background: rgba(var(--heat), .95); color: #fff; }
.tip { display: none; position: absolute; left: 1.4rem; right: 1.4rem; bottom: .9rem; color: var(--ink); font-size: .85rem; line-height: 1.4;
  border-top: 1px solid var(--line); padding-top: .5rem; white-space: normal; background: var(--card); min-height: 3.1rem; }
.t:hover .tip, .t:focus .tip { display: block; } .passage:not(:hover) .t:focus .tip { display: block; }
.tip b { font-weight: 650; } .tip span { white-space: nowrap; margin-right: .9rem; }
.hint { position: absolute; left: 1.4rem; bottom: 1.1rem; } .passage:hover .hint { visibility: hidden; }
.legend { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: center; } .legend i { display: inline-block; vertical-align: middle; margin-right: .4rem; }
.ramp { width: 6rem; height: .7rem; border-radius: 99px; background: linear-gradient(90deg, rgba(var(--heat), 0), rgba(var(--heat), .62)); border: 1px solid var(--line); }
.ring { width: 1rem; height: .9rem; border-radius: .2rem; box-shadow: 0 0 0 1.6px var(--route); } .lines { width: 1.2rem; height: .9rem; border-bottom: 4px solid var(--accent); }
footer { margin-top: 3.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --card: #fff; --accent: #0f5c6e; --accent-soft: #d7e6e9;
    --heat: 214, 106, 16; --route: #7a3fb0; --good: #1c7c46; --bad: #b3261e; --track: #e6e9ec; --shadow: none; }
  @page { size: A4; margin: 16mm 14mm; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { font-size: 10pt; line-height: 1.5; } main { padding: 0; max-width: none; } h1 { font-size: 22pt; }
  h2, h3 { break-after: avoid; } h2 { margin-top: 1.6rem; padding-top: .8rem; } .card, figure, tr, .said, pre { break-inside: avoid; }
  .chips, .hint, .tip { display: none !important; } .passage { padding-bottom: 1.2rem; line-height: 1.9; }
  .scroll { overflow: visible; } table { width: 100%; font-size: 8.5pt; } th, td { padding: .35rem .4rem; white-space: normal; }
  .cards { grid-template-columns: repeat(3, 1fr); } footer { margin-top: 1rem; break-before: avoid; }
}
)css";

std::string figure_card(const std::string& big, const std::string& small) {
  return fmt::format("<div class=\"card\"><b>{}</b><span>{}</span></div>\n", big, small);
}

std::string status_badge(bool good, const std::string& text) {
  return fmt::format("<span class=\"badge{}\">{} {}</span>", good ? "" : " bad", good ? "✓" : "✗", text);
}

std::string record_ref(int64_t number) {
  if (number < 1) return "<span class=\"ref\">computed from the model now</span>";
  return fmt::format("<span class=\"ref\">record {}</span>", number);
}
std::string record_ref(const NumberedRecord* record) {
  return record ? fmt::format("<span class=\"ref\"><a href=\"#r{0}\">record {0}</a></span>", record->number)
                : std::string();
}

int64_t whole_number(const std::string& digits) {
  return digits.empty() ? 0 : audit::parse_integer(nlohmann::json(digits));
}

std::string percent_text(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

std::string shown_field(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? escape_html(found->get<std::string>()) : std::string();
}

/// A perplexity of the last making: the figure, or the last of its texts.
struct Quality {
  std::string before, after, text;
  const NumberedRecord* record = nullptr;
};

Quality quality_of(const ModelRecords& records) {
  Quality quality;
  if (const NumberedRecord* made = records.made("texts")) {
    const auto& texts = made->data["figures"]["texts"];
    quality.record = made;
    for (const auto& one : texts)
      if (one.value("text", "") == texts.back().value("text", "")) {
        const std::string value = one.value("perplexity", "");
        const std::string model = one.value("model", "");
        if (model == "before") quality.before = value;
        // "healed, level 2 of 4": a smaller model inside of this one.
        if (model.find("level") == std::string::npos)
          quality.after = value, quality.text = one.value("text", "");
      }
    return quality;
  }
  quality.record = records.made("perplexity");
  quality.after = figure(quality.record, "perplexity");
  quality.text = figure(quality.record, "word_perplexity").empty() ? "given" : "validation";
  return quality;
}

std::string opening_part(const AuditorReport& r) {
  const NumberedRecord* made = r.records.made("parameters");
  const int64_t parameters = whole_number(figure(made, "parameters")),
                dense = whole_number(figure(made, "dense_parameters"));
  const Quality quality = quality_of(r.records);
  const bool whole = r.records.found.problems.empty(), same = r.replay.same == r.replay.decisions;
  std::string html =
      fmt::format("<div class=\"eyebrow\">Model audit report</div>\n<h1>{}</h1>\n", escape_html(r.name));
  html += status_badge(whole, fmt::format("{} records, consistent", r.records.found.count));
  html += status_badge(same, fmt::format("{} of {} decisions taken again, to the same bits", r.replay.same,
                                         r.replay.decisions));
  html += fmt::format("<span class=\"badge plain\">{}</span>\n", escape_html(r.tally));
  std::string lead;
  const NumberedRecord* compress = r.records.started("compress");
  const NumberedRecord* budget = r.records.started("budget");
  const NumberedRecord* start = compress ? compress : budget;
  if (start && parameters > 0)
    lead = fmt::format(
        "This model was made from <b>{}</b> by keeping {} of its {} parameters: {:.2f} times fewer{}.",
        shown_field(start->data, "source"), explain::grouped(parameters), explain::grouped(dense),
        static_cast<double>(dense) / static_cast<double>(parameters),
        budget ? ", so that it keeps the budgets below" : "");
  else if (parameters > 0)
    lead = fmt::format("This model was trained from random weights. It stores {} parameters.",
                       explain::grouped(parameters));
  if (!quality.before.empty())
    lead += fmt::format(" Its perplexity on the {} text went from {} to {}.", escape_html(quality.text),
                        escape_html(quality.before), escape_html(quality.after));
  html += fmt::format("<p class=\"lead\">{}</p>\n<div class=\"cards\">\n", lead);
  if (parameters > 0) {
    html += figure_card(explain::grouped(parameters),
                        dense > parameters ? fmt::format("parameters, of {} in the equal dense model",
                                                         explain::grouped(dense))
                                           : std::string("parameters"));
    html += figure_card(format_quantity(whole_number(figure(made, "bytes")), Quantity::bytes), "of weights");
  }
  if (!quality.after.empty())
    html += figure_card(escape_html(quality.after),
                        quality.before.empty()
                            ? fmt::format("perplexity on the {} text", escape_html(quality.text))
                            : fmt::format("perplexity on the {} text; before: {}", escape_html(quality.text),
                                          escape_html(quality.before)));
  if (r.records.measurement) {
    const auto& q = r.records.measurement->data.at("question");
    html += figure_card(format_quantity(whole_number(shown_field(q, "p95_ns")), Quantity::duration),
                        "a query, 95th percentile");
    html += figure_card(format_quantity(whole_number(shown_field(q, "measured_nj")), Quantity::energy),
                        "a query, " + shown_field(q, "energy_tier"));
  }
  return html + "</div>\n";
}

std::string reasons_part(const AuditorReport& r) {
  std::string html = "<h2>What was done, and why</h2>\n";
  for (const explain::Explanation& explanation : r.explanations) {
    std::string said;
    for (const explain::Sentence& sentence : explanation.sentences)
      if (!sentence.reason.starts_with("quality_measured"))  // the table below has them
        said += fmt::format("<p class=\"said\">{} {}</p>\n", escape_html(sentence.text),
                            record_ref(explanation.subject.record));
    if (!said.empty()) html += fmt::format("<h3>{}</h3>\n", escape_html(explanation.subject.title)) + said;
  }
  return html +
         "<p class=\"soft\">Numbers are put into the sentences by the program, from the record that is "
         "named. A "
         "“because” stands only where the decision, taken again with the cited cause moved across its "
         "threshold, "
         "comes out otherwise.</p>\n";
}

// ---- ranks ----

/// Share of a map's parameters that a level keeps, and what stands beside its bar.
struct MapRank {
  std::string label, value, hint;
  double share = 1;
  std::vector<double> levels;  ///< of smaller nested ones
};

MapRank rank_of_map(const model::ModelConfig& config, const model::MapSpec& map) {
  const tt::WeightShape shape = model::shape_of(config, map);
  const double dense = static_cast<double>(map.out) * static_cast<double>(map.in);
  const size_t dot = map.name.rfind('.');
  MapRank rank{dot == std::string::npos ? map.name : map.name.substr(dot + 1), {}, {}, 1, {}};
  const int64_t stored = tt::parameters(shape);
  rank.share = static_cast<double>(stored) / dense;
  const int64_t full = std::min(map.out, map.in), own = tt::level_rank(shape, 0);
  rank.value = shape.kind == tt::ShapeKind::dense ? std::string("dense")
               : own > 0                          ? fmt::format("rank {} of {}", own, full)
                         : std::string(tt::shape_kinds()[static_cast<size_t>(shape.kind)].name);
  rank.hint = fmt::format("{}: {} of {} parameters, {}", map.name, explain::grouped(stored),
                          explain::grouped(map.out * map.in), rank.value);
  for (int level = 1; own > 0 && level < model::level_count(config); ++level)
    if (const int64_t smaller = tt::level_rank(shape, level); smaller > 0 && smaller < own)
      rank.levels.push_back(rank.share * static_cast<double>(smaller) / static_cast<double>(own));
  return rank;
}

std::string ranks_part(const AuditorReport& r) {
  constexpr double kRow = 21, kHead = 30, kName = 92, kBar = 228, kValue = 152,
                   kColumn = kName + kBar + kValue + 24;
  std::map<int64_t, std::vector<MapRank>> layers;
  for (const model::MapSpec& map : model::linear_maps(r.config))
    layers[map.layer].push_back(rank_of_map(r.config, map));
  double y[2] = {0, 0};
  std::string body;
  for (const auto& [layer, maps] : layers) {
    const int column = y[1] < y[0] ? 1 : 0;
    const double x = column * kColumn;
    body += fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" font-weight=\"600\">{}</text>\n", x, y[column] + 18,
                        layer < 0 ? std::string("Embedding and head") : fmt::format("Layer {}", layer));
    double at = y[column] + kHead;
    for (const MapRank& map : maps) {
      body += fmt::format(
          "<g><title>{}</title><text class=\"dim\" x=\"{:.0f}\" y=\"{:.1f}\">{}</text>"
          "<rect class=\"track\" x=\"{:.0f}\" y=\"{:.1f}\" width=\"{}\" height=\"11\" rx=\"3\"/>"
          "<rect class=\"kept\" x=\"{:.0f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"11\" rx=\"3\"/>",
          escape_html(map.hint), x, at + 10, escape_html(map.label), x + kName, at + 1, kBar, x + kName,
          at + 1, std::clamp(map.share, 0.0, 1.0) * kBar);
      for (const double share : map.levels)
        body +=
            fmt::format("<line class=\"level\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\"/>",
                        x + kName + share * kBar, at + 1, at + 12);
      body += fmt::format("<text class=\"dim\" x=\"{:.0f}\" y=\"{:.1f}\">{} · {}</text></g>\n",
                          x + kName + kBar + 8, at + 10, escape_html(map.value), percent_text(map.share));
      at += kRow;
    }
    y[column] = at + 8;
  }
  return fmt::format(
      "<h2>Rank by layer</h2>\n<p>Each bar is the share of a map's parameters that was kept{}.</p>\n"
      "<figure><svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"Rank by "
      "layer\">\n{}</svg></figure>\n",
      model::level_count(r.config) > 1 ? "; notches are the smaller nested levels that a token may take" : "",
      2 * kColumn - 24, std::max(y[0], y[1]), body);
}

// ---- the passage ----

struct EntropyRange {
  double low = 1, high = 0;
  void add(double value) { low = std::min(low, value), high = std::max(high, value); }
  /// Where a value lies between pale and strong.
  double share(double value) const { return high > low ? (value - low) / (high - low) : 0; }
};

std::string word_html(const std::string& word) {
  const std::string shown = shown_token(word);
  if (word == "\n") return "↵<br>";
  return escape_html(shown);
}

std::string token_html(const AuditorReport& r, int64_t t, const std::vector<EntropyRange>& ranges,
                       const EntropyRange& over_layers, const std::vector<double>& means) {
  const DecidedTokens& p = r.passage;
  std::string style = fmt::format("--m:{:.2f}", over_layers.share(means[static_cast<size_t>(t)]));
  std::string tip;
  int64_t levels = 0, governed = 0;
  for (int64_t layer = 0; layer < p.layers; ++layer) {
    const double entropy = static_cast<double>(p.entropy[p.at(layer, t)]);
    const int level = p.levels[p.at(layer, t)];
    style += fmt::format(";--e{}:{:.2f};--v{}:{}", layer, ranges[static_cast<size_t>(layer)].share(entropy),
                         layer, level);
    levels += level, governed += level > 0;
    tip += fmt::format("<span>layer {}: entropy {:.3f}", layer, entropy);
    if (level > 0) {
      const double rank = model::block_rank(r.config, layer, level);
      tip += fmt::format(", level {}, rank {:.0f}", level, rank);
    }
    tip += "</span>";
  }
  style += fmt::format(";--w:{:.1f}",
                       governed ? static_cast<double>(levels) / static_cast<double>(governed) : 0.0);
  const uint8_t routed = p.routed[static_cast<size_t>(t)];
  const std::string word = word_html(p.words[static_cast<size_t>(t)]);
  return fmt::format(
      "<span class=\"t{}\" tabindex=\"0\" style=\"{}\">{}<span class=\"tip\"><b>Token {}</b> “{}”{} · "
      "{}</span></span>",
      routed == 1 ? " q" : "", style, word, t, escape_html(shown_token(p.words[static_cast<size_t>(t)])),
      routed == 2   ? ""
      : routed == 1 ? fmt::format(" · <b>through the quantum layer</b> (score {:.3f})",
                                  static_cast<double>(p.scores[static_cast<size_t>(t)]))
                    : fmt::format(" · not through the quantum layer (score {:.3f})",
                                  static_cast<double>(p.scores[static_cast<size_t>(t)])),
      tip);
}

std::string passage_part(const AuditorReport& r) {
  const DecidedTokens& p = r.passage;
  if (p.words.empty()) return {};
  const int64_t shown = std::min(p.tokens, kMostShownTokens);
  std::vector<EntropyRange> ranges(static_cast<size_t>(p.layers));
  EntropyRange over_layers;
  std::vector<double> means;
  for (int64_t t = 0; t < shown; ++t) {
    double sum = 0;
    for (int64_t layer = 0; layer < p.layers; ++layer) {
      const double entropy = static_cast<double>(p.entropy[p.at(layer, t)]);
      sum += entropy;
      if (t > 0) ranges[static_cast<size_t>(layer)].add(entropy);  // the first attends to nothing
    }
    means.push_back(sum / static_cast<double>(p.layers));
    if (t > 0) over_layers.add(means.back());
  }
  std::string css, radios, chips, tokens;
  for (int64_t layer = -1; layer < p.layers; ++layer) {
    const std::string id = layer < 0 ? std::string("all") : fmt::format("l{}", layer);
    const EntropyRange& range = layer < 0 ? over_layers : ranges[static_cast<size_t>(layer)];
    radios += fmt::format("<input class=\"choose\" type=\"radio\" name=\"layer\" id=\"{}\"{}>", id,
                          layer < 0 ? " checked" : "");
    chips += fmt::format("<label for=\"{}\" title=\"entropies from {:.3f} (pale) to {:.3f}\">{}</label>", id,
                         range.low, range.high,
                         layer < 0 ? std::string("mean of the layers") : fmt::format("layer {}", layer));
    css += fmt::format(
        "#{0}:checked~.chips "
        "label[for={0}]{{background:var(--accent);color:var(--card);border-color:var(--accent)}}",
        id);
    css += fmt::format("#{0}:focus-visible~.chips label[for={0}]{{outline:2px solid var(--route)}}", id);
    if (layer >= 0) css += fmt::format("#l{0}:checked~.passage .t{{--e:var(--e{0});--v:var(--v{0})}}", layer);
  }
  for (int64_t t = 0; t < shown; ++t) tokens += token_html(r, t, ranges, over_layers, means);
  const bool quantum = p.routed[0] != 2;
  const auto routed = std::count(p.routed.begin(), p.routed.end(), uint8_t{1});
  std::string html = fmt::format(
      "<h2>Where the model looks: a passage, token by token</h2>\n<p>{}, {} tokens{}. The stronger the "
      "colour, the more "
      "places the token's attention spreads over (its attention entropy, from {:.2f} to {:.2f} "
      "here){}.{}</p>\n",
      escape_html(r.passage_of), p.tokens,
      shown < p.tokens ? fmt::format(", of which {} are shown", shown) : std::string(), over_layers.low,
      over_layers.high,
      r.policy.empty()
          ? "; this model picks no levels by it"
          : fmt::format("; the thicker the line below it, the larger the level, and so the ranks, that "
                        "it took ({})",
                        escape_html(r.policy)),
      quantum ? fmt::format(" {} tokens, ringed, passed the simulated quantum layer ({}; the quota is {}).",
                            routed, percent_text(static_cast<double>(routed) / static_cast<double>(p.tokens)),
                            percent_text(r.config.quantum->fraction()))
              : std::string());
  html += "<style>" + css + "</style>\n" + radios + "\n<div class=\"chips\">" + chips + "</div>\n";
  html +=
      "<div class=\"passage\">" + tokens +
      "<span class=\"hint soft\">Point at a token, or reach it by the Tab key, to see its entropy, rank and "
      "route.</span></div>\n";
  html += "<p class=\"soft legend\"><span><i class=\"ramp\"></i>attention entropy</span>";
  if (!r.policy.empty()) html += "<span><i class=\"lines\"></i>level of the token, 1 px each</span>";
  if (quantum) html += "<span><i class=\"ring\"></i>through the quantum layer</span>";
  return html + "</p>\n";
}

// ---- tables ----

std::string auditor_table(const std::string& head, const std::string& rows) {
  return "<div class=\"scroll\"><table><thead><tr>" + head + "</tr></thead><tbody>\n" + rows +
         "</tbody></table></div>\n";
}

std::string budget_line(const char* what, const std::string& asked, const std::string& measured, double share,
                        const std::string& from) {
  const std::string bar = asked == "–"
                              ? std::string()
                              : fmt::format("<span class=\"bar\"><i{} style=\"width:{:.1f}%\"></i></span> {}",
                                            share > 1.03 ? " class=\"over\"" : "", 100 * std::min(1.0, share),
                                            percent_text(share));
  return fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n", what, asked,
                     measured, bar, from);
}

std::string budgets_part(const AuditorReport& r) {
  std::string rows, query;
  const auto row = [&](const char* what, const std::string& asked, const std::string& measured,
                       Quantity quantity, const std::string& from) {
    if (measured.empty()) return;
    const int64_t value = whole_number(measured), limit = whole_number(asked);
    const auto text = [&](int64_t number) {
      return quantity == Quantity::count ? explain::grouped(number) : format_quantity(number, quantity);
    };
    rows += budget_line(what, asked.empty() ? "–" : text(limit), text(value),
                        limit > 0 ? static_cast<double>(value) / static_cast<double>(limit) : 0, from);
  };
  if (const NumberedRecord* made = r.records.made("asked")) {
    const auto& asked = made->data["figures"]["asked"];
    query = shown_field(made->data["figures"], "query");
    row("parameters", shown_field(asked, "parameters"), figure(made, "parameters"), Quantity::count,
        record_ref(made));
    row("bytes of weights", shown_field(asked, "bytes"), figure(made, "bytes"), Quantity::bytes,
        record_ref(made));
    row("time of a query, 95th percentile", shown_field(asked, "latency_ns"), figure(made, "p95_ns"),
        Quantity::duration, record_ref(made));
    row("energy of a query", shown_field(asked, "energy_nj"), figure(made, "energy_nj"), Quantity::energy,
        record_ref(made));
  } else if (r.records.allocation) {
    const auto& data = r.records.allocation->data;
    row("parameters", shown_field(data.at("question"), "budget"), shown_field(data.at("answer"), "cost"),
        Quantity::count, record_ref(r.records.allocation->number));
  }
  if (rows.empty()) return "<h2>Budgets</h2>\n<p>No budget was asked for.</p>\n";
  return "<h2>Budgets, asked and measured</h2>\n" +
         (query.empty() ? std::string() : "<p>A query: " + query + ".</p>\n") +
         auditor_table("<th>budget</th><th>at most</th><th>measured</th><th>used</th><th></th>", rows);
}

std::string quality_part(const AuditorReport& r) {
  std::string rows;
  if (const NumberedRecord* made = r.records.made("texts")) {
    for (const auto& one : made->data["figures"]["texts"]) {
      const auto bits = [&](const char* key, const char* format, double factor) {
        return one.contains(key) ? fmt::format(fmt::runtime(format), factor * audit::double_field(one, key))
                                 : std::string();
      };
      const bool original = shown_field(one, "model") == "before";
      rows += fmt::format(
          "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></"
          "tr>\n",
          shown_field(one, "model"), shown_field(one, "text"),
          explain::grouped(whole_number(shown_field(one, "parameters"))), shown_field(one, "perplexity"),
          bits("nats_error_bits", "± {:.4f}", 1), original ? "" : bits("kl_divergence_bits", "{:.4f}", 1),
          original ? "" : bits("same_top_bits", "{:.1f} %", 100), record_ref(made));
    }
    const auto& last = made->data["figures"]["texts"].back();
    std::string protocol;
    if (last.contains("context"))
      protocol = fmt::format(
          "<p class=\"soft\">Protocol: {} tokens scored, in windows of {} that move by {}; perplexity a "
          "token of the model's own tokenizer; ± is the standard error of the nats a token. The "
          "calibration text flatters a model that was fitted to it.</p>\n",
          shown_field(last, "tokens"), shown_field(last, "context"), shown_field(last, "stride"));
    return "<h2>Quality</h2>\n" +
           auditor_table(
               "<th>model</th><th>text</th><th>parameters</th><th>perplexity</th><th>± nats/token</th><th>KL "
               "to the "
               "original</th><th>same top token</th><th></th>",
               rows) +
           protocol;
  }
  const NumberedRecord* made = r.records.made("word_perplexity");
  if (!made && r.records.made("perplexity")) {
    made = r.records.made("perplexity");
    return "<h2>Quality</h2>\n" +
           auditor_table("<th>text</th><th>perplexity a token</th><th></th>",
                         fmt::format("<tr><td>given</td><td>{}</td><td>{}</td></tr>\n",
                                     escape_html(figure(made, "perplexity")), record_ref(made)));
  }
  if (!made) return "<h2>Quality</h2>\n<p>No text was measured.</p>\n";
  rows = fmt::format("<tr><td>validation</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                     escape_html(figure(made, "nats_per_token")), escape_html(figure(made, "perplexity")),
                     escape_html(figure(made, "word_perplexity")), escape_html(figure(made, "bits_per_byte")),
                     record_ref(made));
  return "<h2>Quality</h2>\n" +
         auditor_table(
             "<th>text</th><th>nats/token</th><th>perplexity a token</th><th>a "
             "word</th><th>bits/byte</th><th></th>",
             rows) +
         fmt::format("<p class=\"soft\">Protocol: {} tokens scored, in windows of {} that move by {}.</p>\n",
                     escape_html(figure(made, "tokens")), escape_html(figure(made, "context")),
                     escape_html(figure(made, "stride")));
}

std::string energy_part(const AuditorReport& r) {
  if (!r.records.measurement)
    return "<h2>Time and energy</h2>\n<p>Not measured. <code>qtf explain MODEL --measure --out "
           "report.html</code> times a "
           "query on this machine, with its energy, and records it.</p>\n";
  const auto& q = r.records.measurement->data.at("question");
  const auto joules = [&](const char* key) {
    return format_quantity(whole_number(shown_field(q, key)), Quantity::energy);
  };
  return "<h2>Time and energy</h2>\n" +
         auditor_table(
             "<th>of a query</th><th>value</th><th>interval</th><th>tier</th><th></th>",
             fmt::format("<tr><td>time, median</td><td>{}</td><td></td><td>measured</td><td>{}</td></tr>\n",
                         format_quantity(whole_number(shown_field(q, "p50_ns")), Quantity::duration),
                         record_ref(r.records.measurement->number)) +
                 fmt::format("<tr><td>time, 95th percentile of {} "
                             "runs</td><td>{}</td><td></td><td>measured</td><td>{}</td></tr>\n",
                             shown_field(q, "runs"),
                             format_quantity(whole_number(shown_field(q, "p95_ns")), Quantity::duration),
                             record_ref(r.records.measurement->number)) +
                 fmt::format("<tr><td>energy</td><td>{}</td><td>{} to {}</td><td>{}</td><td>{}</td></tr>\n",
                             joules("measured_nj"), joules("least_nj"), joules("most_nj"),
                             shown_field(q, "energy_tier"), record_ref(r.records.measurement->number))) +
         "<p class=\"soft\">“Measured” energy was read from a counter of the processor; “modelled” is watts "
         "times busy "
         "time, and the interval says how far the watts may be off.</p>\n";
}

std::string checking_part(const AuditorReport& r) {
  const std::string root = to_hex(r.records.found.root);
  std::string rows;
  for (const NumberedRecord& record : r.records.making)
    rows += fmt::format(
        "<tr id=\"r{0}\"><td>{0}</td><td>{1}</td><td>{2}</td><td>{3}</td><td><code>{4}…</code></td></tr>\n",
        record.number, record.time, escape_html(record.kind), shown_field(record.data, "command"),
        record.hash.substr(0, 16));
  std::string kinds;
  for (const auto& [kind, count] : r.records.decisions)
    kinds += fmt::format("{}{} of {}", kinds.empty() ? "" : ", ", count, escape_html(kind));
  std::string files;
  if (const NumberedRecord* finished = r.records.finished(); finished && finished->data.contains("files"))
    for (const auto& [file, hash] : finished->data["files"].items())
      files += fmt::format("{}  {}\n", escape_html(hash.get<std::string>()), escape_html(file));
  return fmt::format(
             "<h2>How to check this yourself</h2>\n<p>All of the above stands in <code>audit.sqlite</code> "
             "of the model's folder: "
             "{} records, of which {} are decisions ({}). Their hashes form chains and one Merkle tree with "
             "the root</p>\n"
             "<pre>{}</pre>\n<p>Keep the root elsewhere than the file. Then, in the folder that holds the "
             "model:</p>\n"
             "<pre>{}\nqtf audit replay {}</pre>\n"
             "<p class=\"soft\">The first finds any record that was changed, removed, inserted or moved, and "
             "a cut end; the second "
             "takes every decision again and compares. <code>tests/audit_verifier.py</code> of qtf's source "
             "is a second verifier, "
             "in Python alone; <code>docs/audit.md</code> has the format.</p>\n",
             r.records.found.count, r.replay.decisions, kinds.empty() ? "none" : kinds, root,
             escape_html(audit::verify_command(r.name, r.records.found)), escape_html(r.name)) +
         "<h3>How the model came to be</h3>\n" +
         auditor_table("<th>record</th><th>time</th><th>kind</th><th>command</th><th>SHA-256</th>", rows) +
         (files.empty()
              ? std::string()
              : "<h3>Its files (<code>sha256sum -c</code> reads this list)</h3>\n<pre>" + files + "</pre>\n");
}

}  // namespace

std::string auditor_page(const AuditorReport& r) {
  std::string html = html_page_start(r.name + " · audit report", kAuditorStyle);
  html += opening_part(r) + reasons_part(r) + ranks_part(r) + passage_part(r) + budgets_part(r) +
          quality_part(r) + energy_part(r) + checking_part(r);
  html += fmt::format(
      "<footer class=\"soft\">Made by qtf {} from the model's records alone; this file loads nothing from "
      "anywhere. The "
      "quantum layer of a model, where there is one, is simulated on the same processor; no claim of an "
      "advantage is "
      "made.</footer>\n",
      version());
  return html.append(kHtmlPageEnd);
}

}  // namespace qtf::cli
