#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <ostream>

#include "qtf/adapt/decision_records.h"
#include "qtf/audit/replay.h"
#include "qtf/audit/verify.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/budget/fit.h"
#include "qtf/cli/auditor_report.h"
#include "qtf/cli/command.h"
#include "qtf/cli/decision_kinds.h"
#include "qtf/cli/making_records.h"
#include "qtf/cli/open_model.h"
#include "qtf/cli/rank_options.h"
#include "qtf/cli/recorded_run.h"
#include "qtf/cli/token_decisions.h"
#include "qtf/explain/page.h"

namespace qtf::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDecisionPrefix = "decision.";

/// Of these kinds a search takes many; the last one made the model.
bool only_last_counts(std::string_view kind) {
  return kind == "budget" || kind == "budget_measurement";
}

/// What of an audit file's records can be explained.
std::vector<explain::Subject> recorded_subjects(const fs::path& file, const explain::Wanted& wanted) {
  std::vector<explain::Subject> subjects, making;
  std::map<std::string, std::pair<audit::Decision, int64_t>> last;
  const bool whole = wanted.map.empty() && !wanted.layer;
  bool has_run = false;
  const auto take = [&](const audit::Decision& decision, int64_t record) {
    for (explain::Subject& subject : explain::subjects_of(decision, record, wanted, decision_kinds()))
      subjects.push_back(std::move(subject));
  };
  for (const int segment : audit::present_segments(file)) {
    audit::SegmentReader reader(audit::segment_path(file, segment));
    for (audit::StoredRecord row; reader.next(row);) {
      const audit::RecordFields fields = audit::parse_record(row.bytes);
      has_run = has_run || fields.kind == "run.start";
      if (fields.kind == "making.end" && whole &&
          fields.data.find("\"parameters\"") != std::string_view::npos)
        making =
            explain::subjects_of_making(nlohmann::json::parse(fields.data), row.sequence);  // the last holds
      if (!fields.kind.starts_with(kDecisionPrefix)) continue;
      const nlohmann::json data = nlohmann::json::parse(fields.data);
      audit::Decision decision{std::string(fields.kind.substr(kDecisionPrefix.size())),
                               data.value("question", nlohmann::json()),
                               data.value("answer", nlohmann::json())};
      if (only_last_counts(decision.kind)) {
        const std::string kind = decision.kind;
        last.insert_or_assign(kind, std::pair(std::move(decision), row.sequence));
      } else {
        take(decision, row.sequence);
      }
    }
  }
  for (const auto& [kind, found] : last) take(found.first, found.second);
  subjects.insert(subjects.begin(), making.begin(), making.end());
  if (has_run && whole) subjects.push_back(explain::subject_of_tokens(counts_of(last_run(file)), 0));
  return subjects;
}

/// The model's tokens that --text or --audit name, and what decided about them.
struct ExplainedTokens {
  model::LoadedModel loaded;
  std::unique_ptr<model::RankScheduler> scheduler;
  DecidedTokens decided;
};

/// The scheduler of the options, or the model's own policy if it has one.
std::unique_ptr<model::RankScheduler> scheduler_for(const Arguments& arguments,
                                                    const model::ModelConfig& config) {
  auto scheduler = read_rank_scheduler(arguments, config);
  if (scheduler || !config.rank_policy) return scheduler;
  return std::make_unique<model::RankScheduler>(
      config,
      model::RankOptions{.policy = {config.rank_policy->signal}, .mean = {}, .alpha = {}, .hysteresis = {}});
}

std::optional<ExplainedTokens> explained_tokens(const Arguments& arguments) {
  const bool of_text = arguments.given("--text"), of_run = arguments.given("--audit");
  if (of_text && of_run) throw UsageError("--text and --audit contradict each other; give one");
  if (!of_text && !of_run) {
    for (const char* option : {"--token", "--sequence"})
      if (arguments.given(option))
        throw UsageError(
            fmt::format("{} needs the text, --text FILE, or a run's records, --audit FILE", option));
    return {};
  }
  ThreadPool pool(1);
  ExplainedTokens tokens{open_model(arguments.text("FILE"), "explain"), {}, {}};
  tokens.loaded.model->prepare(tt::Use::inference, pool);
  const model::ModelConfig& config = tokens.loaded.model->config();
  if (of_text) {
    tokens.scheduler = scheduler_for(arguments, config);
    tokens.decided = decide_text(tokens.loaded, tokens.scheduler.get(), read_file(arguments.text("--text")));
  } else {
    const RecordedRun run = last_run(arguments.text("--audit"), true);
    tokens.scheduler = scheduler_of(run, arguments.text("FILE"), config);
    tokens.decided =
        recorded_tokens(run, arguments.given("--sequence") ? arguments.integer("--sequence") : 0);
  }
  return tokens;
}

/// Of one token: its level in each layer, or in the wanted one, and its route.
std::vector<explain::Subject> token_subjects(const ExplainedTokens& tokens, int64_t token,
                                             const explain::Wanted& wanted) {
  std::vector<explain::Subject> subjects = explain::subjects_of_token(
      tokens.decided, token, *tokens.loaded.model, tokens.scheduler.get(), wanted, decision_kinds());
  if (subjects.empty())
    throw_input_error(
        "explain",
        "nothing is decided for token {}: the model has neither levels with a policy nor a quantum layer{}",
        token, wanted.layer ? " there" : "");
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

/// Keeps what was asked and answered now in the file, beside the decisions it is about.
void record_explanations(const fs::path& file, const std::vector<explain::Explanation>& explanations,
                         const explain::Explainer& explainer) {
  const auto is_new = [](const explain::Explanation& explanation) { return explanation.asked; };
  if (explainer.model().empty() || std::ranges::none_of(explanations, is_new)) return;
  audit::Log log(file);
  for (const explain::Explanation& explanation : explanations) {
    if (!is_new(explanation)) continue;
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

/// Answers of the explainer that the file holds, by the hash of what was asked.
std::map<std::string, explain::Answer> recorded_answers(const fs::path& file,
                                                        const explain::Explainer& explainer) {
  std::map<std::string, explain::Answer> answers;
  if (explainer.model().empty()) return answers;
  for (const int segment : audit::present_segments(file)) {
    audit::SegmentReader reader(audit::segment_path(file, segment));
    for (audit::StoredRecord row; reader.next(row);) {
      const audit::RecordFields fields = audit::parse_record(row.bytes);
      if (fields.kind != "explanation") continue;
      const nlohmann::json data = nlohmann::json::parse(fields.data);
      if (data.value("model", "") != explainer.model() || !data.value("problem", "").empty()) continue;
      if (auto answer = explainer.read(data.value("answer", "")))
        answers[data.value("prompt_hash", "")] = std::move(*answer);
    }
  }
  return answers;
}

/// The explanation's place on the page: what it is about, and a token's text.
explain::PageFacts page_of(const fs::path& given, const audit::Verification& found,
                           const std::string& tally) {
  return {.title = name_of(given),
          .note = {},
          .tally = tally,
          .root = to_hex(found.root),
          .records = found.count,
          .verify = audit::verify_command(given.string(), found)};
}

std::vector<explain::Subject> wanted_subjects(const Arguments& arguments, const fs::path& file,
                                              const explain::Wanted& wanted,
                                              const std::optional<ExplainedTokens>& tokens) {
  if (arguments.given("--token")) return token_subjects(*tokens, arguments.integer("--token"), wanted);
  std::vector<explain::Subject> subjects = recorded_subjects(file, wanted);
  const model::ModelConfig* config = tokens ? &tokens->loaded.model->config() : nullptr;
  if (config && (!wanted.layer || *wanted.layer < config->layers))
    subjects.push_back(explain::subject_of_tokens(counts_of(tokens->decided, *config, wanted.layer),
                                                  tokens->decided.record));
  if (subjects.empty())
    throw_input_error("explain", "{} has no record of {}", file.string(),
                      wanted.layer         ? fmt::format("layer {}", *wanted.layer)
                      : wanted.map.empty() ? "a decision or a model"
                                           : "a map called *" + wanted.map + "*");
  return subjects;
}

/// Times a query and its energy on this machine and records it, beside no budget.
void measure_now(const Arguments& arguments, const fs::path& folder) {
  ThreadPool pool(static_cast<int>(arguments.integer("--threads")));
  const model::LoadedModel loaded = open_model(folder.string(), "explain");
  loaded.model->prepare(tt::Use::inference, pool);
  adapt::MeterOptions options;
  options.threads = pool.size();
  if (arguments.given("--watts")) options.watts = adapt::parse_watts(arguments.text("--watts"), "--watts");
  const auto meter = adapt::open_meter("auto", options);
  const int64_t context = loaded.model->config().context;
  const adapt::Query query = arguments.given("--query")
                                 ? adapt::parse_query(arguments.text("--query"))
                                 : adapt::Query{std::max<int64_t>(1, std::min<int64_t>(128, context * 2 / 3)),
                                                std::max<int64_t>(1, std::min<int64_t>(64, context / 3))};
  budget::check_query(loaded.model->config(), query);
  const adapt::Judgement measured =
      budget::judge({}, budget::measure_query(*loaded.model, query, pool, *meter, 0));
  audit::DecisionList decisions;
  decisions.add(adapt::record(measured), adapt::to_json(measured));
  record_start(folder, "measure",
               {{"query", adapt::to_string(query)},
                {"machine", describe(options.machine)},
                {"energy_meter", meter->describe()},
                {"threads", std::to_string(pool.size())}},
               decisions);
}

/// The model with its records, and a passage with what was decided for each of its tokens.
std::string auditor_report(const Arguments& arguments, const std::vector<explain::Explanation>& explanations,
                           const std::string& tally, std::optional<ExplainedTokens> tokens) {
  const fs::path given = arguments.text("FILE");
  AuditorReport report{.name = name_of(given),
                       .config = {},
                       .records = read_model_records(given),
                       .replay = audit::replay(given / kAuditFile, decision_kinds()),
                       .explanations = explanations,
                       .tally = tally,
                       .passage = {},
                       .passage_of = {},
                       .policy = {}};
  if (tokens) {
    report.passage_of = tokens->decided.words.empty()
                            ? std::string()
                            : fmt::format("From {}", fs::path(arguments.text("--text")).filename().string());
  } else {
    ThreadPool pool(1);
    tokens.emplace(ExplainedTokens{open_model(given.string(), "explain"), {}, {}});
    tokens->loaded.model->prepare(tt::Use::inference, pool);
    tokens->scheduler = scheduler_for(arguments, tokens->loaded.model->config());
    tokens->decided = decide_text(tokens->loaded, tokens->scheduler.get(), std::string(kUsualPassage));
    report.passage_of = kUsualPassageSource;
  }
  report.config = tokens->loaded.model->config();
  report.passage = std::move(tokens->decided);
  if (tokens->scheduler) {
    const adapt::RankSignal signal = tokens->scheduler->options().policy.signal;
    report.policy = fmt::format("policy {}", adapt::info(signal).name);
    if (signal != adapt::RankSignal::fixed)
      report.policy +=
          fmt::format(", mean rank {:.2f} of the range",
                      static_cast<double>(tokens->scheduler->mean()) / static_cast<double>(adapt::kUnit));
  }
  return auditor_page(report);
}

void run_explain(const Arguments& arguments, const Streams& streams) {
  const std::string format = output_format(arguments);
  const fs::path given = arguments.text("FILE");
  const fs::path file = fs::is_directory(given) ? given / kAuditFile : given;
  if (arguments.given("--layer") && arguments.given("--map"))
    throw UsageError("--layer and --map contradict each other; give one");
  if (arguments.given("--token") && arguments.given("--map"))
    throw UsageError("--token and --map contradict each other; give one");
  explain::Wanted wanted{arguments.text("--map")};
  if (arguments.given("--layer")) wanted.layer = arguments.integer("--layer");
  const auto explainer = explain::make_explainer(arguments.text("--explainer"));
  const bool whole_model = fs::is_directory(given) && !arguments.given("--layer") &&
                           !arguments.given("--map") && !arguments.given("--token") &&
                           !arguments.given("--audit");
  if (arguments.flag("--measure")) {
    if (!fs::is_directory(given)) throw UsageError("--measure is for a model folder");
    measure_now(arguments, given);
  }
  const audit::Verification found = audit::verify(file);
  if (!found.problems.empty())
    throw_input_error("explain", "the file is not consistent ({}); run qtf audit verify",
                      found.problems[0].what);
  std::optional<ExplainedTokens> tokens = explained_tokens(arguments);
  const std::vector<explain::Explanation> explanations = explain::explain_all(
      wanted_subjects(arguments, file, wanted, tokens), *explainer, recorded_answers(file, *explainer));
  record_explanations(file, explanations, *explainer);
  explain::PageFacts page = page_of(given, found, explain::tally(explanations, *explainer));
  if (arguments.given("--token") && !tokens->decided.words.empty())
    page.note =
        fmt::format("Token {} is “{}”.", arguments.integer("--token"),
                    shown_token(tokens->decided.words[static_cast<size_t>(arguments.integer("--token"))]));
  const std::string text = format == "html" && whole_model
                               ? auditor_report(arguments, explanations, page.tally, std::move(tokens))
                               : explanation_text(explanations, page, format);
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
        "mechanism and the numbers: of the whole model or run, of a layer's maps, or of one token. The "
        "sentences are the program's own, or K2 Think's (--explainer k2: "
        "QTF_K2_URL, QTF_K2_MODEL and QTF_K2_API_KEY say where); numbers always come from the records, every "
        "sentence is checked, and one that fails is replaced by the program's own. Nothing of a text is "
        "sent.",
    .example = {.call = "qtf explain book-small --layer 1"},
    .options =
        {{.name = "FILE", .help = "a model folder with audit.sqlite, or an audit file", .required = true},
         {.name = "--layer",
          .type = ValueType::integer,
          .value = "L",
          .help = "the maps of this layer, from 0, instead of the whole model",
          .min = 0},
         {.name = "--map", .value = "NAME", .help = "the maps that have this in their names"},
         {.name = "--token",
          .type = ValueType::integer,
          .value = "T",
          .help = "why this token of --text or --audit took its levels and its route, from 0; with --layer, "
                  "there",
          .min = 0},
         {.name = "--text",
          .value = "FILE",
          .help =
              "a text, as far as the model's context reaches, whose tokens' decisions are computed again"},
         {.name = "--audit",
          .value = "FILE",
          .help = "the records of a run of this model, with every decision (--audit-level full)"},
         {.name = "--sequence",
          .type = ValueType::integer,
          .value = "S",
          .help = "of --audit: the sequence (window) of the token, from 0",
          .min = 0},
         rank_policy_option(),
         mean_rank_option(),
         alpha_option(),
         hysteresis_option(),
         rank_seed_option(),
         {.name = "--measure",
          .type = ValueType::flag,
          .help = "of a model folder: first time a query and its energy on this machine, and record it"},
         {.name = "--query",
          .value = "Q",
          .help = "of --measure: prompt=128,tokens=64, which is the default as far as the context goes"},
         {.name = "--watts",
          .value = "W",
          .help =
              "of --measure, where no counter is readable: of the program with all threads busy, as 15 or "
              "12..18"},
         threads_option(),
         {.name = "--explainer",
          .value = "NAME",
          .initial = "template",
          .help = "who writes the sentences",
          .choices = {"template", "k2"}},
         {.name = "--out",
          .value = "FILE",
          .help = "write here: .html (of a model folder: the auditor's report), .json or .md"},
         {.name = "--json", .type = ValueType::flag, .help = "print JSON"}},
    .run = run_explain,
};

}  // namespace qtf::cli
