#include "qtf/explain/page.h"

#include <fmt/format.h>

#include "qtf/base/html.h"
#include "qtf/base/json.h"

namespace qtf::explain {

namespace {

constexpr std::string_view kPageStyle =
    R"css(:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa5b1; --line: #3a424c; --paper: #14181d; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0; }
main { max-width: 46rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.05rem; margin: 1.8rem 0 .3rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; } .soft, footer { color: var(--soft); font-size: .875rem; }
details { margin: .3rem 0; } summary { color: var(--soft); font-size: .875rem; cursor: pointer; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
td { padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: .8rem; }
code { overflow-wrap: anywhere; }
@media print { section { break-inside: avoid; } details > * { display: block; } }
)css";

std::string record_name(const Subject& subject) {
  return subject.record > 0 ? fmt::format("record {}", subject.record) : "recomputed from the model";
}

}  // namespace

std::string as_markdown(std::span<const Explanation> explanations, const PageFacts& page) {
  std::string text = fmt::format("# {}\n\n", page.title);
  if (!page.note.empty()) text += page.note + "\n\n";
  for (const Explanation& explanation : explanations) {
    text += fmt::format("## {}\n\n", explanation.subject.title);
    for (const Sentence& sentence : explanation.sentences)
      text += fmt::format("{} ({})\n\n", sentence.text, record_name(explanation.subject));
  }
  text += fmt::format("*{}.*", page.tally);
  if (page.records > 0)
    text += fmt::format(" {} records, root `{}`; check: `{}`", page.records, page.root, page.verify);
  return text + "\n";
}

nlohmann::ordered_json as_json(std::span<const Explanation> explanations, const PageFacts& page) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Explanation& explanation : explanations) {
    nlohmann::ordered_json sentences = nlohmann::ordered_json::array(),
                           facts = nlohmann::ordered_json::object();
    for (const Sentence& sentence : explanation.sentences) {
      sentences.push_back({{"reason", sentence.reason},
                           {"text", sentence.text},
                           {"by", sentence.by_template ? "template" : "explainer"}});
      if (!sentence.fault.empty()) sentences.back()["refused"] = sentence.fault;
    }
    for (const Fact& fact : explanation.subject.facts) facts[fact.id] = fact.text;
    list.push_back({{"subject", explanation.subject.title},
                    {"kind", explanation.subject.kind},
                    {"record", explanation.subject.record},
                    {"statements", sentences},
                    {"facts", facts}});
  }
  nlohmann::ordered_json json = {{"title", page.title}, {"tally", page.tally}, {"explanations", list}};
  if (!page.note.empty()) json["note"] = page.note;
  if (page.records > 0) json["records"] = page.records, json["root"] = page.root;
  return json;
}

std::string as_html(std::span<const Explanation> explanations, const PageFacts& page) {
  std::string html = html_page_start(page.title, kPageStyle);
  html += fmt::format("<h1>{}</h1>\n<p class=\"soft\">{}</p>\n", escape_html(page.title),
                      escape_html(page.tally));
  if (!page.note.empty()) html += fmt::format("<p>{}</p>\n", escape_html(page.note));
  for (const Explanation& explanation : explanations) {
    html += fmt::format("<section>\n<h2>{}</h2>\n", escape_html(explanation.subject.title));
    for (const Sentence& sentence : explanation.sentences)
      html += fmt::format("<p>{}</p>\n", escape_html(sentence.text));
    html +=
        fmt::format("<details><summary>The facts, {}</summary>\n<table>\n", record_name(explanation.subject));
    for (const Fact& fact : explanation.subject.facts)
      html += fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", escape_html(fact.id), escape_html(fact.text));
    html += "</table></details>\n</section>\n";
  }
  if (page.records > 0)
    html += fmt::format(
        "<footer><p>{} records, root <code>{}</code></p><p>Check them: <code>{}</code></p></footer>\n",
        page.records, escape_html(page.root), escape_html(page.verify));
  return html.append(kHtmlPageEnd);
}

}  // namespace qtf::explain
