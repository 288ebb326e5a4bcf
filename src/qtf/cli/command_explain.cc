#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>

#include "qtf/audit/replay.h"
#include "qtf/audit/verify.h"
#include "qtf/base/file.h"
#include "qtf/cli/command.h"
#include "qtf/cli/decision_kinds.h"
#include "qtf/cli/making_records.h"
#include "qtf/explain/page.h"

namespace qtf::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDecisionPrefix = "decision.";

/// What of an audit file's records can be explained.
std::vector<explain::Subject> recorded_subjects(const fs::path& file, const explain::Wanted& wanted) {
  std::vector<explain::Subject> subjects, making;
  for (const int segment : audit::present_segments(file)) {
    audit::SegmentReader reader(audit::segment_path(file, segment));
    for (audit::StoredRecord row; reader.next(row);) {
      const audit::RecordFields fields = audit::parse_record(row.bytes);
      const nlohmann::json data = nlohmann::json::parse(fields.data);
      if (fields.kind == "making.end" && wanted.map.empty())
        making = explain::subjects_of_making(data, row.sequence);  // the last one holds
      if (!fields.kind.starts_with(kDecisionPrefix)) continue;
      const audit::Decision decision{std::string(fields.kind.substr(kDecisionPrefix.size())),
                                     data.value("question", nlohmann::json()),
                                     data.value("answer", nlohmann::json())};
      for (explain::Subject& subject : explain::subjects_of(decision, row.sequence, wanted, decision_kinds()))
        subjects.push_back(std::move(subject));
    }
  }
  subjects.insert(subjects.begin(), making.begin(), making.end());
  return subjects;
}

/// By the ending of --out: Markdown if there is none.
std::string explanation_text(const std::vector<explain::Explanation>& explanations,
                             const explain::PageFacts& page, const std::string& format) {
  if (format == "html") return explain::as_html(explanations, page);
  if (format == "json") return explain::as_json(explanations, page).dump() + "\n";
  return explain::as_markdown(explanations, page);
}

std::string output_format(const Arguments& arguments) {
  if (!arguments.given("--out")) return arguments.flag("--json") ? "json" : "md";
  const std::string ending = fs::path(arguments.text("--out")).extension().string();
  for (const char* format : {"html", "json", "md"})
    if (ending == std::string(".") + format) return format;
  throw_input_error("--out", "expected a name that ends in .html, .json or .md, got '{}'",
                    arguments.text("--out"));
}

/// Keeps what was asked and answered in the file, beside the decisions it is about.
void record_explanations(const fs::path& file, const std::vector<explain::Explanation>& explanations,
                         const explain::Explainer& explainer) {
  audit::Log log(file);
  for (const explain::Explanation& explanation : explanations) {
    nlohmann::json sentences = nlohmann::json::array();
    for (const explain::Sentence& sentence : explanation.sentences)
      sentences.push_back({{"reason", sentence.reason},
                           {"text", sentence.text},
                           {"by", sentence.by_template ? "template" : "explainer"},
                           {"refused", sentence.fault}});
    log.append("explanation", {{"facts_hash", explanation.subject.hash()},
                               {"record", std::to_string(explanation.subject.record)},
                               {"model", explainer.model()},
                               {"prompt_hash", sha256_hex(explainer.prompt(explanation.subject))},
                               {"answer", explanation.answer.raw},
                               {"problem", explanation.answer.problem},
                               {"sentences", sentences}});
  }
  log.flush();
}

void run_explain(const Arguments& arguments, const Streams& streams) {
  const std::string format = output_format(arguments);
  const fs::path given = arguments.text("FILE");
  const fs::path file = fs::is_directory(given) ? given / kAuditFile : given;
  if (arguments.given("--layer") && arguments.given("--map"))
    throw UsageError("--layer and --map contradict each other; give one");
  explain::Wanted wanted{arguments.text("--map")};
  if (arguments.given("--layer")) wanted.map = fmt::format("layers.{}.", arguments.integer("--layer"));
  const auto explainer = explain::make_explainer(arguments.text("--explainer"));
  const audit::Verification found = audit::verify(file);
  if (!found.problems.empty())
    throw_input_error("explain", "the file is not consistent ({}); run qtf audit verify",
                      found.problems[0].what);
  std::vector<explain::Subject> subjects = recorded_subjects(file, wanted);
  if (subjects.empty())
    throw_input_error("explain", "{} has no record of {}", file.string(),
                      wanted.map.empty() ? "a decision or a model" : "a map called *" + wanted.map + "*");
  const std::vector<explain::Explanation> explanations =
      explain::explain_all(std::move(subjects), *explainer);
  if (!explainer->model().empty()) record_explanations(file, explanations, *explainer);
  const explain::PageFacts page{.title = fs::absolute(given).lexically_normal().filename().string(),
                                .tally = explain::tally(explanations, *explainer),
                                .root = to_hex(found.root),
                                .records = found.count,
                                .verify = fmt::format("qtf audit verify {} --count {} --root {}",
                                                      given.string(), found.count, to_hex(found.root))};
  const std::string text = explanation_text(explanations, page, format);
  if (!arguments.given("--out")) {
    streams.out << text;
    return;
  }
  write_file_atomically(arguments.text("--out"), text);
  streams.out << fmt::format("{}; in {}\n", page.tally, arguments.text("--out"));
}

}  // namespace

extern const Command kExplainCommand;
const Command kExplainCommand{
    .name = "explain",
    .summary = "Say in plain language why decisions were taken",
    .details =
        "Reads the records of a model folder or an audit file, and tells of each decision its reason, the "
        "mechanism and the numbers. The sentences are the program's own, or K2 Think's (--explainer k2: "
        "QTF_K2_URL, QTF_K2_MODEL and QTF_K2_API_KEY say where); numbers always come from the records, every "
        "sentence is checked, and one that fails is replaced by the program's own. Nothing of a text is "
        "sent.",
    .example = {.call = "qtf explain book-small --layer 1"},
    .options = {{.name = "FILE",
                 .help = "a model folder with audit.sqlite, or an audit file",
                 .required = true},
                {.name = "--layer",
                 .type = ValueType::integer,
                 .value = "L",
                 .help = "the maps of this layer, from 0, instead of the whole model",
                 .min = 0},
                {.name = "--map", .value = "NAME", .help = "the maps that have this in their names"},
                {.name = "--explainer",
                 .value = "NAME",
                 .initial = "template",
                 .help = "who writes the sentences",
                 .choices = {"template", "k2"}},
                {.name = "--out", .value = "FILE", .help = "write here: .html, .json or .md"},
                {.name = "--json", .type = ValueType::flag, .help = "print JSON"}},
    .run = run_explain,
};

}  // namespace qtf::cli
