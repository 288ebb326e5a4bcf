#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <optional>
#include <ostream>

#include "qtf/audit/canonical.h"
#include "qtf/audit/fields.h"
#include "qtf/audit/replay.h"
#include "qtf/audit/signature.h"
#include "qtf/audit/store.h"
#include "qtf/audit/verify.h"
#include "qtf/base/file.h"
#include "qtf/base/json.h"
#include "qtf/base/parse.h"
#include "qtf/cli/command.h"
#include "qtf/cli/decision_kinds.h"
#include "qtf/cli/making_records.h"
#include "qtf/cli/run_records.h"
#include "qtf/model/model_files.h"

namespace qtf::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using nlohmann::ordered_json;

constexpr int kInconsistent = 1;  // exit status

/// The audit file, or the one of a model folder.
fs::path audit_file(const Arguments& arguments) {
  const fs::path path = arguments.text("FILE");
  return fs::is_directory(path) ? path / kAuditFile : path;
}

/// "1 record", "2 records".
std::string counted_things(int64_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

std::string utc(int64_t ns) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::gmtime(static_cast<std::time_t>(ns / 1'000'000'000)));
}

/// Calls for each record of every segment. Throws InputError naming a row that is no record.
template <class Body>
void for_each_audit_record(const fs::path& file, const Body& body) {
  if (audit::present_segments(file).empty()) throw_input_error("audit", "{} does not exist", file.string());
  for (const int segment : audit::present_segments(file)) {
    audit::SegmentReader reader(audit::segment_path(file, segment));
    for (audit::StoredRecord row; reader.next(row);) {
      audit::RecordFields fields;
      try {
        fields = audit::parse_record(row.bytes);
      } catch (const InputError& error) {
        throw_input_error("audit", "record {} is none ({}); run qtf audit verify", row.sequence,
                          error.what());
      }
      body(row, fields);
    }
  }
}

// ---- show ----

/// Whether the options ask for the record.
bool is_shown(const Arguments& arguments, const audit::RecordFields& fields) {
  const std::string kind = arguments.text("--kind"), run = arguments.text("--run");
  return (kind.empty() || fields.kind == kind || fields.kind.starts_with(kind + ".")) &&
         (run.empty() || fields.run.starts_with(run)) && fields.sequence >= arguments.integer("--from");
}

void show_records(const Arguments& arguments, const Streams& streams) {
  const int64_t most = arguments.given("--records") ? arguments.integer("--records") : INT64_MAX;
  constexpr size_t kShown = 100;  // characters of a record's data
  int64_t shown = 0;
  for_each_audit_record(audit_file(arguments),
                        [&](const audit::StoredRecord& row, const audit::RecordFields& f) {
                          if (shown == most || !is_shown(arguments, f)) return;
                          ++shown;
                          if (arguments.flag("--json")) {
                            streams.out << row.bytes << "\n";
                            return;
                          }
                          std::string data(f.data.substr(0, kShown));
                          if (data.size() < f.data.size()) data += "…";
                          streams.out << fmt::format("{:>6} {} {} {:<20} {}\n", f.sequence, utc(f.time_ns),
                                                     f.run.substr(0, 8), f.kind, data);
                        });
}

// ---- verify ----

Digest given_root(const Arguments& arguments) {
  Digest root;
  const std::string text = arguments.text("--root");
  if (!from_hex(text, root)) throw_input_error("--root", "expected 64 hexadecimal digits, got '{}'", text);
  return root;
}

fs::path signed_anchor(const Arguments& arguments, const char* option) {
  return arguments.given(option) ? fs::path(arguments.text(option))
                                 : fs::path(audit_file(arguments).string() + ".anchor");
}

/// What the file is held against, and what that is called.
struct GivenAnchor {
  audit::Anchor anchor;
  std::string name;  // empty: none
};

GivenAnchor read_anchor(const Arguments& arguments) {
  GivenAnchor given;
  if (arguments.given("--public-key")) {
    if (arguments.given("--root") || arguments.given("--count"))
      throw UsageError("--public-key contradicts --root and --count: the signed anchor has its own");
    const fs::path file = signed_anchor(arguments, "--anchor");
    const Json envelope = Json::parse(read_file(file), nullptr, false);
    const Json anchor = Json::parse(
        audit::open_envelope(envelope, audit::kAnchorType, arguments.text("--public-key")), nullptr, false);
    given.anchor.count = audit::integer_field(anchor, "count");
    given.anchor.root.emplace();
    if (!from_hex(audit::text_field(anchor, "root"), *given.anchor.root))
      throw_input_error("audit", "{} holds no root", file.string());
    given.name = fmt::format("signed, {}", file.string());
    return given;
  }
  if (arguments.given("--anchor")) throw UsageError("--anchor needs --public-key; add it");
  if (arguments.given("--root")) given.anchor.root = given_root(arguments), given.name = "--root";
  if (arguments.given("--count")) {
    given.anchor.count = arguments.integer("--count");
    given.name += given.name.empty() ? "--count" : " and --count";
  }
  return given;
}

std::string audit_verdict(const audit::Verification& found) {
  if (!found.problems.empty())
    return fmt::format("NOT CONSISTENT: {}",
                       counted_things(static_cast<int64_t>(found.problems.size()), "problem"));
  if (found.count == 0 && !found.anchored) return "there are no records";
  return found.anchored ? "consistent, anchored" : "consistent, not anchored";
}

/// "; 412 k a second" since `begin`; nothing of so few that opening the file takes the time.
std::string speed_text(int64_t things, std::chrono::steady_clock::time_point begin) {
  constexpr int64_t kFewest = 1000;
  if (things < kFewest) return {};
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double rate = static_cast<double>(things) / std::max(1e-6, seconds);
  return fmt::format("; {} a second", format_count(static_cast<int64_t>(rate)));
}

ordered_json verification_json(const audit::Verification& found) {
  ordered_json problems = ordered_json::array();
  for (const audit::VerifyProblem& p : found.problems)
    problems.push_back({{"record", p.sequence}, {"segment", p.segment}, {"what", p.what}});
  return {{"result", audit_verdict(found)},
          {"records", found.count},
          {"segments", found.segments},
          {"runs", found.runs.size()},
          {"root", to_hex(found.root)},
          {"anchored", found.anchored},
          {"problems", problems}};
}

void verify_records(const Arguments& arguments, const Streams& streams) {
  const GivenAnchor given = read_anchor(arguments);
  const auto begin = std::chrono::steady_clock::now();
  const audit::Verification found = audit::verify(audit_file(arguments), given.anchor);
  if (arguments.flag("--json")) {
    streams.out << verification_json(found).dump() << "\n";
  } else {
    streams.out << fmt::format("records          {} of {} in {}{}\n", found.count,
                               counted_things(static_cast<int64_t>(found.runs.size()), "run"),
                               counted_things(found.segments, "segment"), speed_text(found.count, begin));
    streams.out << fmt::format("root             {}\n", to_hex(found.root));
    streams.out << fmt::format(
        "anchor           {}\n",
        given.name.empty() ? "none given: a cut end or a whole rewrite would not be seen" : given.name);
    for (const audit::VerifyProblem& p : found.problems)
      streams.out << fmt::format("problem          {}: {}\n", p.segment, p.what);
    streams.out << fmt::format("result           {}\n", audit_verdict(found));
  }
  if (!found.problems.empty()) throw ExitStatus(kInconsistent);
}

/// For what should only be done with a file that holds together.
audit::Verification verified_file(const Arguments& arguments) {
  audit::Verification found = audit::verify(audit_file(arguments));
  if (!found.problems.empty())
    throw_input_error("audit", "the file is not consistent ({}); run qtf audit verify",
                      found.problems[0].what);
  return found;
}

// ---- replay ----

/// From the model and the text.
void replay_whole_run(const Arguments& arguments, const Streams& streams) {
  if (!arguments.given("--model") || !arguments.given("--text"))
    throw UsageError("--model MODEL and --text FILE belong together; give both");
  int64_t records = 0;
  const std::vector<std::string> differences =
      replay_run(audit_file(arguments), arguments.text("--model"), arguments.text("--text"), records);
  if (arguments.flag("--json")) {
    streams.out << ordered_json({{"records", records}, {"differences", differences}}).dump() << "\n";
  } else {
    streams.out << fmt::format("{} of tokens run again, {}\n", counted_things(records, "record"),
                               differences.empty()
                                   ? "to the same decisions"
                                   : counted_things(static_cast<int64_t>(differences.size()), "difference"));
    for (const std::string& difference : differences) streams.out << difference << "\n";
  }
  if (!differences.empty()) throw ExitStatus(kInconsistent);
}

void replay_records(const Arguments& arguments, const Streams& streams) {
  verified_file(arguments);
  if (arguments.given("--model") || arguments.given("--text")) return replay_whole_run(arguments, streams);
  const auto begin = std::chrono::steady_clock::now();
  const audit::Replay result = audit::replay(audit_file(arguments), decision_kinds());
  if (arguments.flag("--json")) {
    ordered_json differences = ordered_json::array();
    for (const auto& d : result.differences)
      differences.push_back({{"record", d.sequence}, {"what", d.what}});
    streams.out << ordered_json({{"decisions", result.decisions},
                                 {"same", result.same},
                                 {"unknown", result.unknown},
                                 {"differences", differences}})
                       .dump()
                << "\n";
  } else {
    streams.out << fmt::format("{} taken again, {} to the same bits{}\n",
                               counted_things(result.decisions, "decision"), result.same,
                               speed_text(result.decisions, begin));
    if (result.unknown > 0)
      streams.out << fmt::format("{} of kinds that this qtf does not know\n",
                                 counted_things(result.unknown, "decision"));
    for (const auto& d : result.differences)
      streams.out << fmt::format("record {}: {}\n", d.sequence, d.what);
  }
  if (result.same != result.decisions) throw ExitStatus(kInconsistent);
}

// ---- root and sign ----

void print_root(const Arguments& arguments, const Streams& streams) {
  const audit::Verification found = verified_file(arguments);
  if (arguments.flag("--json"))
    streams.out << ordered_json({{"count", found.count}, {"root", to_hex(found.root)}}).dump() << "\n";
  else
    streams.out << fmt::format("--count {} --root {}\n", found.count, to_hex(found.root));
}

Json anchor_json(const audit::Verification& found) {
  return {{"count", std::to_string(found.count)}, {"last", to_hex(found.last)}, {"root", to_hex(found.root)}};
}

void sign_records(const Arguments& arguments, const Streams& streams) {
  if (!arguments.given("--key"))
    throw UsageError("sign needs --key FILE: an Ed25519 private key in PEM form");
  const audit::Verification found = verified_file(arguments);
  const fs::path out = signed_anchor(arguments, "--out");
  const Json envelope =
      audit::sign_envelope(audit::kAnchorType, audit::canonical(anchor_json(found)), arguments.text("--key"));
  write_file_atomically(out, envelope.dump() + "\n");
  streams.out << fmt::format("{} signed; the anchor is in {}: keep it elsewhere\n",
                             counted_things(found.count, "record"), out.string());
}

// ---- export ----

std::string records_as_lines(const fs::path& file) {
  std::string lines;
  for_each_audit_record(file, [&](const audit::StoredRecord& row, const audit::RecordFields&) {
    const std::string hash = to_hex({reinterpret_cast<const uint8_t*>(row.hash.data()), row.hash.size()});
    lines += fmt::format(R"({{"hash":"{}",)", hash);
    if (row.has_payload) lines += fmt::format(R"("payload":"{}",)", audit::to_base64(row.payload));
    lines += fmt::format("\"record\":{}}}\n", row.bytes);
  });
  return lines;
}

/// What the records say about how the model was made, as an in-toto statement over its files.
std::string in_toto_statement(const Arguments& arguments, const audit::Verification& found) {
  const fs::path given = arguments.text("FILE");
  if (!arguments.given("--model") && !fs::is_directory(given))
    throw UsageError("an in-toto statement is about a model's files: add --model MODEL");
  const auto files =
      model::model_files(arguments.given("--model") ? fs::path(arguments.text("--model")) : given);
  ordered_json subject = ordered_json::array();
  for (const model::ModelFile& file : files)
    subject.push_back({{"name", file.name}, {"digest", {{"sha256", file.sha256}}}});
  std::map<std::string, int64_t> kinds;
  for_each_audit_record(audit_file(arguments),
                        [&](const audit::StoredRecord&, const audit::RecordFields& fields) {
                          ++kinds[std::string(fields.kind)];
                        });
  ordered_json runs = ordered_json::array();
  for (const auto& [name, run] : found.runs)
    runs.push_back(
        {{"run", name}, {"records", run.records}, {"first", utc(run.first_ns)}, {"last", utc(run.last_ns)}});
  ordered_json predicate = anchor_json(found);
  predicate["model_hash"] = model::hash_of(files);
  predicate["records"] = kinds;
  predicate["runs"] = runs;
  return ordered_json({{"_type", "https://in-toto.io/Statement/v1"},
                       {"subject", subject},
                       {"predicateType", "urn:qtf:audit:records:v1"},
                       {"predicate", predicate}})
      .dump();
}

void export_records(const Arguments& arguments, const Streams& streams) {
  const audit::Verification found = verified_file(arguments);
  const bool lines = arguments.text("--format") == "jsonl";
  if (lines && (arguments.given("--key") || arguments.given("--model")))
    throw UsageError("--key and --model are of --format in-toto; add it, or leave them out");
  std::string text =
      lines ? records_as_lines(audit_file(arguments)) : in_toto_statement(arguments, found) + "\n";
  if (arguments.given("--key")) {
    text.pop_back();
    text = audit::sign_envelope(audit::kStatementType, text, arguments.text("--key")).dump() + "\n";
  }
  if (arguments.given("--out"))
    write_file_atomically(arguments.text("--out"), text);
  else
    streams.out << text;
}

// ---- the command ----

struct AuditAction {
  std::string_view name;
  void (*run)(const Arguments&, const Streams&);
  std::vector<std::string_view> options;  ///< that it takes
};

const std::vector<AuditAction>& audit_actions() {
  static const std::vector<AuditAction> table{
      {"show", show_records, {"--kind", "--run", "--from", "--records", "--json"}},
      {"verify", verify_records, {"--count", "--root", "--public-key", "--anchor", "--json"}},
      {"replay", replay_records, {"--model", "--text", "--json"}},
      {"root", print_root, {"--json"}},
      {"sign", sign_records, {"--key", "--out"}},
      {"export", export_records, {"--format", "--model", "--key", "--out"}}};
  return table;
}

const std::vector<Option>& audit_options();

void run_audit(const Arguments& arguments, const Streams& streams) {
  const std::string name = arguments.text("ACTION");
  const auto action = std::ranges::find(audit_actions(), name, &AuditAction::name);
  for (const Option& option : audit_options()) {
    const bool taken = option.positional() || std::ranges::count(action->options, option.name) > 0;
    if (!taken && arguments.given(option.name))
      throw UsageError(fmt::format("audit {} does not take {}; leave it out", name, option.name));
  }
  action->run(arguments, streams);
}

const std::vector<Option>& audit_options() {
  static const std::vector<Option> table{
      {.name = "ACTION",
       .help = "what to do",
       .required = true,
       .choices = {"show", "verify", "replay", "root", "sign", "export"}},
      {.name = "FILE", .help = "an audit file, or a model folder that has one", .required = true},
      {.name = "--kind", .value = "KIND", .help = "show: only such records, as decision or decision.ranks"},
      {.name = "--run", .value = "RUN", .help = "show: only of the run that begins so"},
      {.name = "--from",
       .type = ValueType::integer,
       .value = "N",
       .initial = "1",
       .help = "show: from this record on",
       .min = 1},
      {.name = "--records",
       .type = ValueType::integer,
       .value = "N",
       .help = "show: at most so many",
       .min = 1},
      {.name = "--count",
       .type = ValueType::integer,
       .value = "N",
       .help = "verify: records that were there when the root was noted",
       .min = 0},
      {.name = "--root", .value = "HEX", .help = "verify: the root that was noted"},
      {.name = "--public-key",
       .value = "FILE",
       .help = "verify: against an anchor signed by its owner (PEM)"},
      {.name = "--anchor", .value = "FILE", .help = "verify: the signed anchor; else FILE.anchor"},
      {.name = "--key",
       .value = "FILE",
       .help = "sign, export: an Ed25519 private key in PEM form, as openssl genpkey -algorithm ed25519 "
               "writes it"},
      {.name = "--format",
       .value = "NAME",
       .initial = "jsonl",
       .help = "export: JSON lines, or an in-toto statement over a model's files, with --key in a signed "
               "envelope",
       .choices = {"jsonl", "in-toto"}},
      {.name = "--model",
       .value = "MODEL",
       .help = "export: whose files the statement is about, if not FILE's; replay: of the run"},
      {.name = "--text",
       .value = "FILE",
       .help = "replay: with --model, run the evaluation (or, the prompt in FILE, the generation) again and "
               "compare all its decisions"},
      {.name = "--out", .value = "FILE", .help = "sign, export: write here"},
      {.name = "--json", .type = ValueType::flag, .help = "show, verify, replay, root: print JSON"}};
  return table;
}

}  // namespace

extern const Command kAuditCommand;
const Command kAuditCommand{
    .name = "audit",
    .summary = "Show, verify, replay, sign and export recorded decisions",
    .details =
        "show: a line a record. verify: whether any record was changed, removed, inserted or moved; that the "
        "end "
        "was not cut and the whole not rewritten needs an anchor: --count and --root as `root` printed them, "
        "or "
        "--public-key with what `sign` wrote. replay: takes every decision again from its record and "
        "compares; "
        "exit status 1 if verify or replay finds something. export: for other programs. docs/audit.md has "
        "the "
        "formats.",
    .example = {.call = "qtf audit verify book-small"},
    .options = audit_options(),
    .run = run_audit,
};

}  // namespace qtf::cli
